"""Which scenes and views belong to which stage and split."""

import itertools
import pickle

import pytest
import torch

from data_modules.base import MultiViewDataModule
from data_modules.basel import BaselFaces
from data_modules.layout import PackIndex, read_source_records
from data_modules.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.views import PackViews
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
    shapes = [record["shape"] for record in read_source_records(PackIndex.open(variants))]
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
    with pytest.raises(UsageError, match=r"has 12 scenes, too few .*lower --data.stage1_scenes or pack more"):
        ShapeNetCars(variants, stage1_scenes=13).scenes(1)
    with pytest.raises(UsageError, match=r"--data.stage2_scenes"):
        ShapeNetCars(variants, stage1_scenes=6, stage2_scenes=7).scenes(2)


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


def test_memory_disk_and_other_processes_give_the_same(variants):
    index, keys = PackIndex.open(variants), [(1, 4), (0, 20), (1, 0)]
    disk, memory = PackViews(index, [7, 2]), PackViews(index, [7, 2])
    memory.load([0, 1])
    for views in (memory, pickle.loads(pickle.dumps(disk))):
        assert torch.equal(views.__getitems__(keys).images, disk.__getitems__(keys).images)
    assert PackViews(index, [7, 2], with_images=False).__getitems__(keys).images is None
    assert len(disk) == 42


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
