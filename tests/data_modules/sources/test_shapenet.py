"""ShapeNetCore's two trees, their axes, and textures that its archives lack."""

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.base import srgb_to_linear
from data_modules.sources.shapenet import MODEL_FILES, TERMS, ShapeNetSource
from data_modules.synthesize.cars import write_cars
from scaled_ig.errors import UsageError
from tests.data_modules.sources.balls_as_meshes import assert_balls_land, write_obj

THREE = "v 0 0 -2\nv 1 0 2\nv 0 1 2\nf 1 2 3\n"


@pytest.mark.parametrize("model", MODEL_FILES)
def test_trees(tmp_path, model):
    file = tmp_path / "02958343" / "abc" / model
    file.parent.mkdir(parents=True)
    (tmp_path / "02958343" / "no-model-here").mkdir()
    file.write_text(THREE)
    source = ShapeNetSource(tmp_path)
    assert [(scene.id, scene.category) for scene in source.scenes()] == [("abc", "car")]
    mesh, record = source.load("abc")
    # The file's front, -Z, comes to -Y; its up, +Y, to +Z.
    assert mesh.vertices[0, 1] < mesh.vertices[1, 1]
    assert mesh.vertices[2, 2] > mesh.vertices[1, 2]
    assert record["file"] == f"02958343/abc/{model}"
    assert record["missing_files"] == []
    assert record["license"] == "ShapeNet terms of use"
    with pytest.raises(UsageError, match="03001627"):
        ShapeNetSource(tmp_path, synset="03001627")


@pytest.mark.parametrize("model", MODEL_FILES)
def test_balls_land_where_the_cameras_see_them(tmp_path, model):
    write_obj(tmp_path / "02958343" / "abc" / model)
    assert_balls_land(ShapeNetSource(tmp_path).load("abc"), lambda x, y, z: (-x, z, y))


@pytest.mark.parametrize(("yaw", "front"), [(0.0, [0, -1]), (90.0, [1, 0])])
def test_axes_may_be_others(tmp_path, yaw, front):
    file = tmp_path / "02958343" / "abc" / "model.obj"
    file.parent.mkdir(parents=True)
    file.write_text("v 0 -9 0\nv 1 0 0\nv -1 0 0\nv 0 0 1\nf 1 2 3\nf 2 3 4\n")  # +Z up, the nose at -Y
    nose, *_, top = ShapeNetSource(tmp_path, up="z", yaw=yaw).load("abc")[0].vertices
    np.testing.assert_allclose((nose - top)[:2] / np.linalg.norm((nose - top)[:2]), front, atol=1e-9)
    assert top[2] > nose[2]


def test_missing_textures_are_listed(tmp_path):
    folder = tmp_path / "02958343" / "abc"
    for name in ("models", "images"):
        (folder / name).mkdir(parents=True)
    corners = "mtllib model_normalized.mtl\n" + THREE.replace("f 1 2 3\n", "")
    faces = "".join(f"usemtl {name}\nf 1 2 3\n" for name in ("there", "gone", "alike"))
    (folder / "models" / "model_normalized.obj").write_text(corners + faces)
    names = {"there": "../images/texture0.jpg", "gone": "../images/texture1.jpg", "alike": "../images/texture1.jpg"}
    text = "".join(f"newmtl {name}\nKd 0.5 0 0\nmap_Kd {file}\n" for name, file in names.items())
    (folder / "models" / "model_normalized.mtl").write_text(text)
    Image.new("RGB", (2, 2), (9, 9, 9)).save(folder / "images" / "Texture0.JPG")
    mesh, record = ShapeNetSource(tmp_path).load("abc")
    assert record["missing_files"] == ["../images/texture1.jpg"]
    there, gone = mesh.materials[mesh.material_index[0]], mesh.materials[mesh.material_index[1]]
    assert there.texture is not None
    assert gone.texture is None
    np.testing.assert_allclose(gone.color, srgb_to_linear(np.array([0.5, 0, 0])))


@pytest.mark.parametrize(
    ("record", "licence"),
    [('{"license": "CC0-1.0"}', "CC0-1.0"), ('{"license": 7}', TERMS), ('{"id": "abc"}', TERMS), ("{", TERMS)],
)
def test_a_record_beside_a_model_may_name_its_licence(tmp_path, record, licence):
    file = tmp_path / "02958343" / "abc" / MODEL_FILES[0]
    file.parent.mkdir(parents=True)
    file.write_text(THREE)
    file.with_suffix(".json").write_text(record)
    assert ShapeNetSource(tmp_path).load("abc")[1]["license"] == licence


def test_synthetic_cars_are_not_shapenets(tmp_path):
    write_cars(tmp_path, 1, seed=0)
    source = ShapeNetSource(tmp_path)
    assert source.load(source.scenes()[0].id)[1]["license"] == "CC0-1.0"
