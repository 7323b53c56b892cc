"""Masks on their way from a pack to a phase: in memory or from files, only where asked, of training views alone."""

import pickle

import pytest
import torch

from data_modules import layout
from data_modules.base import PhaseData
from data_modules.layout import PackIndex
from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.views import PackViews
from tests.conftest import BallScenes


@pytest.fixture(scope="module")
def half_masked(tmp_path_factory):
    """Six scenes of ten views, the first three with masks, two to a file."""
    folder = tmp_path_factory.mktemp("packs") / "half"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SCENES_PER_SHARD", 2)
        write_pack(BallScenes(6, 10, 8, masked=3), folder, render=None)
    return folder


def given_masks(scene: int, view: int) -> torch.Tensor:
    masks = BallScenes(6, 10, 8, masked=3).load(f"ball-{scene}")[0].masks
    return torch.zeros(8, 8, dtype=torch.uint8) if masks is None else torch.from_numpy(masks[view])


def test_memory_files_and_other_processes_give_the_same(half_masked):
    index, scenes, keys = PackIndex.open(half_masked), [4, 2, 3, 0], [(1, 4), (0, 9), (3, 0), (2, 7), (1, 4)]
    expected = torch.stack([given_masks(scenes[scene], view) for scene, view in keys])
    files, memory, shared, half = (PackViews(index, scenes, with_masks=True) for _ in range(4))
    memory.load(range(4))
    shared.load(range(4), shared=True)
    half.load([1])
    assert [views.is_in_memory for views in (files, memory)] == [False, True]
    for views in (files, memory, shared, half, pickle.loads(pickle.dumps(files))):
        batch = views.__getitems__(keys)
        assert batch.masks.dtype == torch.uint8
        assert torch.equal(batch.masks, expected)
        assert batch.masked.tolist() == [True, False, True, False, True]
        assert torch.equal(batch.images, files.__getitems__(keys).images)
    assert files.bytes_of([0, 1]) == 20 * 8 * 8 * 4
    assert memory.bytes_of([0, 1]) == 0


def test_batches_carry_masks_only_where_asked(half_masked):
    index = PackIndex.open(half_masked)
    plain = PackViews(index, [0]).__getitem__((0, 1))
    assert (plain.masks, plain.masked) == (None, None)
    bare = PackViews(index, [0], with_images=False, with_masks=True).__getitem__((0, 1))
    assert bare.images is None
    assert torch.equal(bare.masks[0], given_masks(0, 1))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("needs_images", "needs_masks"), [(True, True), (False, True), (True, False)])
def test_a_phase_gets_what_it_says_it_needs(half_masked, in_memory, needs_images, needs_masks):
    usual = ShapeNetCars(str(half_masked), stage1_scenes=6, batch_size=6, in_memory=in_memory, num_workers=0)
    data = usual.for_phase(PhaseData(with_images=needs_images, with_masks=needs_masks))
    batch = next(iter(data.train_dataloader()))
    assert (batch.images is not None, batch.masks is not None) == (needs_images, needs_masks)
    if needs_masks:
        pairs = zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True)
        expected = [given_masks(data.scenes(1)[scene], view) for scene, view in pairs]
        assert torch.equal(batch.masks, torch.stack(expected))
        assert batch.masked.tolist() == [data.scenes(1)[scene] < 3 for scene in batch.scene_index.tolist()]
        assert data.views(1).is_in_memory == in_memory
    assert next(data.some_training_views(3)).masks is None


@pytest.mark.parametrize("val_fraction", [0.0, 0.3])
def test_masks_of_a_scene_are_those_of_its_training_views(half_masked, val_fraction):
    data = ShapeNetCars(str(half_masked), stage1_scenes=2, split_seed=None, val_fraction=val_fraction)
    for stage, scene, row in ((1, 1, 1), (2, 0, 2)):
        masks, cameras = data.masks_of(stage, scene)
        train = data.split(stage, "train")[scene]
        assert len(train) == {0.0: 9, 0.3: 6}[val_fraction]
        assert torch.equal(masks, torch.stack([given_masks(row, view) for view in train]))
        whole = PackViews(data.index, [row]).__getitems__([(0, view) for view in train]).cameras
        assert torch.equal(cameras.camera_to_world, whole.camera_to_world)
        assert torch.equal(cameras.intrinsics, whole.intrinsics)
    assert data.masks_of(2, 1) is None
