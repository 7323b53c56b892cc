"""Every scene lives on one rank, and its shard does not depend on the number of ranks."""

import pytest
import torch

from scaled_ig.ownership import num_shards, owned_scenes, shards_of_rank


@pytest.mark.parametrize("num_scenes", [4, 7, 500])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_all_scenes(num_scenes, world_size):
    owned = [owned_scenes(num_scenes, rank, world_size) for rank in range(world_size)]
    assert torch.cat(owned).sort().values.tolist() == list(range(num_scenes))
    assert all((own.diff() > 0).all() for own in owned)
    assert max(map(len, owned)) - min(map(len, owned)) <= 4 // world_size
    for rank, own in enumerate(owned):
        shards = shards_of_rank(num_scenes, rank, world_size)
        assert set((own % num_shards(num_scenes)).tolist()) <= set(shards)


def test_few_scenes_have_few_shards():
    assert [num_shards(n) for n in (0, 1, 2, 3, 4, 5, 1000)] == [1, 1, 2, 2, 4, 4, 4]


@pytest.mark.parametrize(("num_scenes", "world_size"), [(100, 3), (100, 8), (3, 4)])
def test_uneven_worlds_are_refused(num_scenes, world_size):
    with pytest.raises(ValueError, match=f"cannot be dealt evenly to {world_size} ranks"):
        shards_of_rank(num_scenes, 0, world_size)
