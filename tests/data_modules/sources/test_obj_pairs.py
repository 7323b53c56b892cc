"""OBJ and MTL files with a feature of some exporter, and the same shape built without a file: the same views."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.base import Material, Sampler, srgb_to_linear
from data_modules.sources.meshes import read_mesh
from data_modules.sources.named_files import NamedFiles
from scaled_ig.errors import UsageError
from tests.data_modules.sources.boxes import (
    CORNERS,
    SIDES,
    TEXELS,
    UV,
    assert_looks_like,
    box,
    painted,
    pictures,
    vertex_colored,
)

VERTICES = [f"v {x:g} {y:g} {z:g}" for x, y, z in CORNERS]
COORDINATES = ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
FACES = ["f " + " ".join(f"{row + 1}/{k}" for k, row in enumerate(side, start=1)) for side in SIDES]
OBJ = ["mtllib box.mtl", *VERTICES, *COORDINATES, "usemtl m", *FACES]
MTL = ["newmtl m", "map_Kd tex.png"]
RGB = np.linspace(0, 1, 24).reshape(8, 3)


def lines(*parts: str) -> bytes:
    return "".join(f"{part}\n" for part in parts).encode()


def write(folder: Path, obj: bytes = lines(*OBJ), texture: str = "tex.png", **others: bytes) -> Path:
    """A folder of an OBJ file, a texture, and MTL files, ``box.mtl`` unless others are given by their stems."""
    Image.fromarray(TEXELS).save(folder / texture, format="PNG")
    for stem, content in (others or {"box": lines(*MTL)}).items():
        (folder / f"{stem}.mtl").write_bytes(content)
    (folder / "box.obj").write_bytes(obj)
    return folder / "box.obj"


def changed(old: str, new: str) -> bytes:
    return lines(*OBJ).replace(old.encode(), new.encode())


# -- texts ------------------------------------------------------------------------------------------------------------

UTF16 = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
TEXTS = {
    "byte order mark and CRLF": lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"),
    "lone CR": lambda text: text.replace(b"\n", b"\r"),
    "tabs and leading blanks": lambda text: b"  \t" + text.replace(b" ", b"\t  ").replace(b"\n", b" \t\n\t "),
    "comments": lambda text: b"#\n" + text.replace(b"\n", b" # so \\ it is\n#usemtl x \\\n"),
    "no end of the last line": lambda text: text.rstrip(),
    "form feeds between": lambda text: text.replace(b"\n", b"\n\x0c\n"),
} | {
    f"{code} with{'' if mark else 'out'} mark": lambda text, code=code, mark=mark: mark + text.decode().encode(code)
    for code, known in UTF16.items()
    for mark in (known, b"")
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_of_all_systems(tmp_path, kind):
    assert_looks_like(write(tmp_path, TEXTS[kind](lines(*OBJ)), box=TEXTS[kind](lines(*MTL))), painted())


OTHER = lines("newmtl other", "Kd 1 0 0")
BOTH = {"box": lines(*MTL), "other": OTHER}
LIBRARIES = {
    "two on a line": (changed("mtllib box.mtl", "mtllib other.mtl box.mtl"), BOTH),
    "on two lines": (changed("mtllib box.mtl", "mtllib box.mtl\nmtllib other.mtl"), BOTH),
    "named last": (changed("mtllib box.mtl\n", "") + b"mtllib box.mtl\n", {}),
    "a blank in the name": (changed("box.mtl", "my box.mtl"), {"my box": lines(*MTL)}),
    "two with blanks": (changed("box.mtl", "an other.mtl my box.mtl"), {"my box": lines(*MTL), "an other": OTHER}),
    "quoted": (changed("box.mtl", '"my box.mtl" "other.mtl"'), {"my box": lines(*MTL), "other": OTHER}),
    "the first of two counts": (changed("box.mtl", "box.mtl other.mtl"), BOTH | {"other": lines("newmtl m")}),
    "one of two is missing": (changed("box.mtl", "gone.mtl box.mtl"), {}),
    "the first of two materials counts": (lines(*OBJ), {"box": lines(*MTL, "newmtl m", "Kd 1 0 0")}),
    "a path of another machine": (changed("box.mtl", r"C:\Users\me\My Cars\box.mtl"), {}),
    "other case": (changed("box.mtl", "BOX.MTL"), {}),
    "names with blanks": (changed("usemtl m", "usemtl my  paint"), {"box": lines("newmtl my  paint", MTL[1])}),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIBRARIES)
def test_libraries(tmp_path, kind):
    obj, libraries = LIBRARIES[kind]
    assert_looks_like(write(tmp_path, obj, **libraries), painted())


FACE_TEXTS = {
    "lines that go on": changed("f 1/1 2/2", "f 1/1 \\\n 2/2").replace(b" 5/2 6/3", b"\\  \n5/2 6/3"),
    "negative indices": lines(*OBJ[:-6], *(
        "f " + " ".join(f"{row - 8}/{k - 4}" for k, row in enumerate(side)) for side in SIDES
    )),
    "w": changed("\nvt 0 0", "\nvt 0 0").replace(b"0.2\n", b"0.2 1\n"),
    "groups, smoothing, lines and points": changed("usemtl m\n", "o a\ng b c\ns 1\nusemtl m\np 1 2\nl 1 2 3\nf 1 2\n"),
    "depth of textures": changed("vt 0 0\n", "vt 0 0 0\n"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FACE_TEXTS)
def test_faces(tmp_path, kind):
    assert_looks_like(write(tmp_path, FACE_TEXTS[kind]), painted())


# -- names of textures ------------------------------------------------------------------------------------------------

NAMES = {
    "blanks": ("my tex.png", "my tex.png"),
    "a number": ("7", "7"),
    "number sign": ("tex #7.png", "tex #7.png"),
    "comment": ("tex.png", "tex.png # the paint"),
    "other case": ("tex.png", "TEX.Png"),
    "quoted": ("my tex.png", '"my tex.png"'),
    "backslashes": ("tex.png", ".\\tex.png"),
    "other machine": ("tex.png", "D:\\maps\\tex.png"),
    "other machine with slashes": ("tex.png", "/home/me/maps/tex.png"),
    "letters": ("Größe é.png", "Größe é.png"),
    "letters apart": (unicodedata.normalize("NFD", "Größe é.png"), "GRÖSSE é.png"),
}


@pytest.mark.parametrize("code", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize("kind", NAMES)
def test_names_of_textures(tmp_path, kind, code):
    name, written = NAMES[kind]
    library = f"newmtl m\nmap_Kd {written}\n".encode(code)
    assert_looks_like(write(tmp_path, texture=name, box=library), painted())


# -- options of maps --------------------------------------------------------------------------------------------------

PAINT = Material(texture=TEXELS)
MAPS = {
    "-s": ("-s 2 3 1", box(PAINT, UV * [2, 3])),
    "-s of one number": ("-s 2", box(PAINT, UV * [2, 1])),
    "-o": ("-o 0.25 0.5 0", box(PAINT, np.add(UV, [0.25, 0.5]))),
    "-o of one number": ("-o 0.25", box(PAINT, np.add(UV, [0.25, 0]))),
    "-o before -s": ("-o .5 -.25 -s 1.5e0 2 +1", box(PAINT, UV * [1.5, 2] + [0.5, -0.25])),
    "-clamp": ("-clamp on -s 2 2 1", box(Material(texture=TEXELS, sampler=Sampler(("clamp", "clamp"))), UV * 2)),
    "-clamp off": ("-clamp off -s 2 2 1", box(PAINT, UV * 2)),
    "no effect": ("-blendu on -blendv off -bm 5 -boost 1 -cc on -imfchan l -texres 9 -t 1 1 1 -type x", box(PAINT)),
    "capitals": ("-S 2 2 -BM 1", box(PAINT, UV * 2)),
    "-mm": ("-mm 0.2 0.5", box(Material(texture=np.round(51 + TEXELS / 2).astype(np.uint8)))),
}  # fmt: skip


@pytest.mark.parametrize("kind", MAPS)
def test_options_of_maps(tmp_path, kind):
    options, twin = MAPS[kind]
    assert_looks_like(write(tmp_path, box=lines("newmtl m", f"map_Kd {options} tex.png")), twin)


# -- colours ----------------------------------------------------------------------------------------------------------


def linear(*display: float) -> tuple[float, ...]:
    return tuple(srgb_to_linear(np.array(display)).tolist())


ALPHA = np.random.default_rng(6).integers(0, 256, (4, 6), dtype=np.uint8)
MASKED = np.dstack([TEXELS, ALPHA])
MAP = "map_Kd tex.png"
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
MATERIALS = {
    "Kd alone": ("Kd 0.2 0.4 0.6", Material(linear(0.2, 0.4, 0.6))),
    "Kd of one number": ("Kd 0.4", Material(linear(0.4, 0.4, 0.4))),
    "Kd in capitals": ("KD 0.2 0.4 0.6", Material(linear(0.2, 0.4, 0.6))),
    "Kd to 255": ("Kd 51 102 153", Material(linear(0.2, 0.4, 0.6))),
    "Kd of CIE XYZ": ("Kd xyz 0.4124 0.2126 0.0193", Material((1.0, 0.0, 0.0))),
    "no Kd": ("Ks 1 0 0", Material()),
    "Kd times the map": (f"Kd 0.2 0.4 0.6\n{MAP}", Material(linear(0.2, 0.4, 0.6), TEXELS)),
    "black beside the map": (f"Kd 0 0 0\n{MAP}", Material(texture=TEXELS)),
    "grey beside the map": (f"{MAP}\nKd 0.588 0.588 0.588", Material(texture=TEXELS)),
    "an empty map": ("Kd 0.2 0.4 0.6\nmap_Kd", Material(linear(0.2, 0.4, 0.6))),
    "d": ("Kd 1 0 0\nd 0.3", Material((1.0, 0.0, 0.0), alpha=0.3)),
    "d -halo": ("Kd 1 0 0\nd -halo 0.3", Material((1.0, 0.0, 0.0), alpha=0.3)),
    "Tr": ("Kd 1 0 0\nTr 0.7", Material((1.0, 0.0, 0.0), alpha=0.3)),
    "d before Tr": ("Kd 1 0 0\nTr 0.1\nd 0.3", Material((1.0, 0.0, 0.0), alpha=0.3)),
    "Tr 1 of older exporters": ("Kd 1 0 0\nTr 1.0", Material((1.0, 0.0, 0.0))),
    "alpha of a map_Kd alone": ("map_Kd masked.png", Material(texture=TEXELS)),
    "alpha of map_d": (f"{MAP}\nmap_d masked.png", Material(texture=MASKED)),
    "alpha of one map for both": ("map_Kd masked.png\nmap_d masked.png", Material(texture=MASKED)),
    "brightness of map_d": (f"{MAP}\nmap_d grey.png", Material(texture=MASKED)),
    "red of map_d": (f"{MAP}\nmap_d -imfchan r red.png", Material(texture=MASKED)),
    "d times map_d": (f"{MAP}\nd 0.5\nmap_d grey.png", Material(texture=MASKED, alpha=0.5)),
    "d 0 beside map_d": (f"{MAP}\nd 0\nmap_d grey.png", Material(texture=MASKED)),
    "a larger map_d": (f"{MAP}\nmap_d half.png", None),
    "map_d alone": ("Kd 1 0 0\nmap_d grey.png", Material((1.0, 0.0, 0.0), np.dstack([TEXELS | 255, ALPHA]))),
    "Ke": ("Kd 0.1 0.1 0.1\nKe 0.2 0.4 0.6", Material(linear(0.1, 0.1, 0.1), emission=linear(0.2, 0.4, 0.6))),
    "map_Ke": ("Kd 0 0 0\nKe 0 0 0\nmap_Ke tex.png", Material(BLACK, emission=WHITE, emission_texture=TEXELS)),
    "what shines": ("Kd 1 0 0\nPr 0.1\nPm 1\nillum 3\nNi 1.5\nTf 1 1 1\nmap_Bump tex.png", Material((1.0, 0.0, 0.0))),
}  # fmt: skip


@pytest.mark.parametrize("kind", MATERIALS)
def test_materials(tmp_path, kind):
    text, material = MATERIALS[kind]
    path = write(tmp_path, box=lines("newmtl m", text))
    Image.fromarray(MASKED).save(tmp_path / "masked.png")
    Image.fromarray(ALPHA).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([ALPHA, TEXELS[..., :2]])).save(tmp_path / "red.png")
    Image.fromarray(np.repeat(ALPHA[:, [0]], 60, axis=1)).save(tmp_path / "half.png")
    if material is None:  # the twin has the picture in the size of the mask
        wide = np.asarray(Image.fromarray(TEXELS).resize((60, 4), Image.Resampling.BILINEAR))
        material = Material(texture=np.dstack([wide, np.repeat(ALPHA[:, [0]], 60, axis=1)]))
    assert_looks_like(path, box(material))


VERTEX_COLORS = {
    "to 1": lambda x, y, z, r, g, b: f"v {x} {y} {z} {r} {g} {b}",
    "to 255": lambda x, y, z, r, g, b: f"v {x} {y} {z} {r * 255} {g * 255} {b * 255}",
    "to 65535": lambda x, y, z, r, g, b: f"v {x} {y} {z} {r * 65535} {g * 65535} {b * 65535}",
    "w before": lambda x, y, z, r, g, b: f"v {x} {y} {z} 1 {r} {g} {b}",
    "alpha behind": lambda x, y, z, r, g, b: f"v {x} {y} {z} {r} {g} {b} 1",
    "w and alpha": lambda x, y, z, r, g, b: f"v {x} {y} {z} 1.0 {r} {g} {b} 1.0",
}


@pytest.mark.parametrize("kind", VERTEX_COLORS)
def test_vertex_colors(tmp_path, kind):
    vertices = [VERTEX_COLORS[kind](*place, *color) for place, color in zip(CORNERS, RGB, strict=True)]
    faces = ["f " + " ".join(str(row + 1) for row in side) for side in SIDES]
    assert_looks_like(write(tmp_path, lines(*vertices, *faces)), vertex_colored(RGB))


def test_vertices_without_a_colour_among_others_are_white(tmp_path):
    vertices = [f"v {x} {y} {z}" + (" 1 0 0" if x < 0 else "") for x, y, z in CORNERS]
    faces = ["f " + " ".join(str(row + 1) for row in side) for side in SIDES]
    colors = np.where(CORNERS[:, :1] < 0, [1.0, 0, 0], 1.0)
    assert_looks_like(write(tmp_path, lines(*vertices, *faces)), vertex_colored(colors))


# -- pictures ---------------------------------------------------------------------------------------------------------

GREY_TEXELS = TEXELS[..., 0]
WIDE = GREY_TEXELS.astype(np.uint16) * 257
THREE = np.repeat(GREY_TEXELS[..., None], 3, axis=2)
PALETTE = Image.fromarray(TEXELS).quantize(16)
PICTURES = {
    "grey of 16 bits": (Image.fromarray(WIDE), "png", THREE),
    "grey TIFF of 16 bits": (Image.fromarray(WIDE), "tiff", THREE),
    "grey": (Image.fromarray(GREY_TEXELS), "png", THREE),
    "grey with alpha": (Image.fromarray(np.dstack([GREY_TEXELS, ALPHA]), "LA"), "png", THREE),
    "colour with alpha": (Image.fromarray(MASKED), "png", TEXELS),
    "palette": (PALETTE, "png", np.asarray(PALETTE.convert("RGB"))),
    "one bit": (Image.fromarray(GREY_TEXELS > 99), "png", np.where(THREE > 99, 255, 0).astype(np.uint8)),
    "CMYK": (Image.fromarray(np.dstack([255 - TEXELS, TEXELS[..., 0] * 0]), "CMYK"), "tiff", TEXELS),
    "fractions": (Image.fromarray((GREY_TEXELS / 255).astype(np.float32)), "tiff", THREE),
    "BMP": (Image.fromarray(TEXELS), "bmp", TEXELS),
    "TGA": (Image.fromarray(TEXELS), "tga", TEXELS),
    "TGA with alpha": (Image.fromarray(MASKED), "tga", TEXELS),
    "WebP": (Image.fromarray(TEXELS), "webp", TEXELS),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_textures_of_all_kinds(tmp_path, kind):
    image, suffix, texels = PICTURES[kind]
    path = write(tmp_path, box=lines("newmtl m", f"map_Kd other.{suffix}"))
    image.save(tmp_path / f"other.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert_looks_like(path, box(Material(texture=texels)))


# -- polygons ---------------------------------------------------------------------------------------------------------

# An arrow, a U and a comb, counterclockwise; each with triangles that cover it.
ARROW = [(-0.4, -0.3), (0, -0.1), (0.4, -0.3), (0, 0.4)]
U = [(-0.4, -0.3), (0.4, -0.3), (0.4, 0.3), (0.2, 0.3), (0.2, -0.1), (-0.2, -0.1), (-0.2, 0.3), (-0.4, 0.3)]
SHAPES = {
    "arrow": (ARROW, [(0, 1, 3), (1, 2, 3)]),
    "U": (U, [(0, 1, 4), (0, 4, 5), (1, 2, 3), (1, 3, 4), (0, 5, 6), (0, 6, 7)]),
}


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("shape", SHAPES)
def test_polygons_of_any_shape_in_any_plane_from_any_corner(tmp_path, shape, first):
    outline, triangles = SHAPES[shape]
    turn = np.linalg.qr(np.random.default_rng(first).normal(size=(3, 3)))[0]
    places = np.c_[outline, np.zeros(len(outline))] @ turn.T
    order = np.roll(np.arange(len(outline)), first)[:: -1 if first % 2 else 1] + 1
    vertices = [f"v {x} {y} {z}" for x, y, z in places]
    texts = {
        "polygon": " ".join(map(str, order)),
        "corners twice": " ".join(f"{row} {row}" for row in order),
    }
    (tmp_path / "twin.obj").write_bytes(lines(*vertices, *(f"f {a + 1} {b + 1} {c + 1}" for a, b, c in triangles)))
    twin = pictures(read_mesh(tmp_path / "twin.obj")).astype(int)
    for name, corners in texts.items():
        (tmp_path / f"{name}.obj").write_bytes(lines(*vertices, f"f {corners}"))
        seen = pictures(read_mesh(tmp_path / f"{name}.obj"))
        # Where two triangles meet, a ray may hit either or, at the outline, none.
        assert (abs(seen - twin).max(axis=-1) > 2).mean() < 0.002, name


def test_a_hole_that_is_reached_by_a_bridge_stays_open(tmp_path):
    outer, inner = [(-4, -4), (4, -4), (4, 4), (-4, 4)], [(-2, -2), (-2, 2), (2, 2), (2, -2)]
    vertices = [f"v {x / 10} {y / 10} 0" for x, y in outer + inner]
    (tmp_path / "ring.obj").write_bytes(lines(*vertices, "f 1 2 3 4 1 5 6 7 8 5"))
    mesh = read_mesh(tmp_path / "ring.obj")
    edges = mesh.vertices[mesh.faces[:, 1:]] - mesh.vertices[mesh.faces[:, :1]]
    assert np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum() / 2 == pytest.approx(0.64 - 0.16)


def test_a_polygon_that_is_no_flat_thing_is_covered_once(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    radius, height = np.where(np.arange(30) % 2, 0.4, 0.15), 0.05 * np.sin(3 * angles)
    star = np.c_[radius * np.cos(angles), radius * np.sin(angles), height]
    text = lines(*(f"v {x} {y} {z}" for x, y, z in star), "f " + " ".join(str(row + 1) for row in range(30)))
    (tmp_path / "star.obj").write_bytes(text)
    mesh = read_mesh(tmp_path / "star.obj")
    flat = mesh.vertices[:, :2][mesh.faces]
    edges = flat[:, 1:] - flat[:, :1]
    areas = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
    ring = star[:, :2]
    whole = (ring[:, 0] * np.roll(ring[:, 1], -1) - ring[:, 1] * np.roll(ring[:, 0], -1)).sum() / 2
    assert abs(areas).sum() == pytest.approx(whole)
    assert len(mesh.faces) == 28


# -- what is missing --------------------------------------------------------------------------------------------------

MISSING = {
    "texture": (lines(*OBJ), {"box": lines("newmtl m", "Kd 1 0 0", "map_Kd gone.png")}, r"box\.mtl names 'gone\.png'"),
    "library": (changed("box.mtl", "gone.mtl"), {}, r"box\.obj names 'gone\.mtl'"),
    "material": (lines(*OBJ), {"box": lines("newmtl M", "Kd 1 0 0")}, r"'m', which is not in 'box\.mtl' \(it has"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_what_is_missing_leaves_the_mesh_out_or_is_drawn_grey(tmp_path, kind):
    obj, libraries, message = MISSING[kind]
    path = write(tmp_path, obj, **libraries)
    with pytest.raises(UsageError, match=message):
        read_mesh(path)
    files = NamedFiles(tmp_path, "grey")
    assert_looks_like(path, box(), lambda folder: files)
    assert len(files.missing) == 1


def test_what_no_face_uses_is_not_missed(tmp_path):
    library = lines(*MTL, "newmtl unused", "map_Kd gone.png")
    assert_looks_like(write(tmp_path, changed("usemtl m", "usemtl none\nusemtl m"), box=library), painted())


def test_materials_of_no_library_are_grey_with_a_warning(tmp_path):
    mesh = assert_looks_like(write(tmp_path, changed("mtllib box.mtl\n", "")), box())
    assert mesh.warnings == ("materials are used and no library is named: they are drawn grey",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Kd 1 x 0", r"box\.mtl, line 2: cannot read 'kd 1 x 0'"),
        ("Kd spectral a.rfl 1", "line 2: cannot read 'kd spectral"),
        ("d nan", "line 2.*not finite"),
        ("map_Kd tex.png\nmap_d -s 2 2 tex.png", "map_d and map_Kd differ"),
        ("map_Kd -foo 1 tex.png", "names '-foo 1 tex.png', which is not there"),
    ],
)
def test_lines_of_libraries_that_cannot_be_read_are_named(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_mesh(write(tmp_path, box=lines("newmtl m", text)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfev\x00 ", "cannot be read"),
        (b"v 0 0\x00 0\n", "it is no text"),
        (b"v 1 2 3 4 5\n", "line 1.*a v has 5 numbers"),
        (b"v 0 0 0\nvt\n", "line 2.*a vt has 0 numbers"),
        (b"v 0 0 0\nvn 1 2\n", "line 2.*a vn has 2 numbers"),
        (b"v 0 0 0 nan 0 0\nf 1 1 1\n", "colour of a vertex is no finite number"),
        (b"v 0 0 0\nf 1/1/1/1 1 1\n", "line 2.*corners are"),
        (b"v 0 0 0\nf 1.5 1 1\n", "line 2"),
        (b"v 0 0 0\nf 1 1\n", "no face"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        read_mesh(write(tmp_path, content))


def test_numbers_of_lines_count_lines_that_go_on(tmp_path):
    with pytest.raises(UsageError, match="line 4"):
        read_mesh(write(tmp_path, b"v 0 0 \\\n0\n# so\nf 1 x 1\n"))


def test_normals_and_coordinates_that_are_no_numbers_count_as_absent(tmp_path):
    text = lines(*OBJ).replace(b"vt 0 0\n", b"vt nan nan\nvn nan nan nan\n").replace(b"f 1/1 ", b"f 1/1/1 ")
    mesh = read_mesh(write(tmp_path, text))
    assert np.isfinite(mesh.uv).all()
    assert not mesh.normals.any()
