"""Which scenes and views belong to which stage and split."""

import itertools
import pickle
import re
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules import layout
from data_modules.base import MultiViewDataModule, PhaseData
from data_modules.basel import BaselFaces
from data_modules.layout import PackIndex, Shard
from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.choice import SceneChoice
from data_modules.streaming.memory import available_bytes
from data_modules.streaming.views import PackViews
from scaled_ig.errors import UsageError
from tests.conftest import BallScenes


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Twelve scenes, every three of them variants of one shape, 21 views of 8 x 8 pixels."""
    folder = tmp_path_factory.mktemp("packs") / "variants"
    write_pack(BallScenes(12, 21, 8, variants=3), folder, render=None)
    return str(folder)


@pytest.mark.parametrize("split_seed", [None, 0, 1, 2])
@pytest.mark.parametrize("stage1_scenes", [3, 4, 6])
def test_no_shape_is_in_both_stages(variants, split_seed, stage1_scenes):
    data = ShapeNetCars(variants, stage1_scenes=stage1_scenes, split_seed=split_seed)
    shapes = PackIndex.open(variants).shapes
    first, second = data.scenes(1), data.scenes(2)
    assert len(first) == stage1_scenes
    assert not set(first) & set(second)
    assert not {shapes[scene] for scene in first} & {shapes[scene] for scene in second}
    assert len(second) == 12 - 3 * -(-stage1_scenes // 3)
    assert data.scene_ids(1) == [f"ball-{scene}" for scene in first]


def test_the_draw_depends_on_its_seed_alone(variants):
    drawn = [ShapeNetCars(variants, stage1_scenes=6, split_seed=seed).scenes(1) for seed in (0, 0, *range(1, 8))]
    assert drawn[0] == drawn[1]
    assert len({tuple(scenes) for scenes in drawn}) > 1
    assert ShapeNetCars(variants, stage1_scenes=6, split_seed=None).scenes(1) == list(range(6))
    assert ShapeNetCars(variants, stage1_scenes=6, stage2_scenes=2, split_seed=None).scenes(2) == [6, 7]


def test_too_few_scenes_are_said(variants):
    with pytest.raises(
        UsageError, match=r"has 12 scenes, too few .*lower --data.stage1_scenes, such as .*or pack more"
    ):
        ShapeNetCars(variants, stage1_scenes=13).scenes(1)
    with pytest.raises(UsageError, match=r"--data.stage2_scenes"):
        ShapeNetCars(variants, stage1_scenes=6, stage2_scenes=7).scenes(2)


def test_a_small_pack_is_told_what_it_can_be_dealt_to(variants):
    with pytest.raises(UsageError) as refused:
        ShapeNetCars(variants, stage1_scenes=13).scenes(1)
    numbers = {name: int(count) for name, count in re.findall(r"--data\.(\w+) (\d+)", str(refused.value))}
    assert set(numbers) == {"stage1_scenes", "stage2_scenes"}
    assert [len(ShapeNetCars(variants, **numbers).scenes(stage)) for stage in (1, 2)] == list(numbers.values())


@pytest.mark.parametrize("module", [ShapeNetCars, BaselFaces])
def test_a_missing_pack_says_how_to_make_one(module, tmp_path):
    with pytest.raises(UsageError, match=r"has no pack.json.*To make one: scaled-ig pack .*scaled-ig synthesize"):
        module(str(tmp_path)).scenes(1)


@pytest.mark.parametrize("val_fraction", [0.0, 0.05, 0.3])
def test_splits_are_disjoint_and_exhaustive(variants, val_fraction):
    data = ShapeNetCars(variants, stage1_scenes=3, val_fraction=val_fraction)
    for train, val, test in zip(*(data.split(1, split) for split in ("train", "val", "test")), strict=True):
        assert sorted(train + val + test) == list(range(21))
        assert test == [0, 1], "21 - ceil(18.9) views"
        assert len(val) == {0.0: 0, 0.05: 1, 0.3: 6}[val_fraction]
    if val_fraction == 0.3:
        gaps = [b - a for a, b in itertools.pairwise(val)]
        assert max(gaps) - min(gaps) <= 1, "val views are spread over the training views"


@pytest.mark.parametrize(
    ("train_views", "val_fraction", "watched"), [(1, 0.0, 0), (3, 0.0, 0), (7, 0.3, 3), (99, 0.0, 0)]
)
def test_few_training_views_are_spread_over_all(variants, train_views, val_fraction, watched):
    data = ShapeNetCars(variants, stage1_scenes=3, train_views=train_views, val_fraction=val_fraction)
    for train, val, test in zip(*(data.split(1, split) for split in ("train", "val", "test")), strict=True):
        taken = sorted(train + val)
        assert (len(taken), len(val), test) == (min(train_views, 19), watched, [0, 1])
        gaps = [b - a for a, b in itertools.pairwise([*taken, taken[0] + 19])]
        assert max(gaps) - min(gaps) <= 1


def test_a_scene_whose_only_view_is_watched_is_refused(variants):
    data = ShapeNetCars(variants, stage1_scenes=3, train_views=1, val_fraction=0.05)
    with pytest.raises(UsageError, match=r"no view to train on: lower --data.val_fraction, raise --data.train_views"):
        data.sampler()


def test_views_are_those_of_the_pack(variants):
    data = ShapeNetCars(variants, stage1_scenes=6, split_seed=4)
    keys = [(5, 20), (0, 3), (5, 20), (2, 0)]
    (batch,) = data.batches(1, keys)
    assert batch.scene_index.tolist() == [5, 0, 5, 2]
    assert batch.view_index.tolist() == [20, 3, 20, 0]
    source = BallScenes(12, 21, 8, variants=3)
    for row, (scene, view) in enumerate(keys):
        expected, _ = source.load(data.scene_ids(1)[scene])
        assert torch.equal(batch.images[row], torch.from_numpy(expected.images[view]).permute(2, 0, 1))
        assert torch.equal(batch.cameras.camera_to_world[row], torch.from_numpy(expected.camera_to_world[view]))
        assert torch.equal(batch.cameras.intrinsics[row], torch.from_numpy(expected.intrinsics[view]))
    torch.testing.assert_close(batch.cameras.near_far, torch.tensor([[0.8, 1.8]]).expand(4, 2))


def test_memory_disk_and_other_processes_give_the_same(variants):
    index, keys = PackIndex.open(variants), [(1, 4), (0, 20), (1, 0)]
    disk, memory, shared, half = (PackViews(index, [7, 2]) for _ in range(4))
    memory.load([0, 1])
    shared.load([0, 1], shared=True)
    half.load([1])
    for views in (memory, shared, half, pickle.loads(pickle.dumps(disk))):
        assert torch.equal(views.__getitems__(keys).images, disk.__getitems__(keys).images)
    assert PackViews(index, [7, 2], with_images=False).__getitems__(keys).images is None
    assert len(disk) == 42
    assert disk.bytes_of([0, 1]) == 42 * 8 * 8 * 3 == memory.__getitems__([(0, v) for v in range(21)]).images.nbytes * 2


@pytest.mark.parametrize("count", [20, 60, 100, 1000])
def test_some_training_views_are_spread_over_all_scenes(variants, count):
    data = ShapeNetCars(variants, stage1_scenes=6)
    keys = [
        (int(s), int(v))
        for batch in data.some_training_views(count)
        for s, v in zip(batch.scene_index, batch.view_index, strict=True)
    ]
    assert len(set(keys)) == len(keys)
    assert min(count, 114) * 0.5 <= len(keys) <= count
    per_scene = [sum(scene == s for scene, _ in keys) for s in range(6)]
    assert max(per_scene) - min(per_scene) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_the_training_stream_without_a_trainer(variants, workers):
    data: MultiViewDataModule = ShapeNetCars(variants, stage1_scenes=6, batch_size=8, num_workers=workers)
    seen = [
        (int(s), int(v))
        for batch in data.train_dataloader()
        for s, v in zip(batch.scene_index, batch.view_index, strict=True)
    ]
    train = data.split(1, "train")
    assert set(seen) == {(s, v) for s in range(6) for v in train[s]}
    assert len(seen) == 8 * data.steps_per_epoch()


def test_stages_are_chosen_by_range_list_file_and_category(variants, tmp_path):
    (tmp_path / "ids.txt").write_text("ball-9\nball-3\n\n")
    by_range = ShapeNetCars(variants, stage1_scenes=SceneChoice(range=(0, 3)), stage2_scenes=SceneChoice(range=(3, 9)))
    assert by_range.scene_ids(1) == ["ball-0", "ball-1", "ball-2"]
    assert by_range.scene_ids(2) == [f"ball-{row}" for row in range(3, 9)]
    mixed = ShapeNetCars(
        variants, stage1_scenes=SceneChoice(ids=["ball-7", "ball-6"]), stage2_scenes=2, split_seed=None
    )
    assert mixed.scene_ids(1) == ["ball-6", "ball-7"]
    assert mixed.scene_ids(2) == ["ball-0", "ball-1"]
    rest = ShapeNetCars(variants, stage1_scenes=SceneChoice(file=str(tmp_path / "ids.txt")))
    assert rest.scene_ids(1) == ["ball-3", "ball-9"]
    assert rest.scene_ids(2) == [f"ball-{row}" for row in (0, 1, 2, 6, 7, 8)], "variants of a shape stay out of stage 2"
    part = ShapeNetCars(variants, stage1_scenes=3, scenes=SceneChoice(category="ball", range=(6, 12)))
    assert sorted(part.scene_ids(1) + part.scene_ids(2)) == sorted(f"ball-{row}" for row in range(6, 12))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"range": (3, 13)}, r"range \[3, 13\] does not fit the 12"),
        ({"range": (3, 3)}, r"range \[3, 3\]"),
        ({"ids": ["bal-3"]}, "no scene bal-3 to choose: did you mean ball-3"),
        ({"file": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"category": "cat"}, "no scene of category 'cat': choose among ball"),
        ({"range": (0, 1), "ids": ["a"]}, "one of range and ids: leave out the others"),
        ({}, "needs one of range"),
        ({"ids": []}, "chooses none"),
    ],
)
def test_choices_that_the_pack_does_not_have(variants, choice, message):
    with pytest.raises(UsageError, match=message):
        ShapeNetCars(variants, scenes=SceneChoice(**choice)).scenes(1)


def test_stages_that_share_a_shape_are_refused(variants):
    data = ShapeNetCars(variants, stage1_scenes=SceneChoice(ids=["ball-3"]), stage2_scenes=SceneChoice(ids=["ball-5"]))
    with pytest.raises(UsageError, match="ball-3 of stage 1 and ball-5 of stage 2 are of one shape"):
        data.scenes(1)


class Twins(BallScenes):
    """Scenes 0 and 1 have the same views under other names; scene 2 has one view twice."""

    def load(self, scene_id):
        views, record = super().load("ball-0" if scene_id == "ball-1" else scene_id)
        if scene_id == "ball-2":
            for values in (views.images, views.camera_to_world, views.intrinsics):
                values[5] = values[0]
        return views, record | {"shape": scene_id}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "twins"
    write_pack(Twins(4, 10, 8), folder, render=None)
    return str(folder)


def test_stages_that_share_views_are_refused(twins):
    with pytest.raises(UsageError, match="ball-0 of stage 1 and ball-1 of stage 2 have the same views"):
        ShapeNetCars(twins, stage1_scenes=1, split_seed=None).scenes(2)


def test_test_views_that_are_trained_on_are_refused(twins):
    data = ShapeNetCars(twins, stage1_scenes=1, scenes=SceneChoice(range=(2, 4)), split_seed=None, batch_size=1)
    with pytest.raises(UsageError, match="scene ball-2: test view 0 and training view 5 have the same camera"):
        data.train_dataloader()


@pytest.fixture(scope="module")
def four_files(tmp_path_factory):
    """Eight scenes in four files."""
    folder = tmp_path_factory.mktemp("packs") / "four"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SCENES_PER_SHARD", 2)
        write_pack(BallScenes(8, 10, 8), folder, render=None)
    return folder


@pytest.mark.parametrize(("world_size", "files"), [(1, [4]), (2, [2, 2]), (3, [1, 1, 2]), (4, [1] * 4)])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_rank_opens_only_the_files_of_its_scenes(four_files, monkeypatch, world_size, files, in_memory):
    opened: set[str] = set()
    open_file = Shard.open
    monkeypatch.setattr(Shard, "open", lambda shard: (opened.add(shard.path.name), open_file(shard))[1])
    found = []
    for rank in range(world_size):
        data = ShapeNetCars(str(four_files), stage1_scenes=8, batch_size=8, in_memory=in_memory, num_workers=0)
        monkeypatch.setattr(data, "_rank", lambda rank=rank: (rank, world_size))
        for split in ("train", "test"):
            list(data.batches(1, data.own_views(1, split)))
        list(data.train_dataloader())
        found.append(len(opened))
        opened.clear()
    assert found == files


def test_open_files_are_bounded(four_files, monkeypatch):
    monkeypatch.setattr("data_modules.streaming.views.OPEN_FILES", 2)
    views = PackViews(PackIndex.open(four_files), range(8))
    for scene in (0, 2, 4, 6, 0, 7):
        views.__getitems__([(scene, 3)])
        assert len(views._open) <= 2
        assert all(values for kept in views._open.values() for values in kept.values()), "those kept are open"
    every = views.__getitems__([(scene, 3) for scene in range(8)])
    expected = [BallScenes(8, 10, 8).load(f"ball-{row}")[0].images[3] for row in range(8)]
    assert torch.equal(every.images.permute(0, 2, 3, 1), torch.from_numpy(np.stack(expected)))


def test_damage_is_found_before_a_file_is_opened(four_files, tmp_path):
    folder = Path(shutil.copytree(four_files, tmp_path / "copy"))
    file = folder / "pack-00002.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    data = ShapeNetCars(str(folder), stage1_scenes=4, split_seed=None, batch_size=4)
    data.views(1)
    with pytest.raises(UsageError, match=r"pack-00002\.h5 is not the file that was packed .* --fix-drop"):
        data.views(2)


def test_auto_streams_what_does_not_fit(variants, monkeypatch):
    def is_in_memory(**options) -> bool:
        return ShapeNetCars(variants, stage1_scenes=6, **options).views(1).is_in_memory

    needed = 6 * 21 * 8 * 8 * 3
    assert is_in_memory()
    monkeypatch.setattr("data_modules.base.available_bytes", lambda: 2 * needed - 1)
    assert not is_in_memory()
    assert is_in_memory(in_memory=True)
    monkeypatch.setattr("data_modules.base.available_bytes", lambda: 2 * needed)
    assert is_in_memory()
    monkeypatch.setattr("data_modules.base.available_shared_bytes", lambda: needed - 1)
    assert not is_in_memory(num_workers=2)
    assert is_in_memory(), "nothing is shared without workers"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("views_per_scene", -1), ("stage1_scenes", -1), ("stage2_scenes", 0), ("num_workers", -1),
        ("split_seed", -1), ("seed", -1), ("val_fraction", 1.0), ("val_fraction", -0.5), ("val_fraction", float("nan")),
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(variants, name, value):
    with pytest.raises(UsageError, match=rf"^ShapeNetCars\.{name} {value} must be "):
        ShapeNetCars(variants, **{name: value})


def test_stage_1_may_have_been_trained_elsewhere(variants):
    data = ShapeNetCars(variants, stage1_scenes=0, split_seed=None)
    assert data.scenes(2) == list(range(12))
    with pytest.raises(UsageError, match=r"data\.stage1_scenes leaves stage 1 without a scene: raise it$"):
        data.scenes(1)


def test_views_are_those_of_the_scenes_in_the_order_asked_for(variants):
    data = ShapeNetCars(variants, stage1_scenes=6, split_seed=3)
    ids = [data.scene_ids(2)[scene] for scene in (4, 0, 3)]
    batches = list(data.views_of(2, ids, "test"))
    keys = [key for batch in batches for key in zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True)]
    assert keys == [(row, view) for row in range(3) for view in data.split(2, "test")[0]]
    own = data.views(2).__getitems__([(scene, view) for scene in (4, 0, 3) for view in data.split(2, "test")[scene]])
    assert torch.equal(torch.cat([batch.images for batch in batches]), own.images)
    data = data.for_phase(PhaseData(2, wave=range(2, 6)))
    assert [len(batch) for batch in data.views_of(2, ids[:1], "train")] == [len(data.split(2, "train")[0])]
    with pytest.raises(UsageError, match=f"stage 2 has no scene '{ids[1]}': restore the pack"):
        next(data.views_of(2, ids, "test"))


def test_the_memory_of_one_stage_goes_before_the_next_is_loaded(variants):
    data = ShapeNetCars(variants, stage1_scenes=6, batch_size=4)
    first = data.views(1)
    data.cycle = first.cycle = [data, first]
    memory = weakref.ref(first._memory[layout.VIEWS][0])
    del first, data.cycle
    data.views(2)
    assert memory() is None


def test_memory_that_a_container_may_have(tmp_path, monkeypatch):
    for name, text in (
        ("memory.max", str(8 << 30)),
        ("memory.current", str(7 << 30)),
        ("memory.stat", f"anon 5\ninactive_file {6 << 30}\n"),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "meminfo").write_text(f"MemTotal: {64 << 20} kB\nMemAvailable: {32 << 20} kB\n")
    monkeypatch.setattr("data_modules.streaming.memory.MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr("data_modules.streaming.memory.CGROUP", tmp_path)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 24}[name])
    assert available_bytes() == 7 << 30
    (tmp_path / "memory.max").write_text("max")
    assert available_bytes() == 32 << 30
