"""Every scene lives on one rank, and its shard does not depend on the number of ranks."""

import pytest
import torch

from scaled_ig.ownership import num_shards, owned_scenes, scenes_of_shard, shards_of_rank


@pytest.mark.parametrize("num_scenes", [4, 7, 500])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_all_scenes(num_scenes, world_size):
    owned = [owned_scenes(num_scenes, rank, world_size) for rank in range(world_size)]
    assert torch.cat(owned).tolist() == list(range(num_scenes)), "blocks of neighbours, in order"
    whole = [len(scenes_of_shard(num_scenes, shard)) for shard in range(num_shards(num_scenes))]
    assert max(whole) - min(whole) <= 1
    for rank, own in enumerate(owned):
        shards = shards_of_rank(num_scenes, rank, world_size)
        assert own.tolist() == [scene for shard in shards for scene in scenes_of_shard(num_scenes, shard)]
        assert abs(len(shards) - 4 / world_size) < 1


def test_few_scenes_have_few_shards():
    assert [num_shards(n) for n in (0, 1, 2, 3, 4, 5, 1000)] == [1, 1, 2, 2, 4, 4, 4]


@pytest.mark.parametrize(("num_scenes", "world_size"), [(100, 5), (100, 8), (3, 4)])
def test_more_ranks_than_shards_are_refused(num_scenes, world_size):
    with pytest.raises(ValueError, match=f"too few for {world_size} ranks"):
        shards_of_rank(num_scenes, 0, world_size)
