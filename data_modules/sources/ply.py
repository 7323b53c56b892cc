"""PLY files: text or binary, with colours of vertices or faces, and textures that comments name."""

import codecs
import struct
import warnings
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import GREY, Material, Mesh, bounded_uv
from data_modules.sources.colors import linear_colors, to_unit
from data_modules.sources.files import decode_text, short
from data_modules.sources.named_files import NamedFiles
from data_modules.sources.polygons import triangulate
from scaled_ig.documents import read_file
from scaled_ig.errors import UsageError

LARGEST_FILE = 1 << 32  # bytes
LARGEST_HEADER = 1 << 20
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
LENGTHS = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}  # as numpy and as struct name them
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
POSITION, NORMAL = [("x", "y", "z")], [("nx", "ny", "nz")]
COLOR = [
    ("red", "green", "blue", "alpha"),
    ("diffuse_red", "diffuse_green", "diffuse_blue", "diffuse_alpha"),
    ("r", "g", "b", "a"),
]
UV = [("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t")]
INDICES, CORNER_UV, TEXTURE = ("vertex_indices", "vertex_index"), "texcoord", "texnumber"


@dataclass(frozen=True)
class Column:
    """A property: the ``values`` of all rows, of type ``kind``; of a list also the ``lengths`` [count]."""

    kind: str
    values: NDArray[Any]
    lengths: NDArray[np.int64] | None


@dataclass
class Element:
    """``count`` rows of named properties: the type of each, and of the length of each list or None."""

    name: str
    count: int
    properties: dict[str, tuple[str, str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What stands before the rows: ``order`` is that of struct, empty for a text."""

    order: str
    elements: list[Element]
    textures: list[str]
    size: int


@np.errstate(all="ignore")  # normalize refuses vertices beyond all numbers
def read_ply(path: Path, files: NamedFiles | None = None) -> Mesh:
    """Reads the triangles and colours of a PLY file; strips become triangles, polygons as in OBJ files.

    Colours are sRGB. A texture file counts before colours, colours of faces before those of vertices unless all faces
    have one colour.

    Args:
        path: the file.
        files: finds textures; in the folder of the file unless given.

    Raises:
        UsageError: the file is no PLY file, claims more than it holds, holds no face, or names a vertex that is not
            there, or a texture that is missing, broken or elsewhere.
    """
    files = files or NamedFiles(path.parent)
    try:
        return _mesh(path, *_read(read_file(path, LARGEST_FILE)), files)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): repair or remove it") from None


# -- the file ---------------------------------------------------------------------------------------------------------


def _read(content: bytes) -> tuple[dict[str, dict[str, Column]], list[str]]:
    """The columns of all elements, and the names of textures."""
    header = _read_header(content)
    rows, columns = _Rows(content, header), {}
    for element in header.elements:
        columns[element.name] = rows.read(element)
    return columns, header.textures


def _read_header(content: bytes) -> Header:
    head = content[:LARGEST_HEADER].removeprefix(codecs.BOM_UTF8)
    size = min(len(content), LARGEST_HEADER) - len(head)
    end = next((end for end in (b"\r\n", b"\r") if head[3:10].lstrip(b" ").startswith(end)), b"\n")
    lines, order, elements, textures = head.split(end), None, list[Element](), list[str]()
    if lines[0].strip().lower() != b"ply":
        raise ValueError("it does not begin with ply")
    for line in lines:
        size += len(line) + len(end)
        words = decode_text(line).split(maxsplit=4)
        keyword = words[0].lower() if words else ""
        try:
            if keyword == "end_header":
                if order is None:
                    raise ValueError
                return Header(order, elements, textures, size)
            if keyword == "format":
                order = FORMATS[words[1]]
            elif keyword == "element":
                elements.append(Element(words[1], int(words[2])))
            elif keyword == "property" and words[1] == "list":
                _add(elements[-1], words[4], TYPES[words[3]], _length(words[2]))
            elif keyword == "property":
                _add(elements[-1], words[2], TYPES[words[1]], None)
            elif words[1:] and words[1].lower() == "texturefile":
                textures.append(decode_text(line).split(maxsplit=2)[2])
        except (LookupError, ValueError):
            raise ValueError(f"its header says {short(' '.join(words))}") from None
    raise ValueError("its header has no end")


def _length(word: str) -> str:
    if TYPES[word] not in LENGTHS:
        raise ValueError
    return TYPES[word]


def _add(element: Element, name: str, kind: str, length: str | None) -> None:
    if name in element.properties:
        raise ValueError
    element.properties[name] = kind, length


class _Rows:
    """What stands behind a header: bytes, or numbers where it is a text. Elements are read one after another."""

    def __init__(self, content: bytes, header: Header) -> None:
        self.order, self.place = header.order, header.size
        self.items: NDArray[Any] = np.frombuffer(content, np.uint8)
        if not self.order:
            self.place, self.items = 0, _numbers(content[header.size :])

    def read(self, element: Element) -> dict[str, Column]:
        """The columns of the next element.

        Raises:
            ValueError: the file does not hold its rows.
        """
        kinds = [kind for kind, _ in element.properties.values()]
        lists = {number: length for number, (_, length) in enumerate(element.properties.values()) if length}
        # Bytes, or numbers, before the values of each property: those of the length of a list.
        before = [self._size(lists[n]) if n in lists else 0 for n in range(len(kinds))]
        fixed = [before[n] + (0 if n in lists else self._size(kind)) for n, kind in enumerate(kinds)]
        claim = ValueError(f"it claims {element.count:,} rows of {short(element.name)}, which it does not hold")
        if element.count < 0 or element.count * sum(fixed) > len(self.items) - self.place:
            raise claim
        if not kinds:
            return {}
        sizes = [self._size(kind) for kind in kinds]
        lengths = dict(zip(lists, self._walk(element.count, fixed, lists, sizes, claim), strict=True)) if lists else {}
        row = sum(fixed) + sum(lengths[number] * sizes[number] for number in lists) + np.zeros(element.count, np.int64)
        places = self.place + np.cumsum(row) - row
        self.place += int(row.sum())
        columns = {}
        for number, (name, kind) in enumerate(zip(element.properties, kinds, strict=True)):
            starts, size = places + before[number], sizes[number]
            places = places + fixed[number]
            if number in lists:
                places += lengths[number] * size
                starts = _spread(starts, lengths[number], size)
            columns[name] = Column(kind, self._values(starts, kind), lengths.get(number))
        return columns

    def _walk(
        self, count: int, fixed: list[int], lists: dict[int, str], sizes: list[int], claim: ValueError
    ) -> NDArray[np.int64]:
        """Lengths [lists, count]: where a list begins is known only behind the one before."""
        lengths, place = array("q"), self.place
        # Of each list the bytes since the last one, how its length is read, and the bytes of that and of a value.
        steps, since = [], 0
        for number, size in enumerate(fixed):
            if number in lists:
                steps.append((since, struct.Struct(self.order + LENGTHS[lists[number]]), size, sizes[number]))
                since = 0
            else:
                since += size
        items = self.items.data
        try:
            for _ in range(count):
                for skipped, reader, size, value in steps:
                    place += skipped
                    length = reader.unpack_from(items, place)[0] if self.order else int(items[place])
                    if length < 0:
                        raise claim
                    lengths.append(length)
                    place += size + length * value
                place += since
        except (struct.error, IndexError, OverflowError, ValueError):
            raise claim from None
        if place > len(self.items):
            raise claim
        return np.asarray(lengths, np.int64).reshape(count, len(steps)).T

    def _size(self, kind: str) -> int:
        return np.dtype(kind).itemsize if self.order else 1

    def _values(self, starts: NDArray[np.int64], kind: str) -> NDArray[Any]:
        """Values at places [n]."""
        if not self.order:
            return self.items[starts]
        return self.items[starts[:, None] + np.arange(self._size(kind))].view(self.order + kind)[:, 0]


def _spread(starts: NDArray[np.int64], lengths: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Places of all values of lists that begin at ``starts``."""
    firsts = np.cumsum(lengths) - lengths
    return np.repeat(starts - size * firsts, lengths) + size * np.arange(lengths.sum())


def _numbers(text: bytes) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, sep=" ")
        except (ValueError, DeprecationWarning):
            raise ValueError("its rows are no numbers") from None


# -- the mesh ---------------------------------------------------------------------------------------------------------


def _mesh(path: Path, elements: dict[str, dict[str, Column]], textures: list[str], files: NamedFiles) -> Mesh:
    vertex, face = elements.get("vertex", {}), elements.get("face", {})
    positions = _table(vertex, POSITION)
    if positions is None:
        raise ValueError("its vertices have no x, y and z")
    corners, lengths = _polygons(face, elements.get("tristrips", {}), len(positions))
    places, polygon = triangulate(positions, corners, lengths)
    if not len(places):
        raise ValueError("it holds no face, and points have no surface")
    normals = _table(vertex, NORMAL)
    if normals is None:
        normals = np.zeros_like(positions)
    normals = np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, 0.0)
    mesh = Mesh(
        vertices=positions,
        faces=corners[places],
        normals=normals[corners[places]].astype(np.float32),
        uv=np.zeros((*places.shape, 2), np.float32),
        material_index=np.zeros(len(places), np.int64),
        materials=(GREY,),
    )
    uv, has_uv = _corner_uv(vertex, face, corners, lengths)
    if textures and has_uv.any():
        number = face[TEXTURE].values[polygon] if TEXTURE in face else np.zeros(len(polygon))
        return _textured(path, mesh, uv[places], np.where(has_uv[polygon], number, -1), textures, files)
    if textures:
        mesh = replace(mesh, warnings=("a texture is named, and nothing says where it lies: it is not drawn",))
    return _colored(mesh, _colors(vertex), _colors(face), polygon)


def _table(columns: dict[str, Column], names: Sequence[tuple[str, ...]]) -> NDArray[np.float64] | None:
    """[n, k] of the first names that are all there, and no lists; None where none are."""
    for group in names:
        if all(name in columns and columns[name].lengths is None for name in group):
            return np.stack([columns[name].values.astype(np.float64) for name in group], axis=1)
    return None


def _polygons(
    face: dict[str, Column], strips: dict[str, Column], num_vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners of all faces, or of the triangles of all strips, one after another, and how many each has."""
    column = next((columns[name] for columns in (face, strips) for name in INDICES if name in columns), None)
    if column is None or column.lengths is None:
        raise ValueError("it holds no face, and points have no surface")
    if not np.isfinite(column.values).all():
        raise ValueError("a face names a vertex that is no number")
    corners, lengths = column.values.astype(np.int64), column.lengths
    if column not in face.values():
        strip = np.repeat(np.arange(len(lengths)), lengths)
        three = np.lib.stride_tricks.sliding_window_view(corners, 3) if len(corners) > 2 else np.zeros((0, 3), np.int64)
        whole = (three >= 0).all(axis=1) & (strip[: len(three)] == strip[2:])
        corners, lengths = three[whole].ravel(), np.full(int(whole.sum()), 3)
    wrong = (corners < 0) | (corners >= num_vertices)
    if wrong.any():
        raise ValueError(f"a face names vertex {corners[wrong][0]:,}, and there are {num_vertices:,}, counted from 0")
    return corners, lengths


def _corner_uv(
    vertex: dict[str, Column], face: dict[str, Column], corners: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Texture coordinates of all corners [C, 2], and which faces have some, bool [P]."""
    column, of_vertices = face.get(CORNER_UV), _table(vertex, UV)
    if column is not None and column.lengths is not None and column.lengths.any():
        has_uv = column.lengths > 0
        if (column.lengths[has_uv] != 2 * lengths[has_uv]).any():
            raise ValueError(f"a face has not two numbers of {CORNER_UV} a corner")
        uv = np.zeros((len(corners), 2))
        uv[np.repeat(has_uv, lengths)] = column.values.reshape(-1, 2)
    else:
        has_uv = np.full(len(lengths), of_vertices is not None)
        uv = np.zeros((len(corners), 2)) if of_vertices is None else of_vertices[corners]
    if not np.isfinite(uv).all():
        raise ValueError("a texture coordinate is not finite")
    return bounded_uv(uv), has_uv


def _textured(
    path: Path, mesh: Mesh, uv: NDArray[np.float32], number: NDArray[Any], names: list[str], files: NamedFiles
) -> Mesh:
    """The mesh with texture ``number`` [T] on each triangle; what is below 0 has none."""
    number = np.where(number < 0, len(names), number).astype(np.int64)
    if number.max() > len(names):
        raise ValueError(f"a face has {TEXTURE} {number.max():,}, and {len(names)} textures are named")
    materials = [GREY] * (len(names) + 1)
    for row in np.unique(number[number < len(names)]).tolist():
        texture = files.texture(names[row], path)
        if texture is not None:
            materials[row] = Material(texture=np.ascontiguousarray(texture[..., :3]))
    return replace(mesh, uv=uv, material_index=number, materials=tuple(materials))


def _colors(columns: dict[str, Column]) -> NDArray[np.float32] | None:
    """Linear RGB or RGBA [n, 3 or 4], from display values: fractions count to 1, integers as far as their bits do."""
    names = next((names for names in COLOR if set(names[:3]) <= columns.keys()), None)
    if names is None:
        return None
    table = _table(columns, [names, names[:3]])
    if table is None or not np.isfinite(table).all():
        raise ValueError("a colour is no finite number")
    kind = columns[names[0]].kind
    if kind[0] == "f":
        return linear_colors(to_unit(table))
    white = 65535 if kind == "u2" else 255
    table = table % 256 if kind == "i1" else table
    if table.min(initial=0) < 0 or table.max(initial=0) > white:
        raise ValueError(f"a colour is not between 0 and {white}")
    return linear_colors(table / white)


def _colored(
    mesh: Mesh,
    of_vertices: NDArray[np.float32] | None,
    of_faces: NDArray[np.float32] | None,
    polygon: NDArray[np.int64],
) -> Mesh:
    """Faces' colours where they have more than one, or vertices have none: each corner becomes a vertex of its own."""
    if of_faces is not None and (of_vertices is None or (of_faces != of_faces[:1]).any()):
        return replace(
            mesh,
            vertices=mesh.vertices[mesh.faces.ravel()],
            faces=np.arange(mesh.faces.size).reshape(-1, 3),
            materials=(Material(),),
            vertex_colors=np.repeat(of_faces[polygon], 3, axis=0),
        )
    return mesh if of_vertices is None else replace(mesh, materials=(Material(),), vertex_colors=of_vertices)
