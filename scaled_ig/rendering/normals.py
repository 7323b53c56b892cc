"""Which way surfaces look, from a picture of where they are.

Letters: B views, H rows and W columns of pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def normals_of(points: Tensor, directions: Tensor, is_seen: Tensor) -> Tensor:
    """Unit vectors [B, 3, H, W] out of surfaces, towards who looks; 0 where nothing is seen.

    Densities of a learned scene have gradients that jump from texel to texel, and hardly any within dark or glassy
    parts; the depths that they lead to are smooth. So these are cross products of the steps from pixel to pixel.

    Args:
        points: [B, 3, H, W] where pixels see the surface, world units.
        directions: [B, 3, H, W] of their rays.
        is_seen: [B, 1, H, W] bool, whether they see one.
    """
    across, down = (_tangent(points, is_seen, axis) for axis in (3, 2))
    normals = torch.linalg.cross(down, across, dim=1)
    alone = normals.square().sum(1, keepdim=True) == 0  # a pixel without neighbours
    normals = F.normalize(torch.where(alone, -directions, normals), dim=1)
    away = (normals * directions).sum(1, keepdim=True) > 0
    return torch.where(away, -normals, normals) * is_seen


def _tangent(points: Tensor, is_seen: Tensor, axis: int) -> Tensor:
    """Step [B, 3, H, W] to the next pixel along an axis: the mean of those from and to either neighbour.

    The longer of two steps counts less, by the fourth power: it may lead from one surface to another.
    """
    steps, both = points.diff(dim=axis), is_seen.narrow(axis, 1, points.shape[axis] - 1)
    both = both & is_seen.narrow(axis, 0, points.shape[axis] - 1)
    weights = both / steps.square().sum(1, keepdim=True).square().clamp(min=1e-30)
    before, after = ((0, 0, 1, 0), (0, 0, 0, 1)) if axis == 2 else ((1, 0), (0, 1))
    weighted = [F.pad(weights * steps, side) for side in (before, after)]
    totals = [F.pad(weights, side) for side in (before, after)]
    return (weighted[0] + weighted[1]) / (totals[0] + totals[1]).clamp(min=1e-30)
