"""Parameters of scenes, one row each, of which a rank holds the rows that it owns."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scaled_ig.ownership import owned_scenes


class _TakeRows(torch.autograd.Function):
    """Rows of a table, whose gradient is sparse: its cost does not depend on the length of the table."""

    @staticmethod
    def forward(ctx, weight: Tensor, rows: Tensor, gradient_scale: float) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape, ctx.gradient_scale = weight.shape, gradient_scale
        return weight[rows]

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (rows,) = ctx.saved_tensors
        gradient = gradients[0]
        if ctx.gradient_scale != 1.0:
            gradient = gradient * ctx.gradient_scale
        return torch.sparse_coo_tensor(rows[None], gradient, ctx.shape, check_invariants=False), None, None


def _collective_device(tensor: Tensor) -> torch.device:
    """Where ranks can exchange a tensor: NCCL knows GPUs only, and Lightning moves models to the CPU after training."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else tensor.device


class SceneTable(nn.Module):
    """One row of parameters a scene, outside DDP's reduction, read and updated by row.

    A row starts the same whatever the number of ranks. In checkpoints a table has the rows of all scenes in order, as
    if one process had trained it.

    Args:
        row_shape: Shape of one scene's parameters.
        std: Standard deviation of a new row, N(0, std²).
    """

    weight: nn.Parameter
    local_row: Tensor

    def __init__(self, row_shape: tuple[int, ...], std: float) -> None:
        super().__init__()
        self.row_shape, self.std = tuple(row_shape), std
        self.rank, self.world_size = 0, 1
        self._place(torch.empty(0, *self.row_shape), 0)

    def _place(self, rows: Tensor, num_scenes: int) -> None:
        self.num_scenes = num_scenes
        self.weight = nn.Parameter(rows)
        local_row = torch.full((num_scenes,), -1, dtype=torch.long)
        if num_scenes:
            owned = owned_scenes(num_scenes, self.rank, self.world_size)
            local_row[owned] = torch.arange(len(owned))
        self.register_buffer("local_row", local_row.to(rows.device), persistent=False)

    @property
    def owned(self) -> Tensor:
        """[rows] long, scene of each row held here."""
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
        owned = self.owned
        if start is not None:
            rows = start.detach().to(device).expand(len(owned), *self.row_shape).clone()
        else:
            rows = torch.empty(len(owned), *self.row_shape)
            for row, scene in zip(rows, owned.tolist(), strict=True):
                generator = torch.Generator().manual_seed(seed * 1_000_003 + scene)
                row.normal_(0, self.std, generator=generator)
            rows = rows.to(device)
        self._place(rows, num_scenes)

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the rows that ``rank`` owns of a table that holds all of them."""
        if (rank, world_size) == (self.rank, self.world_size):
            return
        rows = self.gather(self.weight)
        self.rank, self.world_size = rank, world_size
        self._place(self.take(rows).to(self.weight.device), self.num_scenes)

    def forward(self, scene_index: Tensor) -> Tensor:
        """Rows [S, *row_shape] of scenes [S] long.

        The gradient is divided by the number of ranks: a scene's own gradient is computed on one rank only, while the
        loss is the mean over the global batch (method 5).

        Raises:
            ValueError: A scene lives on another rank.
        """
        rows = self.local_row[scene_index]
        if self.world_size > 1 and bool((rows < 0).any()):
            raise ValueError(f"rank {self.rank} was given a scene that it does not own")
        taken = _TakeRows.apply(self.weight, rows, 1.0 / self.world_size)
        assert isinstance(taken, Tensor)
        return taken

    def mean(self) -> Tensor:
        """Mean row [*row_shape] over the scenes of all ranks. Collective."""
        total = self.weight.detach().sum(0)
        if self.world_size > 1:
            total = total.to(_collective_device(total))
            dist.all_reduce(total)
        return total.to(self.weight.device) / max(self.num_scenes, 1)

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks in the order of scenes [num_scenes, ...], on the CPU. Collective.

        Args:
            rows: [owned, ...] anything that has one entry for each row held here.
        """
        rows = rows.detach()
        if self.world_size == 1:
            return rows.cpu()
        rows = rows.to(_collective_device(rows))
        owned_by = [owned_scenes(self.num_scenes, rank, self.world_size) for rank in range(self.world_size)]
        longest = max(map(len, owned_by))
        padded = (
            torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])]) if len(rows) < longest else rows
        )
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(parts, padded.contiguous())
        full = torch.empty(self.num_scenes, *rows.shape[1:], dtype=rows.dtype)
        for owned, part in zip(owned_by, parts, strict=True):
            full[owned] = part[: len(owned)].cpu()
        return full

    def take(self, rows: Tensor) -> Tensor:
        """Rows [owned, ...] held here, out of those of all scenes [num_scenes, ...]."""
        return rows[self.owned].clone()
