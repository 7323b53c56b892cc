"""Where a scene may hold something: its visual hull, carved from the silhouettes of its training views.

A hull is a grid of G³ cells over the cube [-0.5, 0.5]³, a bit each. It is conservative: a cell stays unless some view
that sees all of it shows nothing but background there, so that no point of the object is ever cut away.

Letters: S scenes, G cells along a side of a hull, V views of H × W pixels, N rays, P points, K texels along a plane.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig import native
from scaled_ig.cameras import Cameras, Rays

HULL_RADIUS = 0.5  # half the side of the cube that a hull covers, world units
HULL_RESOLUTION = 64
AT_ONCE = 16  # scenes whose cells are unpacked together: a byte a cell
COARSEST = 16  # cells along a side that carving begins with
DILATION = 1.5  # pixels that silhouettes are grown by: what a pixel's samples miss of an edge
UNCOVERED = 0.002
"""Part of the silhouettes' pixels that a sound hull may leave uncovered."""


@dataclass(frozen=True)
class Hulls:
    """Hulls of some scenes.

    Args:
        bits: [S, G, G, G / 8] uint8; bit i of a byte is cell 8 · byte + i along z.
    """

    bits: Tensor

    @property
    def resolution(self) -> int:
        """G."""
        return self.bits.shape[1]

    def cells(self) -> Tensor:
        """[S, G, G, G] bool."""
        bit = torch.arange(8, device=self.bits.device, dtype=torch.uint8)
        return (self.bits[..., None] >> bit & 1).flatten(3).bool()

    def hold(self, slot: Tensor, positions: Tensor) -> Tensor:
        """Whether points lie in cells that may hold something.

        Args:
            slot: [N] long: of which scene.
            positions: [N, P, 3], world units.

        Returns:
            [N, P] bool; False beyond the cube.
        """
        size = self.resolution
        cell = ((positions + HULL_RADIUS) * (size / (2 * HULL_RADIUS))).floor()
        inside = ((cell >= 0) & (cell < size)).all(-1)
        x, y, z = cell.clamp(0, size - 1).long().unbind(-1)
        byte = self.bits.flatten()[((slot[:, None] * size + x) * size + y) * (size // 8) + z // 8]
        return inside & (byte >> (z % 8).to(torch.uint8) & 1).bool()

    def limits(self, slot: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
        """Where rays enter the first and leave the last cell that may hold something.

        Args:
            slot: [N] long: the scene of each ray.
            rays: N rays, world units.

        Returns:
            ``t_near`` and ``t_far`` [N], not behind the camera; ``t_far < t_near`` where a ray meets none.
        """
        if rays.origins.device.type == "cpu" and rays.origins.dtype == torch.float32 and native.works():
            return self._fast_limits(slot, rays)
        # Depths of all planes between cells, in order: between two of them a ray stays in one cell.
        edges = torch.linspace(-HULL_RADIUS, HULL_RADIUS, self.resolution + 1).to(rays.origins)
        t = (edges - rays.origins[..., None]) / rays.directions[..., None]
        t = t.flatten(1).nan_to_num(nan=0.0).clamp(0, 1e3).sort(1).values
        in_hull = self.hold(slot, rays.at(0.5 * (t[:, 1:] + t[:, :-1]))) & (t[:, 1:] > t[:, :-1])
        first, last = in_hull.int().argmax(1), in_hull.shape[1] - in_hull.flip(1).int().argmax(1)
        near, far = t.gather(1, first[:, None])[:, 0], t.gather(1, last[:, None])[:, 0]
        return near, torch.where(in_hull.any(1), far, near - 1)

    def _fast_limits(self, slot: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
        native.require_shape("slot", slot, len(slot))
        native.require_rows("slot", slot, len(self.bits))
        for name, vectors in (("origins", rays.origins), ("directions", rays.directions)):
            native.require_shape(name, vectors, len(slot), 3)
        rows, directions = slot.long(), rays.directions.float()
        inputs = [values.contiguous() for values in (rows, rays.origins, directions, self.bits)]
        near, far = torch.empty(2, len(slot))
        function = native.library("hull").hull_limits

        def task(_: int, *ray_range: int) -> None:
            pointers = map(native.pointer, (*inputs, near, far))
            function(
                len(self.bits), self.resolution, ctypes.c_float(HULL_RADIUS), *pointers, *map(ctypes.c_long, ray_range)
            )

        native.run(task, native.shares(len(slot), 4 * torch.get_num_threads()))
        return near, far

    def texels(self, resolution: int, extent: float, axes: Sequence[tuple[int, int]]) -> Tensor:
        """Texels of feature planes that a sample within the hull can read: all others are never looked at.

        Records of banks have these texels alone, so that what this says of a hull must stay as it is.

        Args:
            resolution: Texels along each side of a plane, K.
            extent: Planes cover [-extent, extent]³, world units.
            axes: For each plane the coordinates along its columns and rows.

        Returns:
            [S, 3, K, K] bool.
        """
        size = self.resolution
        edges = torch.linspace(-HULL_RADIUS, HULL_RADIUS, size + 1, dtype=torch.float64, device=self.bits.device)
        place = (edges / extent + 1) * (resolution / 2) - 0.5
        texel = torch.arange(resolution, device=self.bits.device)[:, None]
        # A sample at place g reads the texels below and above it.
        reads = ((texel >= place[:-1].floor()) & (texel <= place[1:].ceil())).float()  # [K, G]
        parts = []
        for bits in self.bits.split(AT_ONCE):
            cells, planes = Hulls(bits).cells(), []
            for column, row in axes:
                shadow = cells.any(4 - column - row).float()  # [S, G, G], the lower coordinate first
                shadow = shadow if row < column else shadow.transpose(1, 2)
                planes.append(reads @ shadow @ reads.T > 0)
            parts.append(torch.stack(planes, 1))
        return torch.cat(parts)


def carve(masks: Tensor, cameras: Cameras, resolution: int = HULL_RESOLUTION, dilation: float = DILATION) -> Tensor:
    """The visual hull of silhouettes.

    A cell is carved away where the whole of its picture, grown by ``dilation``, lies inside a view and shows background
    alone. Cells are split in eight as long as they stay.

    Args:
        masks: [V, H, W] uint8 coverage; every pixel above 0 may show the object.
        cameras: V cameras.
        resolution: G, 16 times a power of two.
        dilation: Pixels that silhouettes are grown by.

    Returns:
        [G, G, G] bool.
    """
    size = min(COARSEST, resolution)
    height, width = masks.shape[1:]
    # Sums over all pixels above and left of a corner: any box of pixels is four look-ups.
    sums = F.pad((masks > 0).int().cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (1, 0, 1, 0))
    cells = torch.cartesian_prod(*[torch.arange(size, device=masks.device)] * 3)
    while True:
        half = HULL_RADIUS / size
        for view in range(len(masks)):
            centres = (2 * cells + 1).to(cameras.intrinsics) * half - HULL_RADIUS
            cells = cells[_may_be_seen(sums[view], cameras[view : view + 1], centres, half, height, width, dilation)]
        if size == resolution:
            break
        corners = torch.cartesian_prod(*[torch.arange(2, device=masks.device)] * 3)
        cells, size = (2 * cells[:, None] + corners).flatten(0, 1), 2 * size
    hull = torch.zeros(size, size, size, dtype=torch.bool, device=masks.device)
    hull[tuple(cells.T)] = True
    return hull


def _may_be_seen(
    sums: Tensor, camera: Cameras, centres: Tensor, half: float, height: int, width: int, dilation: float
) -> Tensor:
    """Whether a view shows something of cells around [P, 3], or does not show them wholly; [P] bool."""
    rotation = camera.camera_to_world[0, :3, :3].abs().sum(0) * half  # half of a cell's extent in camera coordinates
    x, y, depth = camera.project(centres)[0].unbind(-1)
    nearest = depth - rotation[2]
    is_ahead = nearest > 1e-6
    nearest = nearest.clamp(min=1e-6)
    fx, fy, cx, cy = camera.intrinsics[0]
    # A point off by (a, b) in x and z is seen off by f (a - x b / z) / (z + b).
    reach_x = (fx * rotation[0] + (x - cx).abs() * rotation[2]) / nearest * width + dilation
    reach_y = (fy * rotation[1] + (y - cy).abs() * rotation[2]) / nearest * height + dilation
    left, right = (x * width - reach_x).floor(), (x * width + reach_x).ceil()
    top, bottom = (y * height - reach_y).floor(), (y * height + reach_y).ceil()
    inside = is_ahead & (left >= 0) & (right <= width) & (top >= 0) & (bottom <= height)
    left, right = (edge.clamp(0, width).long() for edge in (left, right))
    top, bottom = (edge.clamp(0, height).long() for edge in (top, bottom))
    shown = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return ~inside | (shown > 0)


def uncovered(hull: Tensor, masks: Tensor, cameras: Cameras) -> float:
    """Part of the pixels that show the object whose rays miss its hull, 0 to 1: of a sound hull almost none.

    Args:
        hull: [G, G, G] bool.
        masks: [V, H, W] uint8, as they were carved from.
        cameras: V cameras.
    """
    hulls = Hulls(pack(hull)[None])
    missed = shown = 0
    for view in range(len(masks)):
        pixels = (masks[view] > 127).flatten().nonzero()[:, 0]
        if len(pixels):
            rays = cameras[view : view + 1].rays_at(pixels[None], (masks.shape[1], masks.shape[2])).flatten()
            near, far = hulls.limits(torch.zeros(len(pixels), dtype=torch.long, device=pixels.device), rays)
            missed, shown = missed + int((far <= near).sum()), shown + len(pixels)
    return missed / max(shown, 1)


def pack(hull: Tensor) -> Tensor:
    """Bits [..., G / 8] uint8 of cells [..., G] bool."""
    weight = 2 ** torch.arange(8, device=hull.device)
    return (hull.unflatten(-1, (-1, 8)) * weight).sum(-1).to(torch.uint8)
