"""Which rank owns which scene.

Scenes are dealt to virtual shards, blocks of neighbours whose number depends on the number of scenes alone, and ranks
take whole shards. Neighbours share files: a rank opens only those that hold its block.
"""

from __future__ import annotations

from scaled_ig.errors import UsageError

SCENES_PER_SHARD = 16  # at least, where there are more than 4 shards: an epoch repeats few views to fill its batches
MOST_SHARDS = 1024


def num_shards(num_scenes: int) -> int:
    """Virtual shards of a scene set: a power of two, up to 4 for a few scenes and up to 1,024 for many."""
    most = min(MOST_SHARDS, max(min(4, num_scenes), num_scenes // SCENES_PER_SHARD, 1))
    return 1 << (most.bit_length() - 1)


def shards_of_rank(num_scenes: int, rank: int, world_size: int) -> range:
    """Virtual shards that a rank takes; as even as whole shards can be.

    Raises:
        UsageError: There are more ranks than shards.
    """
    shards = num_shards(num_scenes)
    if shards < world_size:
        raise UsageError(
            f"{num_scenes} scenes have {shards} shards, too few for {world_size} ranks: use at most {shards}"
        )
    return range(rank * shards // world_size, (rank + 1) * shards // world_size)


def scenes_of_shard(num_scenes: int, shard: int) -> range:
    """Scene indices of a virtual shard."""
    shards = num_shards(num_scenes)
    return range(shard * num_scenes // shards, (shard + 1) * num_scenes // shards)


def owned_scenes(num_scenes: int, rank: int, world_size: int) -> range:
    """Scene indices that live on a rank: one block."""
    mine = shards_of_rank(num_scenes, rank, world_size)
    return range(scenes_of_shard(num_scenes, mine[0]).start, scenes_of_shard(num_scenes, mine[-1]).stop)
