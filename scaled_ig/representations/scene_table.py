"""Parameters of scenes, one row each, of which a rank holds the rows that it owns."""

from __future__ import annotations

import copy
from typing import Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scaled_ig.distributed.ownership import owned_scenes

BLOCK_BYTES = 64 * 2**20
"""What ranks send each other at a time: rows are many, and memory beside them is not."""


M = TypeVar("M", bound=nn.Module)


def twin(module: M) -> M:
    """A module that shares all that this one has, until something else is set on either: nothing is copied."""
    other = copy.copy(module)
    for part in ("_parameters", "_buffers", "_modules"):
        vars(other)[part] = dict(vars(module)[part])
    return other


class _TakeRows(torch.autograd.Function):
    """Rows of a table, whose gradient is sparse: its cost does not depend on the length of the table."""

    @staticmethod
    def forward(ctx, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight[rows]

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (rows,) = ctx.saved_tensors
        in_order = bool((rows.diff() > 0).all())  # sorting them again would copy the gradient
        sparse = torch.sparse_coo_tensor(
            rows[None], gradients[0], ctx.shape, check_invariants=False, is_coalesced=in_order
        )
        return sparse, None


def _collective_device(tensor: Tensor) -> torch.device:
    """Where ranks can exchange a tensor: NCCL knows GPUs only, and Lightning moves models to the CPU after training."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else tensor.device


class SceneTable(nn.Module):
    """One row of parameters a scene, outside DDP's reduction, read and updated by row.

    A rank holds one block of rows. A row starts the same whatever the number of ranks.

    Args:
        row_shape: Shape of one scene's parameters.
        std: Standard deviation of a new row, N(mean, std²); one, or any shape that broadcasts to that of a row.
        mean: Its mean, likewise.
    """

    weight: nn.Parameter

    def __init__(self, row_shape: tuple[int, ...], std: float | Tensor, mean: float | Tensor = 0.0) -> None:
        super().__init__()
        self.row_shape, self.std, self._mean = tuple(row_shape), std, mean
        self.rank, self.world_size, self.num_scenes = 0, 1, 0
        self.weight = nn.Parameter(torch.empty(0, *self.row_shape))

    @property
    def owned(self) -> range:
        """Scenes whose rows are held here, in the order of the rows."""
        return owned_scenes(self.num_scenes, self.rank, self.world_size)

    def new_scenes(self, num_scenes: int, seed: int, start: Tensor | None = None) -> None:
        """Forget all rows and make new ones.

        Args:
            num_scenes: Scenes over all ranks.
            seed: Seed of the noise that rows start from.
            start: [*row_shape] what every row starts from, instead of noise.
        """
        device = self.weight.device
        self.num_scenes = num_scenes
        owned = self.owned if num_scenes else range(0)
        if start is not None:
            rows = start.detach().to(device).expand(len(owned), *self.row_shape).clone()
        else:
            rows = torch.empty(len(owned), *self.row_shape)
            for row, scene in zip(rows, owned, strict=True):
                generator = torch.Generator().manual_seed(seed * 1_000_003 + scene)
                if isinstance(self.std, Tensor):
                    row.normal_(generator=generator).mul_(self.std)
                else:  # short rows are scaled in double precision
                    row.normal_(0, self.std, generator=generator)
                row += self._mean
            rows = rows.to(device)
        self.weight = nn.Parameter(rows)

    def of_rows(self, rows: Tensor) -> Self:
        """A table of other scenes, whose rows [S, *row_shape] these are; they are not copied, and not trained."""
        table = twin(self)
        table.rank, table.world_size, table.num_scenes = 0, 1, len(rows)
        table.weight = nn.Parameter(rows, requires_grad=False)
        return table

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the rows that ``rank`` owns of a table that holds all of them.

        Raises:
            ValueError: It is already part of another table.
        """
        if (rank, world_size) == (self.rank, self.world_size):
            return
        if self.world_size > 1:
            raise ValueError(f"the rows of rank {self.rank} of {self.world_size} cannot become those of {world_size}")
        self.rank, self.world_size = rank, world_size
        if self.num_scenes:
            rows = self.take(self.weight.detach()).clone()
            self.weight = nn.Parameter(rows, requires_grad=self.weight.requires_grad)

    def row_of(self, scene_index: Tensor) -> Tensor:
        """Row held here of each scene [S] long."""
        return scene_index - self.owned.start

    def forward(self, scene_index: Tensor) -> Tensor:
        """Rows [S, *row_shape] of scenes [S] long.

        Raises:
            ValueError: A scene lives on another rank.
        """
        rows = self.row_of(scene_index)
        if self.world_size > 1 and bool(((rows < 0) | (rows >= len(self.weight))).any()):
            raise ValueError(f"rank {self.rank} was given a scene that it does not own")
        result = _TakeRows.apply(self.weight, rows)
        assert isinstance(result, Tensor)
        return result

    def mean(self) -> Tensor:
        """Mean row [*row_shape] over the scenes of all ranks, to the bit the same on any number of them. Collective.

        Rows are added as integers: a sum of floats depends on its order. What is not finite counts as 0.
        """
        parts = [part for part in self.weight.detach().split(16) if len(part)]
        largest = torch.zeros(self.row_shape, device=self.weight.device)  # of each value: a wild one costs no other
        for part in parts:
            largest = torch.maximum(largest, torch.nan_to_num(part, 0.0, 0.0, 0.0).abs().amax(0))
        largest = self.over_ranks(largest, dist.ReduceOp.MAX)
        bits = (62 - self.num_scenes.bit_length() - torch.frexp(largest).exponent).double()
        total = torch.zeros(self.row_shape, dtype=torch.long, device=self.weight.device)
        for part in parts:
            total += (torch.nan_to_num(part, 0.0, 0.0, 0.0).double() * 2.0**bits).round().long().sum(0)
        total = self.over_ranks(total, dist.ReduceOp.SUM)
        return (total.double() / 2.0**bits / max(self.num_scenes, 1)).to(self.weight.dtype)

    def over_ranks(self, value: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        """What all ranks have, reduced to one. Collective."""
        if self.world_size == 1:
            return value
        reduced = value.to(_collective_device(value), copy=True)
        dist.all_reduce(reduced, operation)
        return reduced.to(value.device)

    def collect(self, rows: Tensor, into: Tensor | None) -> None:
        """Copy the rows of all ranks, in the order of scenes, to the first rank, block by block. Collective.

        Args:
            rows: [owned, ...] anything that has one entry for each row held here.
            into: [num_scenes, ...] on the CPU, on rank 0; not looked at elsewhere.
        """
        rows = rows.detach()
        length = max(1, BLOCK_BYTES // max(1, rows.element_size() * rows[0].numel() if len(rows) else 1))
        for rank in range(self.world_size):
            if self.rank not in (0, rank):
                continue
            owned = owned_scenes(self.num_scenes, rank, self.world_size)
            for start in range(0, len(owned), length):
                part = slice(start, min(start + length, len(owned)))
                if rank == self.rank:
                    block = rows[part]
                    if rank:
                        dist.send(block.to(_collective_device(block)).contiguous(), 0)
                else:
                    block = rows.new_empty(part.stop - part.start, *rows.shape[1:])
                    block = block.to(_collective_device(block))
                    dist.recv(block, rank)
                if self.rank == 0:
                    assert into is not None
                    into[owned.start + part.start : owned.start + part.stop] = block.cpu()

    def take(self, rows: Tensor) -> Tensor:
        """Rows [owned, ...] held here, out of those of all scenes [num_scenes, ...]; not a copy."""
        return rows[self.owned.start : self.owned.stop]


class HullTable(SceneTable):
    """The visual hull of each scene, a bit a cell (``occupancy.py``); of a new scene all of them are set.

    Args:
        resolution: G, cells along each side.
    """

    def __init__(self, resolution: int) -> None:
        super().__init__((resolution, resolution, resolution // 8), 0.0)
        self.weight = self._rows(0)

    def _rows(self, count: int) -> nn.Parameter:
        rows = torch.full((count, *self.row_shape), 255, dtype=torch.uint8, device=self.weight.device)
        return nn.Parameter(rows, requires_grad=False)

    def new_scenes(self, num_scenes: int, seed: int, start: Tensor | None = None) -> None:
        self.num_scenes = num_scenes
        self.weight = self._rows(len(self.owned) if num_scenes else 0)

    def mean(self) -> Tensor:
        """What new scenes start from: everything."""
        return self._rows(1).detach()[0]
