"""Which way surfaces look: against the gradient of the density.

Letters: P points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.rendering.renderer import Renderer
from scaled_ig.representations import PlaneRepresentation, SceneRepresentation
from scaled_ig.representations.occupancy import HULL_RADIUS

POINTS_AT_ONCE = 2**16
FINEST = 128  # steps along the side of a scene, where it has no texels


def normals_of(renderer: Renderer, representation: SceneRepresentation, points: Tensor) -> Tensor:
    """Unit vectors [P, 3] out of the surface at points [P, 3] of a representation's first scene, world axes.

    Differences over a texel either side: features are linear between texels, so that their gradient jumps at each.
    """
    step = 2 * HULL_RADIUS / FINEST
    if isinstance(representation, PlaneRepresentation):
        step = 2 * representation.extent / representation.plane_resolution
    offsets = step * torch.eye(3, device=points.device)
    scene, parts = torch.zeros(1, dtype=torch.long, device=points.device), []
    for part in points.split(POINTS_AT_ONCE):
        around = torch.stack([part[:, None] + offsets, part[:, None] - offsets])  # [2, P, 3, 3]
        raw = renderer.raw_densities(representation, scene, around.reshape(1, -1, 3))
        ahead, behind = raw.reshape(2, -1, 3)
        parts.append(F.normalize(behind - ahead, dim=-1))
    return torch.cat(parts) if parts else torch.zeros_like(points)
