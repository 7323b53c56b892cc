"""Instant-NGP: a pyramid of hash tables a scene, and a grid of densities that tells what is empty."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.errors import UsageError
from scaled_ig.randomness import CounterNoise, Stream
from scaled_ig.ranges import Deviation, Distance, Layers, Range, Width, checked
from scaled_ig.representations.base import SceneRepresentation
from scaled_ig.representations.scene_table import SceneTable


@checked
class InstantNgp(SceneRepresentation):
    """A multiresolution hash encoding a scene (Müller et al. 2022, §3 and E.2).

    Level l has N_l = ⌊N_min b^l⌋ cells along each side, b such that the last has N_max. Its (N_l + 1)³ vertices have an
    entry each where the table is long enough, and share entries by a hash where it is not. Features are interpolated
    trilinearly, those of all levels are concatenated, and they are zero outside the cube.

    Cells of a grid hold the largest density that was met there lately, and points in empty ones are not read. Each
    step of a scene looks into 1/16 of its cells, drawn at random, at random places (the paper: into all, or half, of
    them, every 16 steps): the cell's value decays by 0.95 and is raised to what is found. A cell is empty where the
    light lost along its side is less than 1 %, or the density half of the grid's mean, if that is less: so nothing is
    empty before training.

    What differs besides: values do not depend on the direction of view, the field head, of one hidden layer, stands in
    for the paper's two perceptrons, and the renderer's samples for its steps, which do not move to where something is.

    Args:
        levels: L.
        log2_table_size: log2 T; a table has at most T entries.
        channels: F, features of a level.
        coarsest: N_min.
        finest: N_max.
        extent: Tables cover [-extent, extent]³, world units.
        table_std: Standard deviation that entries start with.
        density_resolution: G, cells along each side of the grid of densities.
    """

    PRIMES = (1, 2_654_435_761, 805_459_861)
    DECAY, VISITED = 0.95, 1 / 16

    def __init__(
        self,
        levels: Layers = 16,
        log2_table_size: Annotated[int, Range(1, 24)] = 19,
        channels: Width = 2,
        coarsest: Width = 16,
        finest: Annotated[int, Range(1, 65536)] = 2048,
        extent: Distance = 1.0,
        table_std: Deviation = 1e-4,
        density_resolution: Annotated[int, Range(1, 512)] = 128,
    ) -> None:
        super().__init__()
        if finest < coarsest:
            raise UsageError(f"InstantNgp.finest {finest} must be coarsest {coarsest} or more")
        self.levels, self.log2_table_size, self.channels = levels, log2_table_size, channels
        self.coarsest, self.finest, self.extent, self.table_std = coarsest, finest, extent, table_std
        growth = (finest / coarsest) ** (1 / max(1, levels - 1))
        self.cells = [math.floor(coarsest * growth**level + 1e-6) for level in range(levels)]
        self.sizes = [min(2**log2_table_size, (cells + 1) ** 3) for cells in self.cells]
        self.micro = SceneTable((sum(self.sizes), channels), table_std)
        self.density_resolution = density_resolution
        self.least_density = 0.01 * density_resolution / (2 * extent)
        self.density_grid = SceneTable((density_resolution**3,), 0.0, self.least_density)

    @property
    def feature_channels(self) -> int:
        return self.levels * self.channels

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        unit = (positions / self.extent + 1) / 2
        inside = ((unit >= 0) & (unit <= 1)).all(-1, keepdim=True)
        rows, features = self.micro(scene_index), []
        for table, cells in zip(rows.split(self.sizes, 1), self.cells, strict=True):
            index, weight = self._corners(unit.clamp(0, 1) * cells, cells)
            scene = torch.arange(len(table), device=index.device)[:, None, None] * table.shape[1]
            entries = table.flatten(0, 1).index_select(0, (index + scene).flatten())
            features.append((entries.view(*index.shape, -1) * weight[..., None]).sum(2))
        return torch.cat(features, -1) * inside

    def _corners(self, where: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Entries and weights [S, P, 8] of the vertices around [S, P, 3], which are in cells of a level."""
        low = where.floor().clamp(max=cells - 1)  # the last face belongs to the last cell
        ends, part = torch.stack([low, low + 1], -1).long(), where - low
        x, y, z = torch.stack([1 - part, part], -1).unbind(2)
        weight = x[..., :, None, None] * y[..., None, :, None] * z[..., None, None, :]
        side = cells + 1
        is_dense = side**3 <= 2**self.log2_table_size
        factors = (1, side, side * side) if is_dense else self.PRIMES
        x, y, z = (ends * ends.new_tensor(factors)[:, None]).unbind(2)
        x, y, z = x[..., :, None, None], y[..., None, :, None], z[..., None, None, :]
        index = x + y + z if is_dense else (x ^ y ^ z) & (2**self.log2_table_size - 1)
        return index.flatten(2), weight.flatten(2)

    @torch.no_grad()
    def occupied(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        grid = self.density_grid(scene_index)
        least = (grid.mean(1, keepdim=True) / 2).clamp(max=self.least_density)
        cell = ((positions / self.extent + 1) / 2 * self.density_resolution).floor().long()
        inside = ((cell >= 0) & (cell < self.density_resolution)).all(-1)
        x, y, z = cell.clamp(0, self.density_resolution - 1).unbind(-1)
        # A sample is half of the intervals on either side, so the neighbours of what is there are read too.
        near = F.max_pool3d(grid.unflatten(1, (self.density_resolution,) * 3), 3, 1, 1).flatten(1)
        return inside & (near.gather(1, (x * self.density_resolution + y) * self.density_resolution + z) > least)

    @torch.no_grad()
    def refresh(self, scene_index: Tensor, densities: Callable[[Tensor], Tensor], noise: CounterNoise) -> None:
        side, cells = self.density_resolution, self.density_resolution**3
        count = max(1, int(cells * self.VISITED))
        lots = noise.uniform(scene_index, 4 * count, Stream.CELLS).unflatten(1, (count, 4))
        cell = (lots[..., 0] * cells).long()
        corner = torch.stack([cell // side**2, cell // side % side, cell % side], -1)
        positions = ((corner + lots[..., 1:]) / side * 2 - 1) * self.extent
        measured = F.softplus(densities(positions) - 1)  # the density of a raw one (method 3)
        rows = self.density_grid(scene_index)
        rows.scatter_(1, cell, self.DECAY * rows.gather(1, cell)).scatter_reduce_(1, cell, measured, "amax")
        self.density_grid.weight[self.density_grid.row_of(scene_index)] = rows

    def own_tables(self) -> dict[str, SceneTable]:
        return {"micro": self.micro, "density_grid": self.density_grid}
