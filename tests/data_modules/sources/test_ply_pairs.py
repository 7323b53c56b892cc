"""PLY files with a feature of some exporter, and the same shape built without a file: the same views."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.base import GREY, Material
from data_modules.sources.meshes import read_mesh
from data_modules.sources.named_files import NamedFiles
from scaled_ig.errors import UsageError
from tests.data_modules.sources.boxes import (
    CORNERS,
    SIDE_COLORS,
    SIDES,
    TEXELS,
    UV,
    assert_looks_like,
    box,
    painted,
    six_colors,
    vertex_colored,
)

FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")
CODES = {
    "char": "b", "int8": "b", "uchar": "B", "uint8": "B", "short": "h", "int16": "h", "ushort": "H", "uint16": "H",
    "int": "i", "int32": "i", "uint": "I", "uint32": "I", "float": "f", "float32": "f", "double": "d", "float64": "d",
}  # fmt: skip
BYTES = np.random.default_rng(4).integers(0, 256, (8, 3))

Rows = list[list[Any]]  # of numbers, and of lists for properties that are lists


def ply(*elements: tuple[str, list[str], Rows], form: str = "ascii", comments: str = "") -> bytes:
    """A PLY file of elements: name, properties as the header has them, and rows."""
    head, body = f"ply\nformat {form} 1.0\n{comments}", b""
    for name, properties, rows in elements:
        head += f"element {name} {len(rows)}\n" + "".join(f"property {text}\n" for text in properties)
        for row in rows:
            numbers: list[tuple[str, Any]] = []
            for text, value in zip(properties, row, strict=True):
                words = text.split()
                if words[0] == "list":
                    numbers += [(words[1], len(value)), *((words[2], number) for number in value)]
                else:
                    numbers.append((words[0], value))
            if form == "ascii":
                body += " ".join(str(number) for _, number in numbers).encode() + b"\n"
            else:
                order = "<" if form == FORMATS[1] else ">"
                body += b"".join(struct.pack(order + CODES[kind], number) for kind, number in numbers)
    return (head + "end_header\n").encode() + body


def vertices(*more: str, rows: Any = (), kind: str = "float") -> tuple[str, list[str], Rows]:
    """The corners of the box, with further columns [8, k]."""
    table = [[*map(float, place)] for place in CORNERS]
    if len(rows):
        table = [[*place, *row] for place, row in zip(table, np.asarray(rows).tolist(), strict=True)]
    return "vertex", [f"{kind} x", f"{kind} y", f"{kind} z", *more], table


def faces(*more: str, rows: Any = (), indices: str = "list uchar int vertex_indices") -> tuple[str, list[str], Rows]:
    table: Rows = [[side] for side in SIDES]
    if len(rows):
        table = [[side, *row] for side, row in zip(SIDES, np.asarray(rows).tolist(), strict=True)]
    return "face", [indices, *more], table


def apart(*more: str, rows: Any = ()) -> list[tuple[str, list[str], Rows]]:
    """The box with vertices of their own on every side, so that each can have texture coordinates."""
    places = CORNERS[SIDES].reshape(-1, 3)
    _, properties, _ = vertices(*more)
    return [
        ("vertex", properties, np.c_[places, rows].tolist()),
        ("face", ["list uchar int vertex_index"], [[[*range(4 * k, 4 * k + 4)]] for k in range(6)]),
    ]


def write(folder: Path, content: bytes) -> Path:
    Image.fromarray(TEXELS).save(folder / "my tex.png")
    (folder / "box.ply").write_bytes(content)
    return folder / "box.ply"


RGB, FACE_RGB = ["uchar red", "uchar green", "uchar blue"], SIDE_COLORS.tolist()
TEXTURE = "comment TextureFile my tex.png\n"


def triangles(*extra: str, rows: Any = ()) -> tuple[str, list[str], Rows]:
    table = [[[side[0], side[k], side[k + 1]]] for side in SIDES for k in (1, 2)]
    return "face", ["list uchar int vertex_indices", *extra], [a + list(b) for a, b in zip(table, rows, strict=True)]


# -- rows of all kinds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("length", ["char", "uint8", "short", "uint16", "int", "uint32"])
@pytest.mark.parametrize("index", ["uchar", "int8", "ushort", "int16", "uint", "int32"])
def test_lists_of_all_widths(tmp_path, form, length, index):
    content = ply(vertices(*RGB, rows=BYTES), faces(indices=f"list {length} {index} vertex_index"), form=form)
    assert_looks_like(write(tmp_path, content), vertex_colored(BYTES / 255))


COLORS = {
    "double coordinates": (vertices(*RGB, rows=BYTES, kind="double"), BYTES / 255),
    "fractions": (vertices("float red", "float green", "float blue", rows=BYTES / 255), BYTES / 255),
    "fractions to 255": (vertices("float red", "float green", "float blue", rows=BYTES * 1.0), BYTES / 255),
    "16 bits": (vertices("ushort red", "ushort green", "ushort blue", rows=BYTES * 257), BYTES / 255),
    "int": (vertices("int red", "int green", "int blue", rows=BYTES), BYTES / 255),
    "char": (vertices("char red", "char green", "char blue", rows=BYTES.astype(np.int8)), BYTES / 255),
    "diffuse": (vertices("uchar diffuse_red", "uchar diffuse_green", "uchar diffuse_blue", rows=BYTES), BYTES / 255),
    "r g b": (vertices("uchar r", "uchar g", "uchar b", rows=BYTES), BYTES / 255),
    "alpha of 255": (vertices(*RGB, "uchar alpha", rows=np.c_[BYTES, np.full(8, 255)]), BYTES / 255),
    "alpha of 0 throughout": (vertices(*RGB, "uchar alpha", rows=np.c_[BYTES, np.zeros(8, int)]), BYTES / 255),
    "other columns": (vertices("float quality", *RGB, "double d", rows=BYTES[:, [1, 0, 1, 2, 1]]), BYTES / 255),
    "no texture": (vertices("float s", "float t", *RGB, rows=BYTES[:, [0, 1, 0, 1, 2]]), BYTES / 255),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", COLORS)
def test_colors_of_vertices(tmp_path, kind, form):
    element, expected = COLORS[kind]
    integers = [text.split()[0] not in ("float", "double") for text in element[1]]
    rows = [[int(v) if whole else v for v, whole in zip(row, integers, strict=True)] for row in element[2]]
    content = ply((*element[:2], rows), faces(), form=form)
    assert_looks_like(write(tmp_path, content), vertex_colored(expected))


def test_alpha_of_vertices_is_seen_through(tmp_path):
    alpha = BYTES[:, 0]
    twin = vertex_colored(BYTES / 255)
    colors = np.c_[twin.vertex_colors, (alpha / 255).astype(np.float32)]
    content = ply(vertices(*RGB, "uchar alpha", rows=np.c_[BYTES, alpha]), faces())
    assert_looks_like(write(tmp_path, content), replace(twin, vertex_colors=colors))


HEADERS = {
    "CRLF": (b"\n", b"\r\n"),
    "lone CR": (b"\n", b"\r"),
    "obj_info and comments": (b"element face", b"obj_info a b\ncomment made\n\nelement face"),
    "blanks": (b"property", b"  property  "),
    "capitals": (b"format", b"FORMAT"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", HEADERS)
def test_headers(tmp_path, kind, form):
    head, _, body = ply(vertices(*RGB, rows=BYTES), faces(), form=form).partition(b"end_header\n")
    content = (head + b"end_header\n").replace(*HEADERS[kind]) + body
    assert_looks_like(write(tmp_path, content), vertex_colored(BYTES / 255))


@pytest.mark.parametrize("form", FORMATS)
def test_other_elements_before_between_and_behind(tmp_path, form):
    other = ("camera", ["float a", "list uchar short b", "list int double c"], [[1.5, [2, 3], [0.5]], [2, [], []]])
    edges = ("edge", ["int vertex1", "int vertex2"], [[0, 1], [1, 2]])
    content = ply(other, vertices(*RGB, rows=BYTES), edges, faces(), other, form=form)
    assert_looks_like(write(tmp_path, content), vertex_colored(BYTES / 255))


@pytest.mark.parametrize("form", FORMATS)
def test_faces_of_different_lengths(tmp_path, form):
    rows: Rows = [[side] for side in SIDES[:3]]
    rows += [[[side[0], side[k], side[k + 1]]] for side in SIDES[3:] for k in (1, 2)] + [[[0, 1]], [[]]]
    content = ply(vertices(*RGB, rows=BYTES), ("face", ["list uchar int vertex_indices"], rows), form=form)
    assert_looks_like(write(tmp_path, content), vertex_colored(BYTES / 255))


@pytest.mark.parametrize("form", FORMATS)
def test_strips(tmp_path, form):
    strips = [[side[1], side[2], side[0], side[3]] for side in SIDES]
    joined = [number for strip in strips[:3] for number in (*strip, -1)]
    content = ply(
        vertices(*RGB, rows=BYTES),
        ("tristrips", ["list int int vertex_indices"], [[joined], *([strip] for strip in strips[3:])]),
        form=form,
    )
    assert_looks_like(write(tmp_path, content), vertex_colored(BYTES / 255))


def test_a_concave_face_is_what_it_is_in_an_obj_file(tmp_path):
    outline = [(-4, -3, 0), (4, -3, 0), (4, -1, 0), (-2, -1, 0), (-2, 3, 0), (-4, 3, 0)]
    rows = [[x / 10, y / 10, z] for x, y, z in outline]
    order = [2, 3, 4, 5, 0, 1]
    content = ply(
        ("vertex", ["float x", "float y", "float z"], rows), ("face", ["list uchar int vertex_index"], [[order]])
    )
    text = "".join(f"v {x} {y} {z}\n" for x, y, z in rows) + "f " + " ".join(str(row + 1) for row in order)
    (tmp_path / "L.obj").write_text(text)
    assert_looks_like(write(tmp_path, content), read_mesh(tmp_path / "L.obj"))


# -- textures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("names", ["s t", "u v", "texture_u texture_v", "texture_s texture_t"])
def test_texture_coordinates_of_vertices(tmp_path, names, form):
    content = ply(
        *apart(*(f"float {name}" for name in names.split()), rows=np.tile(UV, (6, 1))), form=form, comments=TEXTURE
    )
    assert_looks_like(write(tmp_path, content), painted())


@pytest.mark.parametrize("form", FORMATS)
def test_texture_coordinates_of_corners(tmp_path, form):
    element = faces("list uchar float texcoord", rows=[[UV.ravel().tolist()]] * 6)
    content = ply(vertices(), element, form=form, comments="comment TEXTUREFILE .\\My Tex.PNG\n")
    assert_looks_like(write(tmp_path, content), painted())


@pytest.mark.parametrize("form", FORMATS)
def test_several_textures(tmp_path, form):
    """Sides have the first, the second or no texture."""
    number = [0, 1, -1, 0, 1, 0]
    rows = [
        [side, UV.ravel().tolist() if k < 5 else [], n] for k, (side, n) in enumerate(zip(SIDES, number, strict=True))
    ]
    element = ("face", ["list uchar int vertex_indices", "list uchar float texcoord", "int texnumber"], rows)
    content = ply(vertices(), element, form=form, comments=f"{TEXTURE}comment TextureFile two.png\n")
    path = write(tmp_path, content)
    Image.fromarray(255 - TEXELS).save(tmp_path / "two.png")
    materials = (Material(texture=TEXELS), Material(texture=255 - TEXELS), GREY)
    assert_looks_like(path, box(materials=materials, material_index=np.repeat([0, 1, 2, 0, 1, 2], 2)))


def test_a_texture_counts_before_colours(tmp_path):
    element = faces("list uchar float texcoord", rows=[[UV.ravel().tolist()]] * 6)
    content = ply(vertices(*RGB, rows=BYTES), element, comments=TEXTURE)
    assert_looks_like(write(tmp_path, content), painted())


def test_a_missing_texture_leaves_the_mesh_out_or_is_drawn_grey(tmp_path):
    element = faces("list uchar float texcoord", rows=[[UV.ravel().tolist()]] * 6)
    path = write(tmp_path, ply(vertices(), element, comments="comment TextureFile gone.png\n"))
    with pytest.raises(UsageError, match=r"box\.ply names 'gone\.png', which is not there"):
        read_mesh(path)
    files = NamedFiles(tmp_path, "grey")
    assert_looks_like(path, box(), lambda folder: files)
    assert files.missing == ["gone.png"]


def test_a_texture_that_lies_nowhere_is_a_warning(tmp_path):
    mesh = assert_looks_like(
        write(tmp_path, ply(vertices(*RGB, rows=BYTES), faces(), comments=TEXTURE)), vertex_colored(BYTES / 255)
    )
    assert mesh.warnings == ("a texture is named, and nothing says where it lies: it is not drawn",)


# -- colours of faces -------------------------------------------------------------------------------------------------

FACE_COLORS = {
    "bytes": faces(*RGB, rows=FACE_RGB),
    "fractions": faces("float red", "float green", "float blue", rows=SIDE_COLORS / 255),
    "triangles": triangles(*RGB, rows=np.repeat(SIDE_COLORS, 2, axis=0).tolist()),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", FACE_COLORS)
def test_colors_of_faces(tmp_path, kind, form):
    assert_looks_like(write(tmp_path, ply(vertices(), FACE_COLORS[kind], form=form)), six_colors())


@pytest.mark.parametrize("both", ["they differ", "all faces are white"])
def test_colors_of_faces_and_of_vertices(tmp_path, both):
    differ = both == "they differ"
    element = faces(*RGB, rows=FACE_RGB if differ else [[255, 255, 255]] * 6)
    twin = six_colors() if differ else vertex_colored(BYTES / 255)
    assert_looks_like(write(tmp_path, ply(vertices(*RGB, rows=BYTES), element)), twin)


def test_normals_of_vertices(tmp_path):
    """Those of a ball, of any length; one that is no number counts as absent."""
    normals = 3 * CORNERS
    normals[0] = np.nan
    content = ply(vertices("float nx", "float ny", "float nz", rows=normals), faces())
    twin = box()
    expected = np.where(np.isfinite(normals), normals, 0)[twin.faces].astype(np.float32)
    assert_looks_like(write(tmp_path, content), replace(twin, normals=expected))


# -- what cannot be read ----------------------------------------------------------------------------------------------

SOUND = ply(vertices(*RGB, rows=BYTES), faces())
NUMBERED = np.array([[UV.ravel().tolist(), 7]] * 6, object)
BROKEN = {
    "no vertex of that number": (SOUND.replace(b"4 0 1 3 2", b"4 0 1 3 65535"), "names vertex 65,535, and there are 8"),
    "a negative number": (SOUND.replace(b"4 0 1 3 2", b"4 0 1 3 -1"), "names vertex -1"),
    "no face": (ply(vertices(), ("face", ["list uchar int vertex_indices"], [])), "points have no surface"),
    "no element of faces": (ply(vertices()), "points have no surface"),
    "no coordinates": (ply(("vertex", ["float x"], [[0]]), faces()), "no x, y and z"),
    "a type": (SOUND.replace(b"uchar red", b"colour red"), "says 'property colour red'"),
    "a format": (SOUND.replace(b"ascii", b"text"), "says 'format text 1.0'"),
    "no format": (SOUND.replace(b"format", b"comment"), "end_header"),
    "a length of fractions": (SOUND.replace(b"list uchar", b"list float"), "says 'property list float"),
    "a column twice": (SOUND.replace(b"green", b"red"), "says 'property uchar red'"),
    "rows that end": (SOUND[:-20], "rows of 'face', which it does not hold"),
    "words": (SOUND.replace(b"4 0 1 3 2", b"4 0 1 x 2"), "no numbers"),
    "a colour beyond": (SOUND.replace(b" %d\n" % BYTES[0, 2], b" 300\n"), "not between 0 and 255"),
    "texnumber": (
        ply(vertices(), faces("list uchar float texcoord", "int texnumber", rows=NUMBERED), comments=TEXTURE),
        "texnumber 7, and 1 textures",
    ),
    "too few of texcoord": (
        ply(vertices(), faces("list uchar float texcoord", rows=[[[0.5, 0.5]]] * 6), comments=TEXTURE),
        "two numbers of texcoord",
    ),
    "another file": (b"solid box\n", "does not begin with ply"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_files_that_cannot_be_read_are_named(tmp_path, kind):
    content, message = BROKEN[kind]
    with pytest.raises(UsageError, match=rf"box\.ply cannot be read \(.*{message}"):
        read_mesh(write(tmp_path, content))


@pytest.mark.parametrize("form", FORMATS[1:])
def test_binary_files_that_end_early_are_named(tmp_path, form):
    content = ply(vertices(*RGB, rows=BYTES), faces(), form=form)
    for size in range(len(content) - 100, len(content), 7):
        with pytest.raises(UsageError, match="which it does not hold"):
            read_mesh(write(tmp_path, content[:size]))
