"""Which rank owns which scene.

Scenes are dealt to a fixed number of virtual shards, blocks of neighbours, and ranks take whole shards. Batches are
drawn shard by shard, so the global batch, and with it the whole training, does not depend on the number of ranks.
Neighbours share files: a rank opens only those that hold its block.
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
    """Virtual shards that a rank takes; as even as whole shards can be.

    Raises:
        UsageError: There are more ranks than shards.
    """
    shards = num_shards(num_scenes)
    if shards < world_size:
        raise UsageError(
            f"{num_scenes} scenes have {shards} shards, too few for {world_size} ranks: use at most {shards}"
        )
    return list(range(rank * shards // world_size, (rank + 1) * shards // world_size))


def scenes_of_shard(num_scenes: int, shard: int) -> range:
    """Scene indices of a virtual shard."""
    shards = num_shards(num_scenes)
    return range(shard * num_scenes // shards, (shard + 1) * num_scenes // shards)


def owned_scenes(num_scenes: int, rank: int, world_size: int) -> Tensor:
    """[owned] long, ascending scene indices that live on a rank."""
    mine = shards_of_rank(num_scenes, rank, world_size)
    return torch.arange(scenes_of_shard(num_scenes, mine[0]).start, scenes_of_shard(num_scenes, mine[-1]).stop)
