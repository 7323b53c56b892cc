"""The plain version that every faster kernel is compared with.

Letters: N rays, P samples of each, S scenes, K texels along a plane, F features, C values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scaled_ig.cameras import Rays
from scaled_ig.rendering.compositing import EMPTY, Composite, composite, interval_weights
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.sampling import importance, smooth_weights
from scaled_ig.representations.occupancy import Hulls
from scaled_ig.representations.planes import PlaneAxes, sample_planes


@dataclass(frozen=True)
class PlaneRays:
    """Rays, the feature planes that they go through, the head that reads them, and what lies behind.

    Args:
        planes: [S, 3, K, K, F], channels last, over the cube [-1, 1]³.
        slot: [N] long, ascending: which planes each ray reads.
        rays: N rays in the planes' coordinates, so that directions need not be of unit length.
        head: The tiny MLP.
        background: [C] in [0, 1].
        axes: For each plane the coordinates along its columns and rows.
        hulls: Where the scenes may hold something; samples elsewhere are not read: raw density ``EMPTY``, value 0.
        extent: Half the side of the planes' cube, world units, in which hulls are.
    """

    planes: Tensor
    slot: Tensor
    rays: Rays
    head: FieldHead
    background: Tensor
    axes: PlaneAxes
    hulls: Hulls | None = None
    extent: float = 1.0


@dataclass(frozen=True)
class Target:
    """What N rays should see, and what it costs where they do not.

    Args:
        pixels: [N, C] in [0, 1].
        scale: Factor on the error: known beforehand, it costs no pass over the gradients.
        opacity: [N] in [0, 1], negative for rays of which nothing is known; or None.
        opacity_weight: Of its squared error, beside that of one channel of the pixels.
    """

    pixels: Tensor
    scale: float = 1.0
    opacity: Tensor | None = None
    opacity_weight: float = 0.0

    def __getitem__(self, rays: Any) -> Target:
        """Of some of the rays."""
        opacity = None if self.opacity is None else self.opacity[rays]
        return replace(self, pixels=self.pixels[rays], opacity=opacity)

    def error(self, composite: Composite) -> Tensor:
        """Scale · (Σ (pixel − target)² + weight · Σ (opacity − target)²)."""
        error = (composite.pixels - self.pixels.detach()).square().sum()
        if self.opacity is not None:
            off = torch.where(self.opacity < 0, 0, composite.accumulation - self.opacity.detach())
            error = error + self.opacity_weight * off.square().sum()
        return self.scale * error


def sample_scenes(planes: Tensor, slot: Tensor, positions: Tensor, axes: PlaneAxes) -> Tensor:
    """Features [N, P, F] at positions [N, P, 3] of rays that read ``planes[slot]``; slot [N] ascending."""
    rays_per_scene = torch.bincount(slot, minlength=len(planes)).tolist()
    parts = [
        sample_planes(scene_planes[None], points.reshape(1, -1, 3), axes).reshape(*points.shape[:2], planes.shape[-1])
        for scene_planes, points in zip(planes, positions.split(rays_per_scene), strict=True)
    ]
    return torch.cat(parts)


def serves(planes: Tensor, head: FieldHead) -> bool:
    """Whether planes and head are of one type."""
    return planes.dtype == head.hidden.weight.dtype


@torch.no_grad()
def densities(plane_rays: PlaneRays, t: Tensor) -> Tensor:
    """Raw densities [N, P] at ascending depths ``t`` [N, P] along rays. Without a gradient."""
    return _read(plane_rays, t)[0]


def resample(t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
    """Depths of both passes, ascending: those of the first, and others by importance.

    Args:
        t: [N, P] ascending depths of the first pass.
        raw_densities: [N, P] there.
        num_samples: S, how many more.
        u: [N, S] where they lie within equal slices of the CDF, in [0, 1); in the middle where it is None.

    Returns:
        [N, P + S].
    """
    weights = smooth_weights(interval_weights(raw_densities, t))
    return torch.cat([t, importance(t, weights, num_samples, u)], 1).sort(1).values


def march(plane_rays: PlaneRays, t: Tensor) -> Composite:
    """Render rays, sampled at ascending depths ``t`` [N, P]: gather, head, composite."""
    return composite(*_read(plane_rays, t), t, plane_rays.background)


def _read(plane_rays: PlaneRays, t: Tensor) -> tuple[Tensor, Tensor]:
    """Raw densities [N, P] and values [N, P, C]."""
    positions = plane_rays.rays.at(t)
    raw, values = plane_rays.head(sample_scenes(plane_rays.planes, plane_rays.slot, positions, plane_rays.axes))
    if plane_rays.hulls is None:
        return raw, values
    in_hull = plane_rays.hulls.hold(plane_rays.slot, positions * plane_rays.extent)
    return torch.where(in_hull, raw, EMPTY), torch.where(in_hull[..., None], values, 0)


def squared_error(plane_rays: PlaneRays, t: Tensor, target: Target) -> Tensor:
    """Error of what :func:`march` gives, a scalar: loss and gradients can be had in one sweep.

    No gradient flows to the target and to the background.

    Args:
        plane_rays: The rays and what they go through.
        t: [N, P] ascending depths.
        target: What they should see.
    """
    return target.error(composite(*_read(plane_rays, t), t, plane_rays.background.detach()))
