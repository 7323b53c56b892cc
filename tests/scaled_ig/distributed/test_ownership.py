"""Every scene lives on one rank, and its shard does not depend on the number of ranks."""

import pytest

from scaled_ig.distributed.ownership import num_shards, owned_scenes, scenes_of_shard, shards_of_rank


@pytest.mark.parametrize("num_scenes", [4, 7, 500, 1500])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5, 8])
def test_ranks_share_all_scenes(num_scenes, world_size):
    shards = num_shards(num_scenes)
    if shards < world_size:
        with pytest.raises(ValueError, match=f"too few for {world_size} ranks: use at most {shards}"):
            shards_of_rank(num_scenes, 0, world_size)
        return
    owned = [owned_scenes(num_scenes, rank, world_size) for rank in range(world_size)]
    assert [scene for own in owned for scene in own] == list(range(num_scenes)), "blocks of neighbours, in order"
    whole = [len(scenes_of_shard(num_scenes, shard)) for shard in range(shards)]
    assert max(whole) - min(whole) <= 1
    for rank, own in enumerate(owned):
        mine = shards_of_rank(num_scenes, rank, world_size)
        assert list(own) == [scene for shard in mine for scene in scenes_of_shard(num_scenes, shard)]
        assert abs(len(mine) - shards / world_size) < 1


def test_few_scenes_have_few_shards_and_many_have_many():
    assert [num_shards(n) for n in (0, 1, 2, 3, 4, 5, 127)] == [1, 1, 2, 2, 4, 4, 4]
    assert [num_shards(n) for n in (128, 500, 1500, 100_000, 10_000_000)] == [8, 16, 64, 1024, 1024]


@pytest.mark.parametrize("num_scenes", [128, 500, 1500, 33_000])
def test_a_shard_has_16_scenes_or_more(num_scenes):
    assert num_scenes / num_shards(num_scenes) >= 16
