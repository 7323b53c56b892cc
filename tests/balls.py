"""A ball that a scene model holds in closed form: its radius, depths and normals are known."""

import torch
from torch.nn import functional as F

from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.cameras import Cameras
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import TriPlanes
from scaled_ig.scene_model import SceneModel

RADIUS, COLOUR = 0.3, (0.8, 0.3, 0.1)


@torch.no_grad()
def ball_model(resolution: int | tuple[int, int] = 32, hardness: float = 3e4, texels: int = 32) -> SceneModel:
    """One scene: raw density hardness · (radius² − |x|²), of one colour; a sum over planes of the squares of places."""
    planes = TriPlanes(1, texels, extent=0.5)
    model = SceneModel(planes, IdentityAutoencoder(), InsideBall(256), hidden_channels=16, resolution=resolution)
    planes.new_scenes(1)
    place = (torch.arange(texels) + 0.5) / texels - 0.5
    squares = (place[:, None] ** 2 + place**2) / 2  # on each of three planes: every coordinate is on two of them
    planes.micro.weight.copy_(squares[None, None, ..., None].expand(1, 3, texels, texels, 1))
    head = model.renderer.head
    for parameter in head.parameters():
        parameter.zero_()
    head.hidden.weight[:2, 0] = torch.tensor([1.0, -1.0])  # softplus(f) − softplus(−f) = f
    head.out.weight[0, :2] = torch.tensor([-hardness, hardness])
    head.out.bias[0] = hardness * RADIUS**2
    head.out.bias[1:] = torch.logit((torch.tensor(COLOUR) + 0.001) / 1.002)
    return model.requires_grad_(False)


def first_hits(cameras: Cameras, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where rays enter the ball: depth [B, 1, H, W], normals [B, 3, H, W], distance of each ray from the centre."""
    rays = cameras.rays(size)
    near, _ = rays.ball_limits(RADIUS)
    middle = -(rays.origins * rays.directions).sum(-1, keepdim=True)
    distance = (rays.origins + middle * rays.directions).norm(dim=-1)
    normals = F.normalize(rays.origins + near[..., None] * rays.directions, dim=-1)
    return near.unflatten(1, size)[:, None], normals.mT.unflatten(2, size), distance.unflatten(1, size)[:, None]
