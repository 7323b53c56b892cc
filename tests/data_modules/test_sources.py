"""Every reader on small files made here, and on the development scenes where they are at hand."""

import json
import math
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh
from PIL import Image

from data_modules.sources.base import normalize, srgb_to_linear
from data_modules.sources.basel import BaselSource, read_face_model
from data_modules.sources.meshes import MeshSource, read_mesh
from data_modules.sources.obj import read_obj
from data_modules.sources.shapenet import ShapeNetSource
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError

DATA = Path(os.environ.get("SCALED_IG_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_vehicles = pytest.mark.skipif(not (DATA / "vehicles.json").is_file(), reason=f"no vehicles.json in {DATA}")

WILD_OBJ = """# comment
mtllib My Materials.mtl
v -1 -1 0
v 1 -1 0
v 1 1 0
v -1 1 0
v 0 2 0
vt 0 0
vt 1 0
vt 1 1
vn 0 0 1
g empty
usemtl painted
f 1/1/1 2/2/1 3/3/1 4/1/1
usemtl plain
f -3//-1 -1//1 -2//1
f 1 2 5
"""
WILD_MTL = """newmtl painted
Kd 0.588 0.588 0.588
d 0.1
map_Kd -s 1 1 1 ..\\IMAGES\\Paint one.PNG
newmtl plain
Kd 0.5 0.25 1
Tr 0.9
"""


@pytest.fixture
def wild(tmp_path) -> Path:
    """An OBJ with most of what is found in the wild; its texture has another case and lies in another folder."""
    for name in ("models", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "wild.obj").write_text(WILD_OBJ)
    (tmp_path / "models" / "My Materials.mtl").write_text(WILD_MTL)
    Image.new("RGBA", (2, 1), (10, 20, 30, 40)).save(tmp_path / "images" / "paint ONE.png")
    return tmp_path / "models" / "wild.obj"


def test_obj_of_the_wild(wild):
    mesh = read_obj(wild)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [2, 4, 3], [0, 1, 4]]
    painted, plain = (mesh.materials[row] for row in mesh.material_index[[0, 2]])
    assert mesh.material_index[0] == mesh.material_index[1] != mesh.material_index[2]
    assert painted.color == (1, 1, 1), "Kd beside map_Kd is a leftover"
    np.testing.assert_array_equal(painted.texture, [[[10, 20, 30], [10, 20, 30]]])
    np.testing.assert_allclose(plain.color, srgb_to_linear(np.array([0.5, 0.25, 1])))
    assert mesh.uv[0].tolist() == [[0, 0], [1, 0], [1, 1]]
    assert mesh.normals[2].tolist() == [[0, 0, 1]] * 3
    assert not mesh.normals[3].any()
    assert not mesh.uv[3].any()


def test_a_missing_texture_is_named(wild):
    shutil.rmtree(wild.parents[1] / "images")
    with pytest.raises(UsageError, match="Paint one"):
        read_obj(wild)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\nf 1 2 3", "not there"),
        ("v 0 0 zero\n", "line 1"),
        ("v 0 0 0\n", "no face"),
        ("mtllib a.mtl", "a.mtl"),
    ],
)
def test_broken_obj_files_are_named(tmp_path, text, message):
    (tmp_path / "broken.obj").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_obj(tmp_path / "broken.obj")
    assert "broken.obj" in str(caught.value)


def test_glb_with_transforms_and_linear_factor(tmp_path):
    box = trimesh.creation.box((1, 2, 3))
    box.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 51, 0, 255])
    )
    scene = trimesh.Scene()
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(box, transform=trimesh.transformations.rotation_matrix(math.pi / 2, [0, 0, 1]))
    scene.export(tmp_path / "boxes.glb")
    mesh = read_mesh(tmp_path / "boxes.glb")
    assert len(mesh.faces) == 24
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-1, -1, -1.5], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [5.5, 1, 1.5], atol=1e-6)
    np.testing.assert_allclose(mesh.materials[0].color, [1, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-5)


def test_gltf_that_misses_a_file_is_refused(tmp_path):
    (tmp_path / "car.gltf").write_text(
        json.dumps({"asset": {"version": "2.0"}, "images": [{"uri": "gone%20away.png"}]})
    )
    with pytest.raises(UsageError, match="gone"):
        read_mesh(tmp_path / "car.gltf")


def test_ply_vertex_colours_are_srgb(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    box.visual.vertex_colors = np.tile([188, 0, 255, 255], (8, 1))
    box.export(tmp_path / "box.ply")
    colors = read_mesh(tmp_path / "box.ply").vertex_colors
    assert colors is not None
    np.testing.assert_allclose(colors, np.tile([srgb_to_linear(np.array(188 / 255)), 0, 1], (8, 1)), atol=1e-6)


def test_normalize_centres_the_box_and_turns_the_axes(tmp_path):
    box = trimesh.creation.box((1, 2, 4)).apply_translation([10, 20, 30])
    box.export(tmp_path / "box.ply")
    mesh, record = normalize(read_mesh(tmp_path / "box.ply"), up="y", yaw_degrees=90)
    size = np.ptp(mesh.vertices, axis=0)
    assert np.linalg.norm(size) == pytest.approx(1)
    np.testing.assert_allclose(size / size.max(), [1, 0.25, 0.5], atol=1e-9)  # z becomes -y, then y becomes -x
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(record["center"], [30, 10, 20])
    assert record["scale"] == pytest.approx(1 / np.sqrt(21))


def test_folder_of_meshes(wild):
    box = trimesh.creation.box((1, 1, 1))
    box.export(wild.parent / "box.ply")
    source = MeshSource(wild.parents[1], category="chair")
    assert [(scene.id, scene.category) for scene in source.scenes()] == [
        ("models/box", "chair"),
        ("models/wild", "chair"),
    ]
    _, record = source.load("models/wild")
    assert record["file"] == "models/wild.obj"
    assert record["shape"] == "models/wild"


@needs_vehicles
def test_manifest_gives_variants_the_axes_and_shape_of_their_original():
    source = MeshSource(DATA / "vehicles.json")
    rows = json.loads((DATA / "vehicles.json").read_text())
    assert [scene.id for scene in source.scenes()] == [row["id"] for row in rows]
    variant = next(row for row in rows if "variant_of" in row)
    mesh, record = source.load(variant["id"])
    original, original_record = source.load(variant["variant_of"])
    assert record["shape"] == record["variant_of"] == original_record["shape"] == variant["variant_of"]
    assert record["sha256"] == original_record["sha256"]
    assert record["license"] == original_record["license"] == "CC0-1.0"
    assert record["normalization"] == original_record["normalization"]
    np.testing.assert_array_equal(mesh.vertices, original.vertices)
    textures = [next(m.texture for m in item.materials if m.texture is not None) for item in (mesh, original)]
    assert not np.array_equal(textures[0], textures[1])


def test_manifest_mistakes_are_named(wild):
    manifest = wild.parent / "list.json"
    for rows, message in (
        ([{"id": "a", "mesh": "wild.obj"}] * 2, "twice"),
        ([{"mesh": "wild.obj"}], '"id"'),
        ([], "list of rows"),
    ):
        manifest.write_text(json.dumps(rows))
        with pytest.raises(UsageError, match=message):
            MeshSource(manifest)
    manifest.write_text(json.dumps([{"id": "a", "mesh": "wild.obj", "sha256": {"wild.obj": "0"}}]))
    with pytest.raises(UsageError, match="not the file of the manifest"):
        MeshSource(manifest).load("a")


@pytest.mark.parametrize("model", ["models/model_normalized.obj", "model.obj"])
def test_shapenet_trees(wild, tmp_path, model):
    file = tmp_path / "core" / "02958343" / "abc" / model
    file.parent.mkdir(parents=True)
    (tmp_path / "core" / "02958343" / "no-model-here").mkdir()
    file.write_text("v 0 0 -2\nv 1 0 2\nv 0 1 2\nf 1 2 3\n")
    source = ShapeNetSource(tmp_path / "core")
    assert [(scene.id, scene.category) for scene in source.scenes()] == [("abc", "car")]
    mesh, record = source.load("abc")
    # The file's front, -Z, comes to -Y; its up, +Y, to +Z.
    assert mesh.vertices[0, 1] < mesh.vertices[1, 1]
    assert mesh.vertices[2, 2] > mesh.vertices[1, 2]
    assert record["file"] == f"02958343/abc/{model}"
    with pytest.raises(UsageError, match="03001627"):
        ShapeNetSource(tmp_path / "core", synset="03001627")


def basel_file(path: Path, color_range: float, basis_type: str) -> Path:
    """A model of 5 vertices with 2 shape, 3 colour and 1 expression modes."""
    generator = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for name, modes, scale in (("shape", 2, 1.0), ("color", 3, color_range), ("expression", 1, 1.0)):
            group = file.create_group(f"{name}/model")
            group["mean"] = generator.uniform(0.4, 0.6, 15).astype("f4") * scale
            group["pcaBasis"] = (generator.standard_normal((15, modes)) * 0.1 * scale).astype(basis_type)
            group["pcaVariance"] = generator.random(modes).astype("f4")
            group["noiseVariance"] = 0.0
        file["shape/representer/cells"] = np.array([[0, 1], [1, 2], [2, 4]])
    return path


@pytest.mark.parametrize(("color_range", "basis_type"), [(1.0, "f4"), (255.0, "f2")])
def test_basel_instance_is_the_linear_model(tmp_path, color_range, basis_type):
    path = basel_file(tmp_path / "model.h5", color_range, basis_type)
    model = read_face_model(path)
    shape, color = np.array([1.5, -0.5]), np.array([0.3, -1.0, 2.0])
    mesh = model.mesh(shape, color)
    with h5py.File(path) as file:
        values = {
            name: (item["model/mean"][:], item["model/pcaBasis"][:], item["model/pcaVariance"][:])
            for name, item in file.items()
        }
    expected = {}
    for name, coefficients in (("shape", shape), ("color", color)):
        mean, basis, variance = (array.astype(np.float64) for array in values[name])
        expected[name] = (mean + basis @ (np.sqrt(variance) * coefficients)).reshape(5, 3)
    expected["shape"] += values["expression"][0].reshape(5, 3)
    np.testing.assert_allclose(mesh.vertices, expected["shape"], rtol=1e-5)
    assert mesh.vertex_colors is not None
    np.testing.assert_allclose(
        mesh.vertex_colors, srgb_to_linear(np.clip(expected["color"] / color_range, 0, 1)), rtol=1e-4
    )
    assert mesh.faces.tolist() == [[0, 1, 2], [1, 2, 4]]


def test_basel_identities_depend_on_seed_and_id_only(tmp_path):
    path = basel_file(tmp_path / "model.h5", 1.0, "f4")
    few, many, other = BaselSource(path, 2), BaselSource(path, 9), BaselSource(path, 2, seed=1)
    assert [scene.id for scene in few.scenes()] == ["face-00000", "face-00001"]
    first, record = few.load("face-00001")
    np.testing.assert_array_equal(first.vertices, many.load("face-00001")[0].vertices)
    assert not np.array_equal(first.vertices, other.load("face-00001")[0].vertices)
    assert record["normalization"] == few.load("face-00000")[1]["normalization"], "one normalization for all"


def test_not_a_basel_model(tmp_path):
    (tmp_path / "model.h5").write_text("no")
    with pytest.raises(UsageError, match="no Basel Face Model"):
        BaselSource(tmp_path / "model.h5", 1)


POSE = np.array([[1, 0, 0, 0], [0, 0, 1, -1.3], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # OpenCV axes, before the front
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def capture(folder: Path, name: str = "transforms.json", image: Image.Image | None = None, **keys) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(PIXELS) if image is None else image).save(folder / "0.png")
    camera = {} if "camera_angle_x" in keys else {"fl_x": 9.0, "fl_y": 8.0, "cx": 3.0, "cy": 2.0, "w": 6, "h": 4}
    frames = [{"file_path": "0.png", "transform_matrix": POSE.tolist()}]
    (folder / name).write_text(json.dumps(camera | {"frames": frames} | keys))
    return folder


@pytest.mark.parametrize(
    ("name", "keys", "option", "expected"),
    [
        ("transforms.json", {}, None, "opengl"),
        ("transforms_opencv.json", {}, None, "opencv"),
        ("transforms.json", {"camera_convention": "opencv"}, None, "opencv"),
        ("transforms_opencv.json", {"camera_convention": "opengl"}, None, "opengl"),
        ("transforms.json", {"camera_convention": "opencv"}, "opengl", "opengl"),
        ("transforms.json", {}, "opencv", "opencv"),
    ],
)
def test_camera_convention(tmp_path, name, keys, option, expected):
    views, _ = TransformsSource(capture(tmp_path / "scene", name, **keys), option).load("scene")
    flip = np.diag([1, -1, -1, 1]) if expected == "opengl" else np.eye(4)
    np.testing.assert_array_equal(views.camera_to_world[0], (POSE @ flip).astype(np.float32))
    np.testing.assert_array_equal(views.images[0], PIXELS)
    np.testing.assert_array_equal(views.intrinsics[0], np.array([1.5, 2.0, 0.5, 0.5], np.float32))


def test_unknown_camera_convention(tmp_path):
    with pytest.raises(UsageError, match="colmap"):
        TransformsSource(capture(tmp_path / "scene", camera_convention="colmap")).load("scene")


def test_blender_files(tmp_path):
    rgba = np.dstack([PIXELS, np.full((4, 6), 51, np.uint8)])
    folder = capture(tmp_path / "lego", image=Image.fromarray(rgba), camera_angle_x=0.8)
    document = json.loads((folder / "transforms.json").read_text())
    document["frames"][0]["file_path"] = "./0"
    (folder / "transforms.json").write_text(json.dumps(document))
    views, _ = TransformsSource(folder).load("lego")
    focal = 6 / (2 * math.tan(0.4))
    np.testing.assert_allclose(views.intrinsics[0], [focal / 6, focal / 4, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(views.images[0], np.round(PIXELS * 0.2 + 255 * 0.8).astype(np.uint8))


def test_dataset_map_names_scenes_and_categories(tmp_path):
    for name in "abc":
        capture(tmp_path / "square128_above" / name, "transforms_opencv.json")
    (tmp_path / "dataset_map.json").write_text(json.dumps({"car": ["c"], "face": ["a"]}))
    scenes = TransformsSource(tmp_path).scenes()
    assert [(scene.id, scene.category) for scene in scenes] == [
        ("square128_above/c", "car"),
        ("square128_above/a", "face"),
    ]


def test_image_that_is_missing_is_named(tmp_path):
    folder = capture(tmp_path / "scene")
    (folder / "0.png").unlink()
    with pytest.raises(UsageError, match=r"0\.png"):
        TransformsSource(folder).load("scene")
