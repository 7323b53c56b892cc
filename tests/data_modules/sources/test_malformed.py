"""Source files that others wrote: links, loops, values of other types, and documents without a bottom."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from data_modules.sources import eg3d
from data_modules.sources.basel import read_face_model
from data_modules.sources.eg3d import Eg3dSource
from data_modules.sources.files import walk
from data_modules.sources.meshes import MeshSource
from data_modules.sources.srn import SrnSource
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import see, write_eg3d, write_srn, write_transforms, zipped
from tests.data_modules.sources.test_basel import basel_file

DEEP = "[" * 100_000


def write_mesh(folder, seen, convention):
    folder.mkdir(parents=True)
    (folder / "three.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "source", "ending"),
    [(write_transforms, TransformsSource, ""), (write_srn, SrnSource, ""), (write_mesh, MeshSource, "/three")],
)
def test_scenes_behind_links_are_found_and_loops_end(tmp_path, write, source, ending):
    seen = see(16, 2)
    write(tmp_path / "elsewhere" / "far", seen, "opencv")
    write(tmp_path / "scenes" / "near", seen, "opencv")
    (tmp_path / "scenes" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "scenes" / "near" / "up").symlink_to(tmp_path)
    (tmp_path / "scenes" / "again").symlink_to(tmp_path / "scenes" / "near")
    found = source(tmp_path / "scenes")
    assert [scene.id for scene in found.scenes()] == [f"linked/far{ending}", f"near{ending}"]
    assert found.load(f"linked/far{ending}")[1]["file"].startswith("linked/far/")
    (tmp_path / "root").symlink_to(tmp_path / "scenes")
    assert [scene.id for scene in source(tmp_path / "root").scenes()] == [f"linked/far{ending}", f"near{ending}"]


def test_folders_that_are_not_to_be_entered_are_not_entered_by_links_either(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    entered = []
    for here, below, _ in walk(tmp_path):
        entered.append(here)
        below.clear()
    assert entered == [tmp_path]


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ['{"car": 5}', '{"car": null}', '{"car": [["a"]]}', '{"car": "a"}', "[]", "5", "null", "{", DEEP, "\xff"]
)
def test_maps_that_are_none(tmp_path, content):
    write_transforms(tmp_path / "a", see(16, 2), "opencv")
    (tmp_path / "dataset_map.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"dataset_map\.json"):
        TransformsSource(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        {"id": ["a"]}, {"id": 5}, {"id": ""}, {"mesh": None}, {"up": ["y"]}, {"yaw_deg": "90"}, {"yaw_deg": True},
        {"yaw_deg": 10**400},
        {"category": 5}, {"variant_of": ["a"]}, {"texture_override": 5}, {"sha256": "0"}, {"sha256": {"a.obj": 5}},
    ],
)  # fmt: skip
def test_rows_of_manifests_that_are_none(tmp_path, row):
    (tmp_path / "list.json").write_text(json.dumps([{"id": "a", "mesh": "a.obj"} | row]))
    with pytest.raises(UsageError, match=rf'list\.json(: "{next(iter(row))}" is no| is no readable JSON)'):
        MeshSource(tmp_path / "list.json")


@pytest.mark.parametrize("content", [DEEP, "5", "{}", "null"])
def test_manifests_that_are_none(tmp_path, content):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(UsageError, match=r"list\.json"):
        MeshSource(tmp_path / "list.json")


def test_keys_of_transforms_that_are_none(tmp_path):
    folder = write_transforms(tmp_path / "a", see(16, 2), "opencv", shape=None)
    assert TransformsSource(folder).load("a")[1]["shape"] == "a"
    write_transforms(tmp_path / "a", see(16, 2), "opencv", camera_convention=["opencv"])
    with pytest.raises(UsageError, match="camera_convention"):
        TransformsSource(folder).load("a")
    (folder / "transforms.json").write_text(DEEP)
    with pytest.raises(UsageError, match=r"transforms\.json"):
        TransformsSource(folder).load("a")


@pytest.mark.parametrize("lens", [{"fl_x": 0, "fl_y": 10}, {"fl_x": 10, "fl_y": 0}, {"fl_x": 0}, {"fl_x": 10**400}])
def test_a_focal_length_of_zero_is_not_the_other_axis(tmp_path, lens):
    folder = write_transforms(tmp_path / "a", see(16, 1), "opencv")
    document = json.loads((folder / "transforms.json").read_text())
    for key in ("fl_x", "fl_y"):
        del document["frames"][0][key]
    (folder / "transforms.json").write_text(json.dumps(document | lens))
    with pytest.raises(UsageError, match=r"focal length|lens cannot be read|no room in 64 bits"):
        TransformsSource(folder).load("a")


# -- EG3D -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "//x/y.png", "../x.png", "a/../../x.png", "a\\..\\..\\x", "", ".", "a\0/x", "\ud800/x"]
)
def test_labels_that_leave_the_folder_are_refused(tmp_path, name):
    folder = write_eg3d(tmp_path / "cars", see(16, 1), "opencv")
    document = json.loads((folder / "dataset.json").read_text())
    document["labels"][0][0] = name
    (folder / "dataset.json").write_text(json.dumps(document))
    for path in (folder, zipped(folder)):
        with pytest.raises(UsageError, match="no file below its folder"):
            Eg3dSource(path)


@pytest.mark.parametrize(
    "content", [DEEP, '{"labels": ' + DEEP, '{"labels": [["a/0.png", [1' + "0" * 400 + ", 0" * 24 + "]]]}"]
)
def test_labels_without_a_bottom_or_beyond_all_numbers(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UsageError, match=r"dataset\.json"):
        Eg3dSource(tmp_path)


def test_labels_of_lists(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["a/0.png", [[0.1]] * 25]]}))
    with pytest.raises(UsageError, match="no row of numbers"):
        Eg3dSource(tmp_path)


def test_archives_that_unpack_to_more_than_they_may(tmp_path, monkeypatch):
    archive = zipped(write_eg3d(tmp_path / "cars", see(16, 2), "opencv"))
    source = Eg3dSource(archive)
    monkeypatch.setattr(eg3d, "LARGEST_IMAGE", 50)
    with pytest.raises(UsageError, match=r"000000\.png of .*cars\.zip cannot be read \(it unpacks to .* 50 are"):
        source.load("balls")
    monkeypatch.setattr(eg3d, "LARGEST_LABELS", 50)
    eg3d._group.cache_clear()
    eg3d.read_labels.cache_clear()
    with pytest.raises(UsageError, match=r"dataset\.json of .*cars\.zip cannot be read \(it unpacks"):
        source.scenes()


def test_archives_that_lie_about_their_size_unpack_no_further(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("dataset.json", b" " * (1 << 24))
    with zipfile.ZipFile(tmp_path / "bomb.zip") as file:
        file.getinfo("dataset.json").file_size = 100
        with pytest.raises(zipfile.BadZipFile):
            eg3d._read_member(file, "dataset.json", 1000)


# -- Basel ------------------------------------------------------------------------------------------------------------


def replaced(name, value):
    def spoil(file):
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        replaced("shape", np.zeros(3)), replaced("shape/model", 5.0), replaced("shape/model/mean", 5.0),
        replaced("color/model/pcaBasis", 5.0), replaced("shape/model/pcaVariance", "text"),
        replaced("color/model/mean", None), replaced("shape/representer/cells", None),
        replaced("shape/representer/cells", 3), replaced("expression/model", 3),
        replaced("shape/model/pcaBasis", np.full((15, 2), b"a")),
    ],
)  # fmt: skip
def test_models_of_another_build_are_refused(tmp_path, spoil):
    path = basel_file(tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(UsageError, match=r"model\.h5"):
        read_face_model(path)
