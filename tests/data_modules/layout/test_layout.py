"""A pack is read as it was written, and refused when it does not fit."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_modules import layout
from data_modules.layout import PackIndex, split_views
from data_modules.packing.pack import write_pack
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from scaled_ig.errors import UsageError


class RaggedViews(SceneSource):
    """Random images: scene ``s`` has ``3 + s`` views of 6 x 8 pixels; those of odd number have masks."""

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
        lens = generator.random((views, 4), dtype=np.float32)
        masks = generator.integers(0, 256, (views, 6, 8), dtype=np.uint8) if row % 2 else None
        return PosedViews(images, poses, lens, masks=masks), {"shape": f"ü{row}"}


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
    assert index.masked.tolist() == [False, True, False, True, False]
    assert [shard.has_masks for shard in index.shards] == [True, True, False]
    assert index.image_size == (6, 8)
    assert index.split_rule == "every_tenth"
    assert index.scene_radius == 0.5
    assert index.shapes == tuple(f"ü{row}" for row in range(5))
    assert (index.left_out, len(index.document["jobs"])) == ((), 1)
    assert [index.shard_of(scene) for scene in range(5)] == [0, 0, 1, 1, 2]
    assert [(s.first_scene, s.last_scene, s.first_view, s.last_view) for s in index.shards] == [
        (0, 2, 0, 7),
        (2, 4, 7, 18),
        (4, 5, 18, 25),
    ]
    records = [record for shard in index.shards for record in layout.read_source_records(shard)]
    assert [record["shape"] for record in records] == [f"ü{row}" for row in range(5)]


def test_cameras_and_pixels_come_back_bit_for_bit(written):
    index, source = PackIndex.open(written), RaggedViews(5)
    for scene, name in enumerate(index.scene_ids):
        with index.shards[index.shard_of(scene)].open() as file:
            views = layout.read_scene(file, index, scene)
        given = source.load(name)[0]
        for key in ("images", "camera_to_world", "intrinsics"):
            found, expected = getattr(views, key), getattr(given, key)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
        assert (views.masks is None) == (given.masks is None)
        if given.masks is not None:
            np.testing.assert_array_equal(views.masks, given.masks)
        assert views.near_far is not None
        np.testing.assert_allclose(views.near_far, np.tile([0.8, 1.8], (3 + scene, 1)), rtol=1e-6)
        assert index.digests[scene] == layout.scene_sha256(*list(vars(views).values())[:5])


def test_every_dataset_has_a_checksum_and_a_view_is_a_chunk(written):
    with h5py.File(PackIndex.open(written).shards[0].path) as file:
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        assert len(datasets) == 11
        assert all(dataset.fletcher32 for dataset in datasets)
        assert file[layout.VIEWS].chunks == (1, 6, 8, 3)
        assert (file[layout.VIEWS].compression, file[layout.VIEWS].compression_opts) == ("gzip", 4)
        assert file[layout.MASKS].chunks == (1, 6, 8)
        assert (file[layout.MASKS].compression, file[layout.MASKS].compression_opts) == ("gzip", 4)
        assert file[layout.MASKED][:].tolist() == [0, 1]
        assert not file[layout.MASKS][:3].any()
        assert file[layout.MASKS].id.get_num_chunks() == 4, "the three views of the other scene take no room"
        assert file.attrs["complete"]
        strings = {name: value for name, value in file.attrs.items() if isinstance(value, bytes | str)}
        assert {"schema", "camera_convention", "created_utc", "renderer"} <= strings.keys()
        assert all(isinstance(value, np.bytes_) for value in strings.values()), (
            "HDF5 has no checksum over other strings"
        )


def test_a_file_without_masks_is_one_of_schema_2_but_for_the_number(written):
    with h5py.File(PackIndex.open(written).shards[2].path) as file:
        assert layout.MASKS not in file
        assert layout.MASKED not in file


def test_masks_are_part_of_the_digest(written):
    views, _ = RaggedViews(5).load("scène-1")
    near_far = layout.ball_near_far(views.camera_to_world)
    bare = views.images, views.camera_to_world, views.intrinsics, near_far
    assert views.masks is not None
    digests = {layout.scene_sha256(*bare), layout.scene_sha256(*bare, views.masks)}
    views.masks[0, 0, 0] ^= 1
    assert len(digests | {layout.scene_sha256(*bare, views.masks)}) == 3


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


def test_refuses_a_folder_without_index(tmp_path):
    with pytest.raises(UsageError, match="no finished pack"):
        PackIndex.open(tmp_path)


def test_refuses_another_version(copy):
    path = copy / layout.INDEX_FILE
    document = json.loads(path.read_text()) | {"schema_version": 1}
    path.write_text(json.dumps(document | {"sha256": layout.json_sha256(document)}))
    with pytest.raises(UsageError, match="is of version 1, this program reads 2 and 3"):
        PackIndex.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 2}', "[" * 100_000, "\xff"])
def test_refuses_what_is_no_index(copy, text):
    (copy / layout.INDEX_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"pack\.json"):
        PackIndex.open(copy)


def test_every_flipped_bit_of_the_index_is_refused_or_harmless(copy, monkeypatch):
    sound, expected = (copy / layout.INDEX_FILE).read_bytes(), PackIndex.open(copy).document
    refused, torn = 0, bytearray()
    monkeypatch.setattr(Path, "read_bytes", lambda path: bytes(torn))
    for place in range(len(sound)):
        for bit in range(8):
            torn = bytearray(sound)
            torn[place] ^= 1 << bit
            try:
                assert PackIndex.open(copy).document == expected, f"bit {bit} of byte {place}"
            except UsageError:
                refused += 1
    assert refused > 7 * len(sound)


def test_the_index_is_read_without_the_shards(copy):
    expected = PackIndex.open(copy)
    for shard in expected.shards:
        shard.path.unlink()
    assert PackIndex.open(copy).scene_ids == expected.scene_ids


def test_a_flipped_bit_of_a_shard_is_seen_before_it_is_read(copy):
    shard = PackIndex.open(copy).shards[0]
    shard.verify()
    sound = shard.path.read_bytes()
    for place in range(0, len(sound), 97):
        torn = bytearray(sound)
        torn[place] ^= 1 << place % 8
        shard.path.write_bytes(torn)
        with pytest.raises(UsageError, match=r"pack-00000\.h5 is not the file that was packed"):
            shard.verify()
    shard.path.write_bytes(sound[:-1])
    with pytest.raises(UsageError, match="is not the file that was packed"):
        shard.verify()


def test_a_missing_shard_is_named(copy):
    shard = PackIndex.open(copy).shards[1]
    shard.path.unlink()
    for look in (shard.verify, shard.open):
        with pytest.raises(UsageError, match=r"pack-00001\.h5 cannot be read .*--fix-drop"):
            look()
