"""The plain version that every faster kernel is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from scaled_ig.representations.planes import PlaneAxes, sample_planes


def sample_scene_planes(planes: Tensor, scene: Tensor, positions: Tensor, axes: PlaneAxes) -> Tensor:
    """Features at points of several scenes.

    Args:
        planes: [S, 3, K, K, F], channels last.
        scene: [N] long, ascending: which planes each ray reads.
        positions: [N, P, 3]; planes cover [-1, 1]³.
        axes: For each plane the coordinates along its columns and rows.

    Returns:
        [N, P, F].
    """
    rays_per_scene = torch.bincount(scene, minlength=len(planes)).tolist()
    parts = [
        sample_planes(own[None], points.reshape(1, -1, 3), axes).reshape(*points.shape[:2], -1)
        for own, points in zip(planes, positions.split(rays_per_scene), strict=True)
    ]
    return torch.cat(parts)
