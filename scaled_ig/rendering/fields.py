"""What rays meet: feature planes, which a kernel reads, or any representation, point by point.

Letters: R rays, S samples of each, C values of a sample; N items in G groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from scaled_ig.cameras import Rays
from scaled_ig.rendering.compositing import EMPTY, Composite, composite
from scaled_ig.rendering.field_head import FieldHead, SceneHeads
from scaled_ig.rendering.kernels import Kernel, reference
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.representations import SceneRepresentation
from scaled_ig.representations.occupancy import Hulls

POINTS_AT_ONCE = {"cpu": 2**16, "cuda": 2**20}
"""Points that are read together where no gradient is wanted: so few stay in a cache, a batch of images is gigabytes."""


class Field(Protocol):
    """What some rays meet, at depths [R, S] along them."""

    def densities(self, t: Tensor) -> Tensor:
        """Raw densities [R, S], without a gradient."""

    def resample(self, t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
        """``t`` and as many depths more by importance, ascending."""

    def march(self, t: Tensor) -> Composite:
        """What the rays see."""

    def squared_error(self, t: Tensor, target: Target) -> Tensor:
        """Error of what the rays see; no gradient flows to the target and to the background."""


@dataclass(frozen=True)
class Planes:
    """Planes, read by a kernel."""

    kernel: Kernel
    plane_rays: PlaneRays

    def densities(self, t: Tensor) -> Tensor:
        return self.kernel.densities(self.plane_rays, t)

    def resample(self, t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
        return self.kernel.resample(t, raw_densities, num_samples, u)

    def march(self, t: Tensor) -> Composite:
        return self.kernel.march(self.plane_rays, t)

    def squared_error(self, t: Tensor, target: Target) -> Tensor:
        return self.kernel.squared_error(self.plane_rays, t, target)

    def split(self, heads: SceneHeads) -> PlanesByScene:
        """The same planes, each read by the head of its scene."""
        planes, slot, rays = self.plane_rays.planes, self.plane_rays.slot, self.plane_rays.rays
        num_rays = torch.bincount(slot, minlength=len(planes)).tolist()
        rays_by_scene = map(Rays, rays.origins.split(num_rays), rays.directions.split(num_rays))
        slots = (slot.new_zeros(count) for count in num_rays)
        hulls = self.plane_rays.hulls
        hulls_by_scene = [None] * len(planes) if hulls is None else map(Hulls, hulls.bits.split(1))
        parts = zip(planes.split(1), slots, rays_by_scene, heads.split(), hulls_by_scene, strict=True)
        by_scene = (
            replace(self.plane_rays, planes=scene_planes, slot=slot, rays=rays, head=head, hulls=hulls)
            for scene_planes, slot, rays, head, hulls in parts
        )
        return PlanesByScene([Planes(self.kernel, plane_rays) for plane_rays in by_scene])


@dataclass(frozen=True)
class PlanesByScene:
    """Planes of scenes with heads of their own, one after the other, for a kernel knows one head."""

    scenes: list[Planes]

    def _with_parts(self, *tensors: Tensor) -> Iterator[tuple[Planes, tuple[Tensor, ...]]]:
        """Every scene, with its part of what rays have."""
        num_rays = [len(scene.plane_rays.slot) for scene in self.scenes]
        return zip(self.scenes, zip(*(tensor.split(num_rays) for tensor in tensors), strict=True), strict=True)

    def densities(self, t: Tensor) -> Tensor:
        return torch.cat([scene.densities(*part) for scene, part in self._with_parts(t)])

    def resample(self, t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
        return self.scenes[0].resample(t, raw_densities, num_samples, u)

    def march(self, t: Tensor) -> Composite:
        return Composite.join(scene.march(*part) for scene, part in self._with_parts(t))

    def squared_error(self, t: Tensor, target: Target) -> Tensor:
        rays = torch.arange(len(t), device=t.device)
        parts = [scene.squared_error(depths, target[part]) for scene, (depths, part) in self._with_parts(t, rays)]
        return torch.stack(parts).sum()


class _Groups:
    """Items in the order of their groups, padded so that each group has as many.

    Args:
        group: [N] long, ascending.
        num_groups: G.
    """

    def __init__(self, group: Tensor, num_groups: int) -> None:
        sizes = torch.bincount(group, minlength=num_groups)
        self.shape = num_groups, max(1, int(sizes.max()))
        shift = torch.arange(num_groups, device=group.device) * self.shape[1] - (sizes.cumsum(0) - sizes)
        self.places = torch.arange(len(group), device=group.device) + shift[group]

    def pad(self, items: Tensor) -> Tensor:
        """[G, L, ...] of items [N, ...], zeros after those of a group."""
        room = items.new_zeros(self.shape[0] * self.shape[1], *items.shape[1:])
        return room.index_copy(0, self.places, items).unflatten(0, self.shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """Items [N, ...] of what :meth:`pad` returned."""
        return padded.flatten(0, 1).index_select(0, self.places)


@dataclass(frozen=True)
class Points:
    """Any representation, read point by point; slot, the place in ``scenes`` of each ray's, is ascending."""

    representation: SceneRepresentation
    scenes: Tensor
    slot: Tensor
    rays: Rays
    head: FieldHead | SceneHeads
    background: Tensor
    hulls: Hulls | None = None

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Raw densities [R, S] and values [R, S, C]; of points that may hold something alone where that is known."""
        positions, by_scene = self.rays.at(t), _Groups(self.slot, len(self.scenes))
        points = by_scene.pad(positions)
        occupied = self.representation.occupied(self.scenes, points.flatten(1, 2))
        is_read = None if occupied is None else by_scene.unpad(occupied.unflatten(1, points.shape[1:3]))
        if self.hulls is not None:
            in_hull = self.hulls.hold(self.slot, positions)
            is_read = in_hull if is_read is None else is_read & in_hull
        if is_read is None:
            raw, values = self.head(self.representation(self.scenes, points.flatten(1, 2)))
            size = points.shape[1:3]
            return by_scene.unpad(raw.unflatten(1, size)), by_scene.unpad(values.unflatten(1, size))
        by_scene = _Groups(self.slot[:, None].expand_as(is_read)[is_read], len(self.scenes))
        raw, values = self.head(self.representation(self.scenes, by_scene.pad(positions[is_read])))
        densities, colours = t.new_full(t.shape, EMPTY), values.new_zeros(*t.shape, values.shape[-1])
        densities = densities.index_put((is_read,), by_scene.unpad(raw))
        return densities, colours.index_put((is_read,), by_scene.unpad(values))

    def _blocks(self, t: Tensor) -> Iterator[tuple[Points, Tensor]]:
        """Some rays after the other, with the scenes that they read, and their depths; all at once in training."""
        at_once = max(1, POINTS_AT_ONCE.get(t.device.type, POINTS_AT_ONCE["cuda"]) // t.shape[1])
        if torch.is_grad_enabled() or len(t) <= at_once:
            yield self, t
            return
        for start in range(0, len(t), at_once):
            block = slice(start, start + at_once)
            first, last = self.slot[block][[0, -1]].tolist()
            scenes_read = slice(first, last + 1)
            head = self.head[scenes_read] if isinstance(self.head, SceneHeads) else self.head
            hulls = None if self.hulls is None else Hulls(self.hulls.bits[scenes_read])
            slot, rays = self.slot[block] - first, self.rays[block]
            yield replace(self, scenes=self.scenes[scenes_read], slot=slot, rays=rays, head=head, hulls=hulls), t[block]

    def densities(self, t: Tensor) -> Tensor:
        blocks = list(self._blocks(t))  # of the first pass as of the second, which may want a gradient
        with torch.no_grad():
            return torch.cat([block._at(depths)[0] for block, depths in blocks])

    def resample(self, t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
        return reference.resample(t, raw_densities, num_samples, u)

    def march(self, t: Tensor) -> Composite:
        return Composite.join(
            composite(*block._at(depths), depths, self.background) for block, depths in self._blocks(t)
        )

    def squared_error(self, t: Tensor, target: Target) -> Tensor:
        return target.error(self.march(t))
