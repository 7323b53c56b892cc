"""OBJ and MTL files as they are found in the wild; where it matters, as they are seen from both sides."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources.base import srgb_to_linear
from data_modules.sources.named_files import NamedFiles
from data_modules.sources.obj import read_obj
from scaled_ig.errors import UsageError

WILD_OBJ = """# comment
mtllib My Materials.mtl
v -1 -1 0
v 1 -1 0
v 1 1 0
v -1 1 0
v\t0 2 0
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
\tKd 0.5 0.25 1
Tr 0.9
"""
CORNERS = "v -0.3 -0.2 0.1\nv 0.3 -0.2 -0.1\nv 0.3 0.2 -0.1\nv -0.3 0.2 0.1\n"


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
    mesh = read_obj(wild, NamedFiles(wild.parents[1]))
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
    with pytest.raises(UsageError, match=r"My Materials\.mtl names .*Paint one") as caught:
        read_obj(wild, NamedFiles(wild.parents[1]))
    assert "line" not in str(caught.value), "the mistake is not in the OBJ"


def test_a_missing_texture_may_be_forgiven(wild):
    shutil.rmtree(wild.parents[1] / "images")
    files = NamedFiles(wild.parents[1], "kd")
    painted = read_obj(wild, files).materials[1]
    assert files.missing == ["..\\IMAGES\\Paint one.PNG"]
    assert painted.texture is None
    np.testing.assert_allclose(painted.color, srgb_to_linear(np.full(3, 0.588)))


def test_a_present_texture_is_taken_where_missing_ones_are_forgiven(wild):
    files = NamedFiles(wild.parents[1], "kd")
    assert read_obj(wild, files).materials[1].texture is not None
    assert files.missing == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\nf 1 2 3", "line 2: a face names v 2, and the file has 1"),
        ("v 0 0 0\nf 1/1 1/1 1/1", "line 2: a face names vt 1, and the file has 0"),
        ("v 0 0 0\nf 0 0 0", "line 2.*count from 1"),
        ("v 0 0 0\nf -2 -2 -2", "line 2.*back to before the first"),
        ("v 0 0 zero\n", "line 1"),
        ("v 0 0 0\n", "no face"),
        ("mtllib a.mtl\nv 0 0 0\nusemtl a\nf 1 1 1", "a.mtl"),
    ],
)
def test_broken_obj_files_are_named(tmp_path, text, message):
    (tmp_path / "broken.obj").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_obj(tmp_path / "broken.obj")
    assert "broken.obj" in str(caught.value)


def picture(tmp_path, text: str) -> np.ndarray:
    """Three views from above and three from below."""
    (tmp_path / "quad.obj").write_text(text)
    caster = RayCaster(read_obj(tmp_path / "quad.obj"), 4)
    above = draw_cameras(3, 1.3, (-90, 90), (40, 80), np.random.default_rng(0))
    below = draw_cameras(3, 1.3, (-90, 90), (-80, -40), np.random.default_rng(1))
    return np.stack(
        [caster.render(*camera, (32, 32))[0] for side in (above, below) for camera in zip(*side, strict=True)]
    )


@pytest.mark.parametrize(
    "faces",
    [
        "f 4 3 2 1",
        "f 1 2 3 4\nf 4 3 2 1",
        "f 1 2 3 4\nf 1 2 3 4",
        "f 1 2 3\nf 4 3 1",
        "f -4 -3 -2 -1",
        "g empty\ng\no nothing\nusemtl none\nf 1 2 3\ng more\ng full\nf 1 3 4",
        "s off\nf 1// 2// 3// 4//",
    ],
    ids=["flipped", "doubled and flipped", "doubled", "triangles that disagree", "negative", "empty groups", "slashes"],
)
def test_a_quad_looks_the_same_however_it_is_written(tmp_path, faces):
    proper = picture(tmp_path, CORNERS + "f 1 2 3 4\n")
    assert ((proper < 255).any(axis=-1).mean(axis=(1, 2)) > 0.05).all(), "it is seen from both sides"
    np.testing.assert_array_equal(picture(tmp_path, CORNERS + faces + "\n"), proper)


def test_normals_that_point_away_change_nothing(tmp_path):
    normal = np.cross([0.6, 0, -0.2], [0, 0.4, 0])
    normal /= np.linalg.norm(normal)
    pictures = []
    for sign in (1, -1):
        text = CORNERS + "vn {} {} {}\n".format(*(sign * normal)) + "f 1//1 2//1 3//1 4//1\n"
        pictures.append(picture(tmp_path, text))
    np.testing.assert_array_equal(*pictures)
    assert abs(pictures[0].astype(int) - picture(tmp_path, CORNERS + "f 1 2 3 4\n")).max() <= 1


def test_a_polygon_is_all_its_corners(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    ring = "".join(f"v {0.4 * np.cos(a)} {0.4 * np.sin(a)} 0\n" for a in angles)
    proper = picture(tmp_path, ring + "v 0 0 0\n" + "".join(f"f 7 {k + 1} {(k + 1) % 6 + 1}\n" for k in range(6)))
    np.testing.assert_array_equal(picture(tmp_path, ring + "f 1 2 3 4 5 6\n"), proper)
