"""Wavefront OBJ and MTL as they are found in the wild.

Faces of any number of corners, negative indices, ``a//c``, empty groups, backslashes, blanks and wrong case in texture
names, and textures outside the mesh's folder are all common in ShapeNet.
"""

from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import Material, Mesh, srgb_to_linear
from data_modules.sources.files import require_inside, short
from data_modules.sources.pictures import BROKEN, TexturePixels, open_picture
from scaled_ig.documents import read_file
from scaled_ig.errors import UsageError

DEFAULT_GREY = 0.8
LARGEST_TEXT = 1 << 30  # bytes
MAP_OPTIONS = {"-blendu": 1, "-blendv": 1, "-cc": 1, "-clamp": 1, "-bm": 1, "-texres": 1, "-imfchan": 1, "-boost": 1,
               "-mm": 2, "-o": 3, "-s": 3, "-t": 3}  # fmt: skip


def read_obj(path: Path, missing_textures: list[str] | None = None, folder: Path | None = None) -> Mesh:
    """Reads the triangles and diffuse colours of an OBJ file; polygons become fans.

    ``Kd`` is taken as a display (sRGB) value, and ignored beside ``map_Kd``, where it is an exporter's leftover;
    ``d`` and ``Tr`` are ignored: glass is drawn opaque.

    Args:
        path: the OBJ file.
        missing_textures: gets the names of missing textures, which ``Kd`` then stands in for; None refuses them.
        folder: in which all files of the model lie; that of the OBJ file unless given.

    Raises:
        UsageError: an index out of range, no face, an unreadable line, or a texture that is missing or lies elsewhere.
    """
    textures, libraries = _Textures(folder or path.parent), set()
    values: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: list[tuple[int, int, int]] = []
    materials: dict[str, Material] = {}
    names: dict[str, int] = {}
    face_material: list[int] = []
    current = names.setdefault("", 0)
    for number, line in enumerate(_lines(path), start=1):
        keyword, rest = _split(line)
        try:
            if keyword in values:
                values[keyword].append([float(word) for word in rest.split()])
            elif keyword == "f":
                ring = [_corner(word, values) for word in rest.split()]
                for second, third in pairwise(ring[1:]):
                    corners += (ring[0], second, third)
                    face_material.append(current)
            elif keyword == "usemtl":
                current = names.setdefault(rest.strip(), len(names))
            elif keyword == "mtllib":
                library = _require(path.parent, rest, path)
                if library not in libraries:
                    libraries.add(library)
                    require_inside(library, textures.folder, path)
                    materials |= _read_mtl(library, missing_textures, textures)
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: cannot read {short(line.strip())} ({error}); repair it") from None
    if not corners:
        raise UsageError(f"{path} holds no face: repair or remove it")
    try:
        return _assemble(path, values, np.array(corners).reshape(-1, 3, 3), face_material, [*names], materials)
    except UsageError:
        raise
    except (ValueError, TypeError, OverflowError):
        raise UsageError(
            f"{path}: a vertex, uv or normal has too few numbers, or an index too many digits: repair it"
        ) from None


def _lines(path: Path) -> list[str]:
    try:
        content = read_file(path, LARGEST_TEXT)
        if b"\0" in content:
            raise OSError("it is no text")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error}): repair or remove it") from None
    return content.decode("utf-8", errors="replace").splitlines()


def _split(line: str) -> tuple[str, str]:
    """Keyword and the rest of a line; blanks within the rest stay, they may belong to a name."""
    keyword, rest = [*line.strip().split(maxsplit=1), "", ""][:2]
    return keyword, rest


def _corner(word: str, values: dict[str, list[list[float]]]) -> tuple[int, int, int]:
    """``a/b/c`` to zero-based rows of v, vt, vn; -1 stands for absent."""
    position, texture, normal = [*word.split("/"), "", ""][:3]
    rows = [0 if text == "" else int(text) for text in (position, texture, normal)]
    places = [row - 1 if row >= 0 else row + len(values[kind]) for row, kind in zip(rows, values, strict=True)]
    return places[0], places[1], places[2]


def _assemble(
    path: Path,
    values: dict[str, list[list[float]]],
    corners: NDArray[np.int64],
    face_material: list[int],
    names: list[str],
    materials: dict[str, Material],
) -> Mesh:
    vertices = np.array([row[:3] for row in values["v"]], dtype=np.float64).reshape(-1, 3)
    # A last row of zeros answers index -1: the corner has no texture coordinate or normal.
    uv = np.array([row[:2] for row in values["vt"]] + [[0.0, 0.0]], dtype=np.float32)
    normals = np.array([row[:3] for row in values["vn"]] + [[0.0, 0.0, 0.0]], dtype=np.float32)
    faces = corners[..., 0]
    limits = (len(vertices), len(uv) - 1, len(normals) - 1)
    if (faces < 0).any() or any((corners[..., kind] >= limit).any() for kind, limit in enumerate(limits)):
        raise UsageError(f"{path}: a face names a vertex, uv or normal that is not there; repair the file")
    grey = float(srgb_to_linear(np.array(DEFAULT_GREY)))
    plain = Material(color=(grey, grey, grey))
    colors = None
    if all(len(row) >= 6 for row in values["v"]):
        colors = srgb_to_linear(np.array([row[3:6] for row in values["v"]])).astype(np.float32)
        plain = Material()
    return Mesh(
        vertices=vertices,
        faces=faces,
        normals=normals[corners[..., 2]],
        uv=uv[corners[..., 1]],
        material_index=np.array(face_material),
        materials=tuple(materials.get(name, plain) for name in names),
        vertex_colors=colors,
    )


class _Textures:
    """Textures of a model, each decoded once, whatever the number of materials that name it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pixels = TexturePixels()
        self._textures: dict[Path, NDArray[np.uint8]] = {}

    def read(self, path: Path, named_by: Path) -> NDArray[np.uint8]:
        require_inside(path, self.folder, named_by)
        if path not in self._textures:
            self._textures[path] = read_texture(path, self._pixels)
        return self._textures[path]


def _read_mtl(path: Path, missing_textures: list[str] | None, folder: _Textures) -> dict[str, Material]:
    colors: dict[str, tuple[float, float, float]] = {}
    textures: dict[str, NDArray[np.uint8]] = {}
    name = ""
    for line in _lines(path):
        keyword, rest = _split(line)
        if keyword == "newmtl":
            name = rest.strip()
            colors[name] = (1.0, 1.0, 1.0)
        elif keyword == "Kd":
            red, green, blue = srgb_to_linear(np.array([float(word) for word in rest.split()[:3]])).tolist()
            colors[name] = (red, green, blue)
        elif keyword == "map_Kd":
            texture = _without_options(rest)
            if missing_textures is None or _find(path.parent, texture).is_file():
                textures[name] = folder.read(_require(path.parent, texture, path), path)
            else:
                missing_textures.append(texture)
    return {
        name: Material(texture=textures[name]) if name in textures else Material(color=color)
        for name, color in colors.items()
    }


def _without_options(text: str) -> str:
    words = text.split(" ")
    while words and words[0].lower() in MAP_OPTIONS:
        words = words[1 + MAP_OPTIONS[words[0].lower()] :]
    return " ".join(words)


def _find(folder: Path, name: str) -> Path:
    """The file ``name`` below ``folder``, whatever its slashes and case; it need not be there."""
    place = folder
    for part in PurePosixPath(name.strip().strip('"').replace("\\", "/")).parts:
        exact = place / part
        if part != ".." and not exact.exists() and place.is_dir():
            alike = sorted(entry for entry in place.iterdir() if entry.name.lower() == part.lower())
            exact = alike[0] if alike else exact
        place = exact
    return place


def _require(folder: Path, name: str, named_by: Path) -> Path:
    """As ``_find``, and fails loudly where the file is missing."""
    place = _find(folder, name)
    if not place.is_file():
        raise UsageError(f"{named_by} names {name.strip()}, which is not there: restore {place} or remove the mesh")
    return place


def read_texture(path: Path, pixels: TexturePixels) -> NDArray[np.uint8]:
    """An image file as uint8 [h, w, 3]; alpha is dropped, since glass is drawn opaque.

    Args:
        path: the file.
        pixels: those of the mesh's textures so far.

    Raises:
        UsageError: the file is no image, or claims more pixels than are read.
    """
    try:
        with open_picture(path) as image:
            pixels.add(image, path.stat().st_size)
            return np.asarray(image.convert("RGB"))
    except BROKEN as error:
        raise UsageError(f"the texture {path} cannot be read ({error}): restore the file") from None
