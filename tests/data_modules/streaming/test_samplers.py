"""Which views are trained, in which order, on how many ranks."""

import itertools
from collections import Counter

import pytest

from data_modules.streaming.samplers import ResumableLoader, SceneBatches
from scaled_ig.errors import UsageError


def even(scenes: int = 8, views: int = 6) -> list[list[int]]:
    """Scene s has views s, s + 1, … of its own."""
    return [list(range(s, s + views)) for s in range(scenes)]


@pytest.mark.parametrize("views_per_scene", [1, 2, 3])
@pytest.mark.parametrize("scenes", [1, 2, 8])
def test_an_epoch_has_every_view_once(scenes, views_per_scene):
    views = even(scenes)
    shards = min(4, scenes)
    sampler = SceneBatches(views, batch_size=shards * views_per_scene, views_per_scene=views_per_scene)
    seen = Counter(key for batch in sampler for key in batch)
    assert seen == Counter((s, v) for s in range(scenes) for v in views[s])
    assert len(list(sampler)) == len(sampler)


@pytest.mark.parametrize("views_per_scene", [1, 2])
@pytest.mark.parametrize("counts", [(6,) * 8, (5, 9, 1, 4, 7, 2, 3)])
def test_ranks_share_the_global_batches(counts, views_per_scene):
    views = [list(range(count)) for count in counts]

    def batches(world_size: int) -> list[list]:
        ranks = [SceneBatches(views, 8, views_per_scene, rank, world_size, seed=3) for rank in range(world_size)]
        assert len({len(rank) for rank in ranks}) == 1
        return [[key for part in parts for key in part] for parts in zip(*ranks, strict=True)]

    alone = batches(1)
    assert all(len(batch) == 8 for batch in alone)
    assert alone == batches(2) == batches(3) == batches(4), "ranks take parts of one batch, in order"


@pytest.mark.parametrize("views_per_scene", [1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("counts", [(6,) * 8, (5, 9, 1, 4, 7, 2, 3), (1, 30, 2, 2, 2)])
def test_every_view_is_seen_once_and_padding_is_counted(counts, world_size, views_per_scene):
    views = [list(range(s, s + count)) for s, count in enumerate(counts)]
    ranks = [SceneBatches(views, 8, views_per_scene, rank, world_size, seed=1) for rank in range(world_size)]
    seen = Counter(key for rank in ranks for batch in rank for key in batch)
    assert set(seen) == {(s, v) for s, own in enumerate(views) for v in own}
    again = sum(seen.values()) - len(seen)
    assert {rank.padding for rank in ranks} == {again}
    if set(counts) == {6}:
        assert again == 0


def test_a_rank_sees_its_own_scenes_alone():
    owners = [{s for batch in SceneBatches(even(), 8, rank=rank, world_size=3) for s, _ in batch} for rank in range(3)]
    assert owners == [{0, 1}, {2, 3}, {4, 5, 6, 7}]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_order_does_not_depend_on_the_number_of_workers(workers):
    def order(count: int) -> list:
        data = {(s, v): (s, v) for s in range(8) for v in even()[s]}
        loader = ResumableLoader(
            data, batch_sampler=SceneBatches(even(), 4, rank=1, world_size=3), collate_fn=list, num_workers=count
        )
        return list(loader)

    assert order(workers) == order(0)


def test_views_of_a_scene_come_in_groups():
    for batch in SceneBatches(even(8, 7), 24, views_per_scene=3):
        assert set(Counter(scene for scene, _ in batch).values()) <= {3, 6}
        for start in range(0, 24, 3):
            assert len({scene for scene, _ in batch[start : start + 3]}) == 1


def test_visits_of_a_scene_are_spread_evenly():
    steps = [[scene for scene, _ in batch] for batch in SceneBatches(even(16, 20), 4)]
    for scene in range(16):
        visits = [step for step, scenes in enumerate(steps) if scene in scenes]
        gaps = [b - a for a, b in itertools.pairwise(visits)]
        assert max(gaps) <= 2 * 16 / 4


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch: int) -> list:
        sampler = SceneBatches(even(), 4, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order((1, 3), 2) != order((1, 4), 2), "phases have orders of their own"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_within_an_epoch(workers):
    def loader() -> ResumableLoader:
        sampler = SceneBatches(even(), 4)
        sampler.set_epoch(5)
        data = {(s, v): (s, v) for s in range(8) for v in even()[s]}
        return ResumableLoader(data, batch_sampler=sampler, collate_fn=list, num_workers=workers)

    whole, cut, cut_again, resumed = list(loader()), loader(), loader(), loader()
    stream = iter(cut)
    begun = [next(stream) for _ in range(5)]
    cut_again.load_state_dict(cut.state_dict())
    stream = iter(cut_again)
    begun += [next(stream) for _ in range(2)]
    resumed.load_state_dict(cut_again.state_dict())
    assert begun + list(resumed) == whole
    resumed.batch_sampler.set_epoch(5)
    assert list(resumed) == whole, "the next epoch begins at its beginning"


class Damaged(dict):
    """Views that cannot be read."""

    def __getitem__(self, key):
        raise UsageError(f"view {key[1]} of scene {key[0]} cannot be read: run scaled-ig check")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_cannot_read_is_one_sentence(workers):
    loader = ResumableLoader(Damaged(), batch_sampler=SceneBatches([[7]], 1), collate_fn=list, num_workers=workers)
    with pytest.raises(UsageError) as caught:
        list(loader)
    assert str(caught.value) == "view 7 of scene 0 cannot be read: run scaled-ig check"


def test_a_loader_cut_at_the_end_of_an_epoch_begins_the_next():
    loader = ResumableLoader(list(range(9)), batch_sampler=SceneBatches([[0, 1, 2]], 1), collate_fn=list)
    loader.batch_sampler.skip = 0
    other = ResumableLoader(list(range(9)), batch_sampler=SceneBatches([[0, 1, 2]], 1), collate_fn=list)
    other.load_state_dict({"done": 3})
    assert other.batch_sampler.skip == 0


@pytest.mark.parametrize(
    ("batch_size", "views_per_scene", "world_size", "expected"),
    [
        (8, 3, 1, "batch_size 8 must be a multiple of views_per_scene 3"),
        (0, 1, 1, "must be positive"),
        (6, 1, 3, "too small for 3 ranks to have a part in every batch: give a multiple of 4"),
        (6, 3, 4, "too small for 4 ranks to have a part in every batch: give a multiple of 12"),
        (8, 1, 5, "8 scenes have 4 shards, too few for 5 ranks"),
    ],
)
def test_batches_that_cannot_be_dealt_are_refused(batch_size, views_per_scene, world_size, expected):
    with pytest.raises(UsageError, match=expected):
        SceneBatches(even(), batch_size, views_per_scene, 0, world_size)


@pytest.mark.parametrize(("batch_size", "views_per_scene"), [(4, 1), (8, 2), (8, 1), (24, 1), (32, 2)])
@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 7, 8])
def test_many_ranks_share_the_batches_of_many_scenes(batch_size, views_per_scene, world_size):
    views = [[0, 1, 2, 3]] * 150  # 8 shards, which batches of fewer visits deal to fewer groups
    try:
        ranks = [SceneBatches(views, batch_size, views_per_scene, rank, world_size) for rank in range(world_size)]
    except UsageError as error:
        enough = int(str(error).rpartition(" ")[2])
        assert enough > batch_size
        SceneBatches(views, enough, views_per_scene, 0, world_size)  # what it asks for is enough
        return
    whole = [*SceneBatches(views, batch_size, views_per_scene)]
    parts = [*zip(*ranks, strict=True)]
    assert [[key for part in own for key in part] for own in parts] == whole
    assert all(len(part) > 0 for own in parts for part in own), "no rank is ever left without a view"
