"""A pack of schema 2, which knew no masks, is read, checked, exported, added to and trained from as before."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules import layout
from data_modules.checking.check import check_pack
from data_modules.checking.drop import write_sound_scenes
from data_modules.layout import PackIndex
from data_modules.packing.export import export_transforms
from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.sources.base import SceneEntry
from data_modules.sources.transforms import TransformsSource
from tests.conftest import BallScenes
from tests.data_modules.checking.packs import lines_of

FIXTURE = Path(__file__).parent / "schema2"
FILES = {
    "pack-00000.h5": "671a519a2ee2bc49f2e2c269276de21bcf6a08350d131b364f4371680533bc69",
    "pack.json": "12513bd676bfde5eac37d9ec5d55494fa2956bd36e43dfc1578342c334db5fda",
}


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "pack"))


def test_the_files_are_those_of_then():
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FIXTURE.iterdir()} == FILES
    assert json.loads((FIXTURE / "pack.json").read_text())["schema_version"] == 2


def test_it_is_read_and_checked(copy):
    index = PackIndex.open(copy)
    assert (index.scene_ids, index.num_views.tolist()) == (("ball-0", "ball-1"), [10, 10])
    assert index.masked.tolist() == [False, False]
    for scene in (0, 1):
        with index.shards[0].open() as file:
            views = layout.read_scene(file, index, scene)
        assert views.masks is None
        assert layout.scene_sha256(*list(vars(views).values())[:5]) == index.digests[scene]
        given, _ = BallScenes(2, 10, 16).load(f"ball-{scene}")
        assert abs(views.images.astype(int) - given.images).max() <= 1, "rounding differs between machines"
        np.testing.assert_allclose(views.camera_to_world, given.camera_to_world, atol=1e-5)
    assert lines_of(copy) == []


def test_it_is_exported_and_packed_again(copy, tmp_path):
    assert export_transforms(PackIndex.open(copy), tmp_path / "files") == 2
    again = write_pack(TransformsSource(tmp_path / "files"), tmp_path / "again", None)
    assert again.digests == PackIndex.open(copy).digests
    assert not again.masked.any()


def test_it_trains_without_masks(copy):
    data = ShapeNetCars(str(copy), stage1_scenes=1, stage2_scenes=1, batch_size=4, split_seed=None)
    assert sum(len(batch) for batch in data.train_dataloader()) >= 8
    assert data.masks_of(1, 0) is None
    views = data.views(1)
    views.with_masks = True
    batch = views.__getitems__([(0, 2), (0, 3)])
    assert torch.equal(batch.masks, torch.zeros(2, 16, 16, dtype=torch.uint8))
    assert batch.masked.tolist() == [False, False]


class More(BallScenes):
    """Balls 2 and 3 under other names."""

    def scenes(self):
        return [SceneEntry(f"more-{row}", "ball") for row in (2, 3)]


def test_scenes_with_masks_are_added_to_it(copy, tmp_path):
    before = PackIndex.open(copy)
    index = write_pack(More(4, 10, 16, masked=3), copy, None, append=True)
    assert index.document["schema_version"] == 3
    assert index.scene_ids == (*before.scene_ids, "more-2", "more-3")
    assert index.digests[:2] == before.digests
    assert index.masked.tolist() == [False, False, True, False]
    assert (copy / "pack-00000.h5").read_bytes() == (FIXTURE / "pack-00000.h5").read_bytes()
    assert lines_of(copy) == []
    kept = write_sound_scenes(check_pack(index, processes=1, quiet=True), tmp_path / "kept", quiet=True)
    assert (kept.digests, kept.masked.tolist()) == (index.digests, index.masked.tolist())
    assert lines_of(tmp_path / "kept") == []
