"""GLB, glTF and PLY files, folders and manifests of them, and the axes that they are brought to."""

import json
import math

import numpy as np
import pytest
import trimesh

from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources.base import GREY, normalize, srgb_to_linear
from data_modules.sources.meshes import MeshSource, read_mesh
from scaled_ig.errors import UsageError
from tests.data_modules.sources.balls_as_meshes import assert_balls_land, coloured_balls, write_obj
from tests.data_modules.sources.gltf_files import Document, box, primitive

QUAD = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


@pytest.mark.parametrize("kind", ["obj", "glb", "ply"])
def test_balls_land_where_the_cameras_see_them(tmp_path, kind):
    if kind == "obj":
        write_obj(tmp_path / "balls.obj")
    elif kind == "glb":
        trimesh.Scene(coloured_balls(as_material=True)).export(tmp_path / "balls.glb")
    else:
        trimesh.util.concatenate(coloured_balls()).export(tmp_path / "balls.ply")
    assert_balls_land(MeshSource(tmp_path).load("balls"), lambda x, y, z: (x, -z, y))


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
    assert not mesh.normals.any(), "the file has none: its faces are flat"


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


@pytest.mark.parametrize("kind", ["ply", "glb"])
def test_doubled_and_flipped_faces_look_like_proper_ones(tmp_path, kind):
    """Around a doubled face the mean of the normals is rounding: it must not count as a normal."""
    corners = np.array([[-0.31, -0.2, 0.0], [0.28, -0.23, 0.0], [0.37, 0.19, 0.0], [-0.3, 0.24, 0.0]])
    corners[:, 2] = corners[:, :2] @ [0.3, 0.2]
    poses, intrinsics = draw_cameras(4, 1.3, (-180, 180), (-80, 80), np.random.default_rng(2))
    pictures = []
    for number, faces in enumerate(([[0, 1, 2], [0, 2, 3]], [[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]])):
        mesh = trimesh.Trimesh(corners, faces, process=False)
        mesh.export(tmp_path / f"{number}.{kind}")
        caster = RayCaster(read_mesh(tmp_path / f"{number}.{kind}"), 4)
        pictures.append([caster.render(*camera, (32, 32))[0] for camera in zip(poses, intrinsics, strict=True)])
    assert abs(np.array(pictures[0]).astype(int) - np.array(pictures[1])).max() <= 1


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


def test_folder_of_meshes(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "three.obj").write_text(QUAD)
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "models" / "box.ply")
    source = MeshSource(tmp_path, category="chair")
    assert [(scene.id, scene.category) for scene in source.scenes()] == [
        ("models/box", "chair"),
        ("models/three", "chair"),
    ]
    _, record = source.load("models/three")
    assert record["file"] == "models/three.obj"
    assert record["shape"] == "models/three"
    assert (source.path, source.category) == (tmp_path, "chair")


def test_one_name_in_several_formats_is_one_scene(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    for name in ("a.ply", "a.glb", "b.ply", "c.PLY"):
        box.export(tmp_path / name, file_type=name[-3:].lower())
    for name in ("a.obj", "b.obj", "c.ply.obj"):
        (tmp_path / name).write_text(QUAD)
    source = MeshSource(tmp_path)
    assert [(scene.id, source.rows[scene.id]["mesh"]) for scene in source.scenes()] == [
        ("a", "a.glb"), ("b", "b.obj"), ("c", "c.PLY"), ("c.ply", "c.ply.obj")
    ]  # fmt: skip


def test_missing_files_are_kept_in_the_record(tmp_path):
    (tmp_path / "three.obj").write_text("mtllib three.mtl\nusemtl a\n" + QUAD)
    (tmp_path / "three.mtl").write_text("newmtl a\nKd 1 0 0\nmap_Kd paint.png\n")
    mesh, record = MeshSource(tmp_path, missing_files="grey").load("three")
    assert record["missing_files"] == ["paint.png"]
    assert mesh.warnings == ("'paint.png' is not there, and what it colours is drawn plain",)
    mesh, record = MeshSource(tmp_path, missing_files="kd").load("three")
    assert record["missing_files"] == ["paint.png"]
    assert mesh.materials[1].color == (1, 0, 0)


@pytest.mark.parametrize(("choice", "color"), [("grey", GREY.color), ("kd", (1.0, 0.2, 0.0))])
def test_a_gltf_file_whose_texture_is_missing(tmp_path, choice, color):
    document = Document()
    texture = document.add("textures", {"source": document.add("images", {"uri": "gone%20away.png"})})
    paint = {"baseColorTexture": {"index": texture}, "baseColorFactor": [1, 0.2, 0, 1]}
    material = document.add("materials", {"pbrMetallicRoughness": paint})
    document.node(mesh=document.mesh(primitive(document, box(), material=material)))
    document.write(tmp_path / "box.glb")
    with pytest.raises(UsageError, match=r"box\.glb names 'gone%20away\.png', which is not there: restore it, or"):
        MeshSource(tmp_path).load("box")
    mesh, record = MeshSource(tmp_path, missing_files=choice).load("box")
    assert record["missing_files"] == ["gone away.png"]
    assert mesh.materials[0].color == color


def test_axes_of_a_folder_and_of_rows_that_name_none(tmp_path):
    (tmp_path / "three.obj").write_text(QUAD)
    rows = [{"id": "own", "mesh": "three.obj", "up": "y", "yaw_deg": 30}, {"id": "none", "mesh": "three.obj"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    for path, name, axes in (
        (tmp_path, "three", ("z", 90.0)),
        (tmp_path / "list.json", "none", ("z", 90.0)),
        (tmp_path / "list.json", "own", ("y", 30.0)),
    ):
        normalization = MeshSource(path, up="z", yaw=90.0).load(name)[1]["normalization"]
        assert (normalization["up"], normalization["yaw_degrees"]) == axes


def test_a_missing_texture_is_an_error_that_names_it(tmp_path):
    (tmp_path / "three.obj").write_text("mtllib three.mtl\nusemtl a\n" + QUAD)
    (tmp_path / "three.mtl").write_text("newmtl a\nKd 1 0 0\nmap_Kd paint.png\n")
    with pytest.raises(UsageError, match=r"paint\.png"):
        MeshSource(tmp_path).load("three")


def test_manifest_gives_variants_the_axes_and_shape_of_their_original(test_data):
    if not (test_data / "vehicles.json").is_file():
        pytest.skip(f"no vehicles.json in {test_data}")
    source = MeshSource(test_data / "vehicles.json")
    rows = json.loads((test_data / "vehicles.json").read_text())
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


def test_manifest_mistakes_are_named(tmp_path):
    (tmp_path / "three.obj").write_text(QUAD)
    manifest = tmp_path / "list.json"
    for rows, message in (
        ([{"id": "a", "mesh": "three.obj"}] * 2, "twice"),
        ([{"mesh": "three.obj"}], '"id"'),
        ([], "list of rows"),
    ):
        manifest.write_text(json.dumps(rows))
        with pytest.raises(UsageError, match=message):
            MeshSource(manifest)
    manifest.write_text(json.dumps([{"id": "a", "mesh": "three.obj", "sha256": {"three.obj": "0"}}]))
    with pytest.raises(UsageError, match="not the file of the manifest"):
        MeshSource(manifest).load("a")
