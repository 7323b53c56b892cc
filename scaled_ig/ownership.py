"""Which rank owns which scene.

Scenes are dealt to a fixed number of virtual shards, and ranks take whole shards. Batches are drawn shard by shard, so
the global batch, and with it the whole training, does not depend on the number of ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scaled_ig.errors import UsageError

NUM_SHARDS = 4


def num_shards(num_scenes: int) -> int:
    """Virtual shards of a scene set: 4, or 2 or 1 where there are fewer scenes, so that they divide usual batches."""
    return max(shards for shards in (1, 2, NUM_SHARDS) if shards <= max(1, num_scenes))


def shards_of_rank(num_scenes: int, rank: int, world_size: int) -> list[int]:
    """Virtual shards that a rank takes.

    Raises:
        UsageError: The shards cannot be dealt evenly to the ranks.
    """
    shards = num_shards(num_scenes)
    if shards % world_size:
        raise UsageError(f"{shards} shards of scenes cannot be dealt evenly to {world_size} ranks: use 1, 2 or 4")
    return list(range(rank, shards, world_size))


def owned_scenes(num_scenes: int, rank: int, world_size: int) -> Tensor:
    """[owned] long, ascending scene indices that live on a rank."""
    scenes = torch.arange(num_scenes)
    mine = torch.tensor(shards_of_rank(num_scenes, rank, world_size))
    return scenes[torch.isin(scenes % num_shards(num_scenes), mine)]
