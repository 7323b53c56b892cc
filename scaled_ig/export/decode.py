"""Pictures of planes, with torch alone: plain and slow, to be read and to be copied. See render at the end.

The world has +Z up and the front at -Y; the object is in the ball of radius 0.5. Letters: K texels along a plane, F
features, C channels (3 for RGB), R rays, S samples of each, G cells along a side of a hull.
"""

import math

import torch
from torch.nn import functional as F


def orbit_rays(azimuth, elevation, resolution, distance=1.3, focal=525 / 512):
    """Origins and directions [R, 3] of a square picture; angles in radians, azimuth -π/2 looks at the front."""
    towards = torch.tensor(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    right = torch.tensor([-math.sin(azimuth), math.cos(azimuth), 0.0])
    down = torch.linalg.cross(-towards, right)
    place = ((torch.arange(resolution) + 0.5) / resolution - 0.5) / focal
    y, x = torch.meshgrid(place, place, indexing="ij")
    directions = x.flatten()[:, None] * right + y.flatten()[:, None] * down - towards
    return distance * towards.expand(len(directions), 3), F.normalize(directions, dim=-1)


def field(planes, head, about, points, hull=None):
    """Densities [P] and values [P, C] in [0, 1] of points [P, 3]."""
    features = torch.zeros(len(points), planes.shape[1], device=planes.device)
    for plane, (column, row) in zip(planes, about["plane_axes"].split("-"), strict=True):
        grid = points[None, None, :, ["xyz".index(column), "xyz".index(row)]] / about["extent"]
        features = features + F.grid_sample(plane[None], grid, align_corners=False)[0, :, 0].T
    hidden = F.softplus(F.linear(features, head["hidden.weight"], head["hidden.bias"]))
    out = F.linear(hidden, head["out.weight"], head["out.bias"])
    raw, values = out[:, 0], out[:, 1:].sigmoid() * 1.002 - 0.001
    if hull is not None:  # bit i of a byte is cell 8 · byte + i along z
        size = len(hull)
        cell = ((points + 0.5) * size).floor()
        x, y, z = cell.clamp(0, size - 1).long().unbind(-1)
        is_held = ((cell >= 0) & (cell < size)).all(-1) & (hull[x, y, z // 8] >> (z % 8) & 1).bool()
        raw = torch.where(is_held, raw, -10.0)
    return raw, values


@torch.no_grad()
def render(planes, head, about, origins, directions, hull=None, samples=128):
    """What rays see: values [R, C] in [0, 1], and opacity [R].

    Args:
        planes: [3, F, K, K] of one scene.
        head: ``hidden.weight`` [H, F], ``hidden.bias`` [H], ``out.weight`` [1 + C, H], ``out.bias`` [1 + C].
        about: ``extent``, ``plane_axes``, ``radius``, ``near``, ``far`` and ``background``.
        origins, directions: [R, 3], directions of length 1.
        hull: [G, G, G / 8] uint8, where the scene has one.
        samples: S of each ray.
    """
    origins, directions = origins.to(planes), directions.to(planes)
    middle = -(origins * directions).sum(-1)
    if about["radius"] is None:
        from_centre = origins.norm(dim=-1)
        near = (from_centre - 0.5).clamp(min=0) if about["near"] is None else torch.full_like(middle, about["near"])
        far = from_centre + 0.5 if about["far"] is None else torch.full_like(middle, about["far"])
    else:  # only what is in the ball
        half = (about["radius"] ** 2 - origins.square().sum(-1) + middle.square()).clamp(min=0).sqrt()
        near, far = (middle - half).clamp(min=0), middle + half
    fraction = (torch.arange(samples, device=planes.device) + 0.5) / samples
    t = near[:, None] + (far - near)[:, None] * fraction
    points = origins[:, None] + t[..., None] * directions[:, None]
    raw, values = field(planes, head, about, points.reshape(-1, 3), hull)
    raw, values = raw.reshape(t.shape), values.reshape(*t.shape, -1)
    # An interval has the mean of what is at its ends.
    steps = F.softplus((raw[:, 1:] + raw[:, :-1]) / 2 - 1) * (t[:, 1:] - t[:, :-1])
    before = F.pad(steps.cumsum(-1)[:, :-1], (1, 0))
    weights = -torch.expm1(-steps) * torch.exp(-before)
    opacity = weights.sum(-1)
    background = torch.tensor(about["background"], device=planes.device)
    pixels = torch.einsum("rs,rsc->rc", weights, (values[:, 1:] + values[:, :-1]) / 2)
    return (pixels + (1 - opacity)[:, None] * background).clamp(0, 1), opacity
