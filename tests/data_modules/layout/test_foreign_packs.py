"""Packs that others wrote, with digests that fit: refused on opening, for every user of them, and at no cost."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_modules import layout
from data_modules.layout import PackIndex
from scaled_ig.errors import UsageError
from tests.data_modules.checking.packs import rehash, write_document

SCENE = ("shards", 0, "scenes", 0)
GONE = object()


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("shards",), GONE, "shards"), (("shards",), {}, "shards"), (("shards",), [], "no scene"),
        (("shards", 0), None, "a file is None"), (("shards", 0, "scenes"), 5, "scenes"),
        (("shards", 0, "file"), "../pack-00000.h5", "in its folder"), (("shards", 0, "file"), "/etc/x.h5", "in its"),
        (("shards", 0, "file"), "a\0.h5", "in its folder"), (("shards", 1, "file"), "pack-00000.h5", "twice"),
        (("shards", 0, "file"), 5, "file"), (("shards", 0, "bytes"), "9", "bytes"),
        ((*SCENE, "views"), -1, "-1 views"), ((*SCENE, "views"), 10**30, "views"), ((*SCENE, "views"), True, "views"),
        ((*SCENE, "views"), 2.0, "views"), ((*SCENE, "views"), GONE, "views"), (SCENE, [], "a scene is"),
        ((*SCENE, "id"), 5, "id"), ((*SCENE, "id"), "a\0", "printed"), ((*SCENE, "id"), "a\n", "printed"),
        ((*SCENE, "id"), "\ud800", "printed"), ((*SCENE, "category"), "\x1b[2J", "printed"),
        ((*SCENE, "shape"), None, "shape"), ((*SCENE, "sha256"), 1, "sha256"),
        ((*SCENE, "warnings"), 5, "warnings"), ((*SCENE, "warnings"), ["\x1b[2J"], "warnings"),
        ((*SCENE, "masks"), GONE, "masks"), ((*SCENE, "masks"), 1, "masks"),
        (("image_size",), [16], "image_size"), (("image_size",), [0, 16], "image_size"),
        (("image_size",), [16, 1 << 40], "image_size"), (("image_size",), 16, "image_size"),
        (("scene_radius",), float("nan"), "scene_radius"), (("scene_radius",), 0, "scene_radius"),
        (("scene_radius",), 10**400, "scene_radius"),
        (("split",), "last", "split"), (("split",), ["first"], "split"), (("jobs",), None, "jobs"),
        (("left_out",), [1], "left out"), (("left_out",), [{"id": "a"}], "left out"),
    ],
)  # fmt: skip
def test_an_index_that_others_wrote_is_refused_in_one_sentence(copy, keys, value, words):
    document = json.loads((copy / layout.INDEX_FILE).read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    if value is GONE:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    write_document(copy, document)
    with pytest.raises(UsageError, match=r"pack\.json (is not the index of a pack|cannot be read) \(") as caught:
        PackIndex.open(copy)
    assert words in str(caught.value) or "64 bits" in str(caught.value)
    assert len(str(caught.value)) < len(str(copy)) + 250
    assert str(caught.value).isprintable()


def test_an_index_of_many_scenes_opens(copy):
    document = json.loads((copy / layout.INDEX_FILE).read_text())
    row = document["shards"][0]
    scenes = [row["scenes"][0] | {"id": f"scene-{number:05d}", "sha256": f"{number:064d}"} for number in range(100)]
    document["shards"] = [row | {"file": layout.shard_name(shard), "scenes": scenes} for shard in range(20)]
    write_document(copy, document)
    assert PackIndex.open(copy).num_scenes == 2000


def external_link(file, other):
    file[layout.NEAR_FAR] = h5py.ExternalLink(str(other), layout.NEAR_FAR)


def soft_link(file, other):
    file[layout.NEAR_FAR] = h5py.SoftLink("/intrinsics")


def virtual(file, other):
    table = h5py.VirtualLayout((20, 2), "f4")
    table[:] = h5py.VirtualSource(str(other), "near_far", (20, 2))
    file.create_virtual_dataset(layout.NEAR_FAR, table)


def external_values(file, other):
    file.create_dataset(layout.NEAR_FAR, (20, 2), "f4", external=[(str(other), 0, 160)])


def group(file, other):
    file.create_group(layout.NEAR_FAR)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (external_link, "a link to something else"), (soft_link, "a link to something else"),
        (virtual, "in other files"), (external_values, "in other files"), (group, "no dataset near_far"),
    ],
)  # fmt: skip
def test_values_that_are_elsewhere_are_refused_on_opening(copy, tmp_path, spoil, words):
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(1000))
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        del file[layout.NEAR_FAR]
        spoil(file, other)
    assert words in refused(copy)


def refused(copy: Path) -> str:
    """The sentence for a shard whose digest was made to fit."""
    rehash(copy)
    shard = PackIndex.open(copy).shards[0]
    shard.verify()
    with pytest.raises(UsageError, match=r"pack-00000\.h5 .*--fix-drop") as caught:
        shard.open()
    return str(caught.value)


def test_a_group_behind_a_link_is_refused(copy, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other, h5py.File(copy / layout.shard_name(0), "a") as file:
        file.copy("scene", other)
        del file["scene"]
        file["scene"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "scene")
    assert "scene is no dataset of the file but a link" in refused(copy)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (layout.VIEWS, {"data": np.zeros((20, 16, 16, 3), "f4")}, "float32 instead of uint8"),
        (layout.VIEWS, {"data": np.zeros((19, 16, 16, 3), "u1")}, "(19, 16, 16, 3) instead of (20, any, any, 3)"),
        (layout.VIEWS, {"data": np.zeros((20, 16, 16, 4), "u1")}, "(20, 16, 16, 4)"),
        (layout.VIEWS, {"data": np.zeros((20, 16, 16, 3), "u1")}, "one chunk a view"),
        (layout.VIEWS, {"shape": (20, 16, 16, 3), "dtype": "u1", "chunks": (20, 16, 16, 3)}, "one chunk a view"),
        (layout.VIEWS, {"data": h5py.Empty("u1")}, "shape None"),
        (layout.MASKS, {"data": np.zeros((20, 16, 8), "u1")}, "(20, 16, 8) instead of (20, 16, 16)"),
        (layout.MASKS, {"data": np.zeros((20, 16, 16), "u1")}, "masks is not stored as one chunk a view"),
        (layout.CAMERA_TO_WORLD, {"data": np.zeros((19, 4, 4), "f4")}, "(19, 4, 4)"),
        (layout.INTRINSICS, {"data": np.zeros((20, 4), "f8")}, "float64 instead of float32"),
        (layout.SOURCE, {"data": ["{}", "{}"], "dtype": h5py.string_dtype()}, "instead of fixed-length text"),
    ],
)  # fmt: skip
def test_datasets_of_other_types_and_shapes_are_refused_on_opening(copy, name, values, words):
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        del file[name]
        file.create_dataset(name, **values)
    assert words in refused(copy)
