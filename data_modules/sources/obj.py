"""Wavefront OBJ as it is found in the wild.

Faces of any number of corners, negative indices, ``a//c``, empty groups, backslashes, blanks and wrong case in texture
names, and textures outside the mesh's folder are all common in ShapeNet; byte order marks, colours of vertices, several
libraries, and lines that go on in the next come from others.
"""

import re
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import GREY, Material, Mesh
from data_modules.sources.colors import linear_colors, to_unit
from data_modules.sources.files import read_lines, short
from data_modules.sources.mtl import Paint, read_library, resolve
from data_modules.sources.named_files import NamedFiles
from data_modules.sources.polygons import triangulate
from scaled_ig.errors import UsageError

# How many numbers a line has: x y z, then w, red green blue, both, or red green blue alpha.
COUNTS = {"v": (3, 4, 6, 7, 8), "vt": (1, 2, 3), "vn": (3,)}
LIBRARY = re.compile(r'"[^"]+"|\S.*?\.mtl(?=\s|$)', re.IGNORECASE)


class _Numbers:
    """Lines of one kind: all their numbers, and how many each has."""

    def __init__(self, kind: str) -> None:
        self.kind, self.flat, self.counts = kind, array("d"), array("B")

    def add(self, words: list[str]) -> None:
        if len(words) not in COUNTS[self.kind]:
            raise ValueError(f"a {self.kind} has {len(words)} numbers")
        self.flat.extend(map(float, words))
        self.counts.append(len(words))

    def table(self) -> NDArray[np.float64]:
        """[n, most], 0 where a line has no such number."""
        counts, most = np.asarray(self.counts), max(COUNTS[self.kind])
        table = np.zeros((len(counts), most))
        table[np.arange(most) < counts[:, None]] = self.flat
        return table


@np.errstate(all="ignore")  # normalize refuses vertices beyond all numbers
def read_obj(path: Path, files: NamedFiles | None = None) -> Mesh:
    """Reads the triangles and colours of an OBJ file and its MTL libraries.

    ``Kd`` is taken as a display (sRGB) value. Of libraries and materials with one name the first counts; a library may
    be named after its materials are used.

    Args:
        path: the OBJ file.
        files: finds libraries and textures; in the folder of the OBJ file unless given.

    Raises:
        UsageError: an index out of range, no face, an unreadable line, or a material or texture that is missing or lies
            elsewhere.
    """
    files = files or NamedFiles(path.parent)
    values = {kind: _Numbers(kind) for kind in COUNTS}
    corners, lengths, lines, material_index = array("q"), array("q"), array("q"), array("q")
    names: dict[str, int] = {"": 0}
    current, libraries = 0, list[str]()
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        keyword = words[0] if words else ""
        try:
            if keyword in values:
                values[keyword].add(_before_comment(words)[1:])
            elif keyword in ("f", "fo"):
                words = _before_comment(words)[1:]
                counts = [len(kind.counts) for kind in values.values()]
                for word in words:
                    corners.extend(_corner(word, counts))
                lengths.append(len(words))
                lines.append(number)
                material_index.append(current)
            elif keyword == "usemtl":
                current = names.setdefault(_rest(line), len(names))
            elif keyword == "mtllib":
                libraries.append(_rest(line))
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{path}, line {number}: cannot read {short(line.strip())} ({error}); repair it") from None
    rows = np.asarray(corners, np.int64).reshape(-1, 3) - 1
    _require_rows(path, rows, np.repeat(lines, lengths), values)
    positions, uv, normals = (kind.table() for kind in values.values())
    places, polygon = triangulate(positions[:, :3], rows[:, 0], np.asarray(lengths, np.int64))
    if not len(places):
        raise UsageError(f"{path} holds no face: repair or remove it")
    mesh = Mesh(
        vertices=positions[:, :3],
        faces=rows[places, 0],
        normals=_with_none(normals)[rows[places, 2]],
        uv=_with_none(uv[:, :2])[rows[places, 1]],
        material_index=np.asarray(material_index)[polygon],
        materials=(),
        vertex_colors=_vertex_colors(path, positions, np.asarray(values["v"].counts)),
    )
    return _painted(path, mesh, [*names], libraries, files)


def _rest(line: str) -> str:
    """What follows the keyword of a line; blanks within stay, they may belong to a name."""
    return [*line.strip().split(maxsplit=1), ""][1]


def _before_comment(words: list[str]) -> list[str]:
    for place, word in enumerate(words):
        if "#" in word:
            return [*words[:place], *filter(None, [word.partition("#")[0]])]
    return words


def _corner(word: str, counts: list[int]) -> list[int]:
    """``a/b/c`` to lines of v, vt and vn, counted from 1; 0 stands for absent."""
    rows = [int(text) if text else 0 for text in word.split("/")]
    if len(rows) > 3 or rows[0] == 0:
        raise ValueError("corners are a, a/b, a//c or a/b/c, and count from 1")
    if "-" in word:
        rows = [row + count + 1 if row < 0 else row for row, count in zip(rows, counts, strict=False)]
        if min(rows) < 0 or rows[0] == 0:
            raise ValueError("it counts back to before the first")
    return rows + [0] * (3 - len(rows))


def _require_rows(path: Path, rows: NDArray[np.int64], lines: NDArray[np.int64], values: dict[str, _Numbers]) -> None:
    for column, (kind, numbers) in zip(rows.T, values.items(), strict=True):
        wrong = np.flatnonzero(column >= len(numbers.counts))
        if len(wrong):
            raise UsageError(
                f"{path}, line {lines[wrong[0]]}: a face names {kind} {column[wrong[0]] + 1:,}, and the file "
                f"has {len(numbers.counts):,}; repair it"
            )


def _with_none(table: NDArray[np.float64]) -> NDArray[np.float32]:
    """A last row of zeros answers index -1: the corner has none. So has one whose numbers are not finite."""
    with np.errstate(over="ignore"):
        rows = np.pad(table, ((0, 1), (0, 0))).astype(np.float32)
    return np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.float32(0))


def _vertex_colors(path: Path, table: NDArray[np.float64], counts: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Linear RGB or RGBA [V, 3 or 4], opaque white for vertices without; None where none has a colour."""
    colored, seven = counts >= 6, counts == 7
    if not colored.any():
        return None
    # Seven numbers end in alpha, unless the fourth is 1 throughout as w is, and the last is not, as alpha is.
    begins_with_w = bool((table[seven, 3] == 1).all() and (table[seven, 6] != 1).any())
    first = np.where((counts == 8) | (seven & begins_with_w), 4, 3)
    values = np.take_along_axis(np.pad(table, ((0, 0), (0, 1))), first[:, None] + np.arange(4), axis=1)
    if not np.isfinite(values[colored]).all():
        raise UsageError(f"{path}: the colour of a vertex is no finite number; repair it")
    colors = np.ones((len(table), 4))
    colors[colored] = to_unit(values[colored])
    colors[counts - first < 4, 3] = 1.0
    return linear_colors(colors)


def _painted(path: Path, mesh: Mesh, names: list[str], libraries: list[str], files: NamedFiles) -> Mesh:
    """The mesh with the materials that its faces use, and texture coordinates as their maps place them."""
    paints, missing = _read_libraries(path, libraries, files)
    plain = GREY if mesh.vertex_colors is None else Material()
    materials, warnings, uv, emission_uv = [plain] * len(names), list[str](), mesh.uv.copy(), mesh.uv.copy()
    for number in np.unique(mesh.material_index).tolist():
        name = names[number]
        if name in paints:
            materials[number], picture, glow = resolve(paints[name], files)
            used = mesh.material_index == number
            uv[used], emission_uv[used] = picture.place(mesh.uv[used]), glow.place(mesh.uv[used])
        elif name and missing:
            files.report_missing(missing[0], f"{path} names {short(missing[0])}, which is not there", False)
        elif name and libraries:
            there = ", ".join(map(short, list(paints)[:5])) or "nothing"
            sentence = f"{path} uses the material {short(name)}, which is not in {short(libraries[0])} (it has {there})"
            files.report_missing(name, sentence, False)
        elif name:
            warnings.append("materials are used and no library is named: they are drawn grey")
    glows = any(material.emission_texture is not None for material in materials)
    return replace(
        mesh,
        uv=uv,
        emission_uv=emission_uv if glows else None,
        materials=tuple(materials),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _read_libraries(path: Path, libraries: list[str], files: NamedFiles) -> tuple[dict[str, Paint], list[str]]:
    """All materials of the libraries, and the names of libraries that are not there."""
    paints: dict[str, Paint] = {}
    missing, places = list[str](), dict[Path, None]()
    for line in dict.fromkeys(libraries):
        for names in ([line], LIBRARY.findall(line), line.split()):
            readable = {name: files.find(name, path) for name in names}
            if any(readable.values()):
                missing += [name for name, place in readable.items() if place is None]
                places |= {place: None for place in readable.values() if place}
                break
        else:
            missing.append(line)
    for place in places:
        paints = read_library(place) | paints
    return paints, missing
