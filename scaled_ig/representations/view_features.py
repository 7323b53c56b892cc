"""What a scene's own views tell about each texel of its planes before anything is trained.

The colours that the views show are painted on the surface of the visual hull; a texel then sees the column of cells
behind it. Features are multiples of 1/4096, so that sums of them and of their products are exact in double precision,
whatever their order.

Letters: V views of H × W pixels, G cells along a side of a hull, P cells of its surface, K texels along a plane,
D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.cameras import Cameras
from scaled_ig.representations.occupancy import HULL_RADIUS, Hulls, pack

EXACT = 2.0**12
APART = 1 / 40  # world units from a texel to the eight around it whose columns its features hold too
COLUMN = 15  # features of one column of cells, see _columns
FEATURES = 9 * COLUMN
"""D."""
DEPTH_SIZE = 64  # pixels along a side of the depth images that say which cells a view sees
DEPTH_SLACK = 1  # cells that a cell may lie behind the first one on its ray and still be seen


def rounded(values: Tensor) -> Tensor:
    """Values as multiples of 1/4096, float64."""
    return (values.double() * EXACT).round() / EXACT


def view_features(
    cells: Tensor, images: Tensor, cameras: Cameras, resolution: int, extent: float, axes: Sequence[tuple[int, int]]
) -> Tensor:
    """Features of a scene's texels.

    Args:
        cells: [G, G, G] bool, its visual hull.
        images: [V, 3, H, W] in [-1, 1].
        cameras: V cameras.
        resolution: K.
        extent: Planes cover [-extent, extent]³, world units.
        axes: For each plane the coordinates along its columns and rows.

    Returns:
        [3, K, K, D] float64; a column without a cell is 0.
    """
    painted = _paint(cells, images, cameras)
    columns = torch.stack([_columns(cells, painted, column, row) for column, row in axes]).permute(0, 3, 1, 2)
    place = (2 * torch.arange(resolution) + 1) / resolution - 1
    place = place * (extent / HULL_RADIUS)
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1).expand(len(axes), -1, -1, -1)
    texels = F.grid_sample(columns, grid, padding_mode="zeros", align_corners=False)
    apart = max(1, round(resolution * APART / (2 * extent)))
    texels = rounded(F.pad(texels, [apart] * 4))
    steps = 0, apart, 2 * apart
    neighbours = [texels[:, :, y : y + resolution, x : x + resolution] for y in steps for x in steps]
    return torch.cat(neighbours, 1).permute(0, 2, 3, 1)


def _paint(cells: Tensor, images: Tensor, cameras: Cameras) -> Tensor:
    """Colour, spread of the colours and whether it is seen, [G, G, G, 5], of a hull's cells; 0 where nothing is seen.

    The mean is over views in which a cell is the first one on its ray. Where a hull is larger than its object, views
    show different things there: the spread is large.
    """
    size = len(cells)
    surface = (cells & ~_eroded(cells)).nonzero()  # [P, 3]
    points = (2 * surface + 1) * (HULL_RADIUS / size) - HULL_RADIUS
    rays = cameras.rays(DEPTH_SIZE).flatten()
    near, far = Hulls(pack(cells)[None]).limits(torch.zeros(len(rays.origins), dtype=torch.long), rays)
    depth = torch.where(far > near, near, 0.0).view(len(cameras), 1, DEPTH_SIZE, DEPTH_SIZE)
    position = cameras.project(points)  # [V, P, 3]
    grid = 2 * position[..., None, :2] - 1
    first = F.grid_sample(depth, grid, mode="nearest", align_corners=False)[:, 0, :, 0]
    away = (points - cameras.camera_to_world[:, None, :3, 3]).permute(2, 0, 1).contiguous()
    distance = away.square().sum(0).sqrt()  # a norm along an axis of three is slow
    slack = DEPTH_SLACK * 2 * HULL_RADIUS / size
    visible = (position[..., 2] > 0) & (grid.abs() < 1).all(-1)[..., 0] & (distance <= first + slack)
    colour = F.grid_sample(images, grid, padding_mode="border", align_corners=False)[..., 0]  # [V, 3, P]
    weight = visible[:, None] / visible.sum(0).clamp(min=1)
    mean = (weight * colour).sum(0)
    spread = (weight * (colour - mean).square()).sum(0).mean(0).sqrt()
    painted = cells.new_zeros(*cells.shape, 5, dtype=torch.float32)
    painted[tuple(surface.T)] = torch.cat([mean, spread[None], visible.any(0)[None]]).T
    return painted


def _eroded(cells: Tensor) -> Tensor:
    """Cells all of whose six neighbours are cells too."""
    padded = F.pad(cells, [1] * 6)
    inside = slice(1, -1)
    for axis in range(3):
        for side in (slice(None, -2), slice(2, None)):
            place = [inside] * 3
            place[axis] = side
            cells = cells & padded[tuple(place)]
    return cells


def _columns(cells: Tensor, painted: Tensor, column: int, row: int) -> Tensor:
    """Features [G, G, 15] of the columns of cells that stand on a plane; 0 where a column has no cell.

    They are: whether there is a cell, their share, the first and the last one's place in [-1, 1]; whether there is
    paint, its mean, that at either end, and the mean of its spread.
    """
    size, axis = len(cells), 3 - column - row
    filled = cells.permute(row, column, axis)
    colour, spread, paint = painted.permute(row, column, axis, 3).split([3, 1, 1], -1)
    place = (2 * torch.arange(size) + 1) / size - 1
    any_cell, any_paint = filled.any(-1, keepdim=True), (paint > 0).any(2)
    ends = torch.stack([filled.int().argmax(-1), size - 1 - filled.flip(-1).int().argmax(-1)], -1)
    counts = paint.sum(2).clamp(min=1)
    painted_ends = [paint.argmax(2), size - 1 - paint.flip(2).argmax(2)]
    at_ends = [colour.gather(2, end[..., None].expand(-1, -1, 1, 3))[:, :, 0] for end in painted_ends]
    parts = [any_cell, filled.float().mean(-1, keepdim=True), place[ends] * any_cell, any_paint]
    parts += [colour.sum(2) / counts, *(end * any_paint for end in at_ends), spread.sum(2) / counts]
    return torch.cat([part.float() for part in parts], -1)
