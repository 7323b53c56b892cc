"""A pack is read as it was written, and refused when it does not fit."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_modules import layout
from data_modules.layout import PackIndex, split_views
from data_modules.pack import write_pack
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from scaled_ig.errors import UsageError


class RaggedViews(SceneSource):
    """Random images: scene ``s`` has ``3 + s`` views of 6 x 8 pixels."""

    viewpoints = None

    def __init__(self, count: int) -> None:
        self.count = count

    def scenes(self):
        return [SceneEntry(f"scène-{row}", "thing") for row in range(self.count)]

    def load(self, scene_id):
        row = int(scene_id.split("-")[1])
        generator = np.random.default_rng(row)
        views = 3 + row
        poses = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (views, 1, 1)).astype(np.float32)
        poses[:, 2, 3] = 1.3
        images = generator.integers(0, 255, (views, 6, 8, 3), dtype=np.uint8)
        return PosedViews(images, poses, generator.random((views, 4), dtype=np.float32)), {"shape": f"ü{row}"}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SCENES_PER_SHARD", 2)
        write_pack(RaggedViews(5), folder, render=None, split_rule="every_tenth")
    return folder


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_index_holds_what_the_source_gave(written):
    index = PackIndex.open(written)
    assert index.scene_ids == tuple(f"scène-{row}" for row in range(5))
    assert index.categories == ("thing",) * 5
    assert index.num_views.tolist() == [3, 4, 5, 6, 7]
    assert index.offsets.tolist() == [0, 3, 7, 12, 18, 25]
    assert index.image_size == (6, 8)
    assert index.split_rule == "every_tenth"
    assert (index.scene_radius, index.camera_distance) == (0.5, pytest.approx(1.3))
    assert [(s.first_scene, s.last_scene, s.first_view, s.last_view) for s in index.shards] == [
        (0, 2, 0, 7),
        (2, 4, 7, 18),
        (4, 5, 18, 25),
    ]
    assert [record["shape"] for record in layout.read_source_records(index)] == [f"ü{row}" for row in range(5)]


def test_cameras_and_pixels_come_back_bit_for_bit(written):
    index, source = PackIndex.open(written), RaggedViews(5)
    poses, intrinsics = layout.read_cameras(index)
    images = np.concatenate([h5py.File(shard.path)[layout.VIEWS][:] for shard in index.shards])
    given = [source.load(name)[0] for name in index.scene_ids]
    np.testing.assert_array_equal(images, np.concatenate([views.images for views in given]))
    np.testing.assert_array_equal(poses, np.concatenate([views.camera_to_world for views in given]))
    np.testing.assert_array_equal(intrinsics, np.concatenate([views.intrinsics for views in given]))
    assert (poses.dtype, intrinsics.dtype) == (np.float32, np.float32)


def test_every_dataset_has_a_checksum_and_a_view_is_a_chunk(written):
    with h5py.File(PackIndex.open(written).shards[0].path) as file:
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        assert len(datasets) == 8
        assert all(dataset.fletcher32 for dataset in datasets)
        assert file[layout.VIEWS].chunks == (1, 6, 8, 3)
        assert (file[layout.VIEWS].compression, file[layout.VIEWS].compression_opts) == ("gzip", 4)
        assert file.attrs["complete"]


@pytest.mark.parametrize(("views", "first_training_view"), [(160, 16), (50, 5), (40, 4), (1, 0), (10, 1), (11, 1)])
def test_split_first(views, first_training_view):
    train, test = split_views(views, "first")
    assert test.tolist() == list(range(first_training_view))
    assert train.tolist() == list(range(first_training_view, views))


def test_split_every_tenth():
    train, test = split_views(25, "every_tenth")
    assert test.tolist() == [0, 10, 20]
    assert sorted([*train, *test]) == list(range(25))
    with pytest.raises(ValueError, match="first or every_tenth"):
        split_views(25, "last")


def _edit_index(folder: Path, **changes) -> None:
    path = folder / layout.INDEX_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _first_shard(folder: Path) -> Path:
    return folder / layout.shard_name(0, 3)


def test_refuses_a_folder_without_index(tmp_path):
    with pytest.raises(UsageError, match="no finished pack"):
        PackIndex.open(tmp_path)


def test_refuses_another_version(copy):
    _edit_index(copy, schema_version=2)
    with pytest.raises(UsageError, match="version 2"):
        PackIndex.open(copy)


def test_refuses_an_index_that_lacks_a_key(copy):
    _edit_index(copy, split={})
    with pytest.raises(UsageError, match="lacks 'test'"):
        PackIndex.open(copy)


def test_refuses_an_unfinished_shard(copy):
    with h5py.File(_first_shard(copy), "a") as file:
        del file.attrs["complete"]
    with pytest.raises(UsageError, match="not finished"):
        PackIndex.open(copy)


def test_refuses_a_missing_shard(copy):
    _first_shard(copy).unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        PackIndex.open(copy)


@pytest.mark.parametrize("offsets", [[0, 3, 8], [1, 3, 7], [0, 7, 7]])
def test_refuses_a_wrong_offset_table(copy, offsets):
    with h5py.File(_first_shard(copy), "a") as file:
        file[layout.OFFSET][:] = offsets
    with pytest.raises(UsageError, match="offset table"):
        PackIndex.open(copy)


def test_refuses_an_id_that_occurs_twice(copy):
    with h5py.File(_first_shard(copy), "a") as file:
        file[layout.SCENE_ID][1] = file[layout.SCENE_ID][0]
    with pytest.raises(UsageError, match="occurs twice"):
        PackIndex.open(copy)
