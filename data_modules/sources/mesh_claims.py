"""Whether what a glTF or GLB file claims can be true, found before any of it is read.

Lengths are compared with the bytes that are there. What many entries share may be claimed once more by each of them, so
that a small file asks for much: of that there is a bound beside the size of the file.
"""

import base64
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from data_modules.sources.files import require_inside, short
from data_modules.sources.gltf_extensions import INSTANCING, MESHOPT, require_extensions
from data_modules.sources.named_files import NamedFiles
from scaled_ig.documents import LARGEST_JSON, parse_json, read_file
from scaled_ig.errors import UsageError

MAGIC = b"glTF"
HEADER = struct.Struct("<4sIII4s")  # of a GLB and of its first chunk
CHUNK = struct.Struct("<I4s")
MOST_CHUNKS = 64
MOST_ITEMS = 4_000_000  # vertices, or triangles, of a small file
MOST_COPIED = 1 << 28  # bytes of all views, or of all accessors, of a small file
MOST_DEPTH = 512  # of nodes below each other
MOST_STEPS = 1_000_000  # from all nodes up to their roots; trimesh goes them, at 5 us each
ITEM_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
TRIANGLES, STRIP, FAN = 4, 5, 6


class ImpossibleError(ValueError):
    """What a file claims and cannot hold, as a clause."""


@dataclass(frozen=True)
class Buffer:
    """Bytes that a glTF file names: ``size`` of them from ``start`` of a file, or the content of a data URI."""

    place: Path | bytes
    start: int
    size: int

    def read(self, offset: int, size: int) -> bytes:
        if isinstance(self.place, bytes):
            return self.place[offset : offset + size]
        with self.place.open("rb") as stream:
            stream.seek(self.start + offset)
            return stream.read(size)


@dataclass(frozen=True)
class Gltf:
    """A glTF or GLB file that claims no more than it holds, and names no file that is missing or elsewhere.

    Attributes:
        path: the file.
        document: its JSON.
        buffers: those of the document.
    """

    path: Path
    document: dict[str, Any]
    buffers: list[Buffer]

    def rows(self, key: str) -> list[dict[str, Any]]:
        """The objects of a list of the document, such as ``meshes``; empty where there is none."""
        return rows_of(self.document, key)

    def read_view(self, number: int, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of a bufferView, from ``offset`` on; ``size`` of them or all."""
        view = pick(self.rows("bufferViews"), number, "bufferView")
        size = count_of(view, "byteLength") - offset if size is None else size
        return self.buffers[view["buffer"]].read(count_of(view, "byteOffset", 0) + offset, size)

    def read_image(self, image: dict[str, Any]) -> bytes:
        """The content of an image file, wherever it lies.

        Raises:
            OSError: it cannot be read.
        """
        if "bufferView" in image:
            return self.read_view(image["bufferView"])
        uri = image["uri"]
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition("base64,")[2])
        return read_file(self.path.parent / unquote(uri))


def open_gltf(path: Path, files: NamedFiles) -> Gltf:
    """Opens a glTF or GLB file, and refuses one that claims what it cannot hold, or names what is missing or elsewhere.

    Args:
        path: the file.
        files: the folder in which all that it names must lie, and whether textures may be missing.

    Raises:
        UsageError: so it is, or the file requires an extension that is not read.
    """
    try:
        document, binary = _open_gltf(path)
    except (OSError, ValueError, struct.error) as error:
        raise UsageError(f"{path} is no glTF file ({error}): repair or remove it") from None
    with said_of(path):
        require_extensions(path, document)
        buffers = [_buffer(path, files.folder, entry, binary) for entry in rows_of(document, "buffers")]
        _require_bytes(document, buffers)
        _require_tree(document)
        _require_items(document, sum(buffer.size for buffer in buffers))
        for image in rows_of(document, "images"):
            uri = image.get("uri", "data:")
            if not uri.startswith("data:") and not _is_there(path, files.folder, uri):
                files.report_missing(unquote(uri), f"{path} names {short(uri)}, which is not there", True)
    return Gltf(path, document, buffers)


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Says of a glTF file in one sentence whatever is found to be wrong with it."""
    try:
        yield
    except ImpossibleError as error:
        raise UsageError(f"{path}: {error}: repair or remove it") from None
    except UsageError:
        raise
    except KeyError as error:
        raise UsageError(f"{path} is no sound glTF file ({error} is missing or unknown): repair or remove it") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path} is no sound glTF file ({short(str(error))}): repair or remove it") from None


def _open_gltf(path: Path) -> tuple[dict[str, Any], Buffer | None]:
    """The document, and the binary chunk of a GLB; the first bytes say whether it is one, not the suffix."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            document, binary = parse_json(read_file(path)), None
        else:
            stream.seek(0)
            size = path.stat().st_size
            _, version, total, length, kind = HEADER.unpack(stream.read(HEADER.size))
            if version != 2:
                raise ValueError(f"it is of version {version}, and 2 is read")
            if kind != b"JSON":
                raise ValueError("it does not begin as one")
            if total > size or HEADER.size + length > size:
                raise ValueError(f"it claims {max(total, length):,} bytes and has {size:,}")
            if length > LARGEST_JSON:
                raise ValueError(f"its document has {length:,} bytes")
            document = parse_json(stream.read(length))
            binary = _binary(path, stream, total)
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
    asset = document.get("asset")
    asset = asset if isinstance(asset, dict) else {}
    version, least = asset.get("version", "2.0"), asset.get("minVersion", "2.0")
    if str(version).partition(".")[0] != "2" or least != "2.0":
        raise ValueError(f"it is of version {short(version)}, needs {short(least)}, and 2.0 is read")
    return document, binary


def _binary(path: Path, stream: io.BufferedReader, total: int) -> Buffer | None:
    binary = None
    for _ in range(MOST_CHUNKS):
        head = stream.read(CHUNK.size)
        if len(head) < CHUNK.size or stream.tell() > total:
            return binary
        length, kind = CHUNK.unpack(head)
        if stream.tell() + length > path.stat().st_size:
            raise ValueError(f"a chunk claims {length:,} bytes, more than there are")
        if kind == b"BIN\0" and binary is None:
            binary = Buffer(path, stream.tell(), length)
        stream.seek(length, os.SEEK_CUR)
    raise ValueError(f"it has more than {MOST_CHUNKS} chunks")


def rows_of(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list of a document; empty where there is none."""
    rows = document.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ImpossibleError(f"its {key} are no list of objects")
    return rows


def count_of(row: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number that is not negative."""
    value = row.get(key, default)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise ImpossibleError(f"a {key} is {short(value)}")
    return value


def numbers_of(values: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    """As many numbers as the default has, which stands for None."""
    if values is None:
        return default
    if not isinstance(values, list) or len(values) != len(default) or not {*map(type, values)} <= {int, float}:
        raise ImpossibleError(f"{short(values)} are not {len(default)} numbers")
    return tuple(map(float, values))


def pick(rows: list[Any], number: Any, what: str) -> Any:
    """The row that a document names by its number."""
    if type(number) is not int or not 0 <= number < len(rows):
        raise ImpossibleError(f"it names {what} {short(number)}, which is not there")
    return rows[number]


def _is_there(path: Path, folder: Path, uri: str) -> bool:
    place = path.parent / unquote(uri)
    require_inside(place, folder, path)
    return place.is_file()


def _buffer(path: Path, folder: Path, entry: dict[str, Any], binary: Buffer | None) -> Buffer:
    claimed, uri = count_of(entry, "byteLength", 0), entry.get("uri")
    for name in MESHOPT:
        if entry.get("extensions", {}).get(name, {}).get("fallback"):
            raise ImpossibleError(f"its buffers are compressed by {name}, which is not read")
    if uri is None:
        buffer = binary or Buffer(b"", 0, 0)
    elif uri.startswith("data:"):
        content = uri.partition("base64,")[2]
        # Whole groups of four digits, less what fills the last one up.
        buffer = Buffer(b"", 0, len(content) * 3 // 4)
        if buffer.size >= claimed:
            buffer = Buffer(base64.b64decode(content), 0, buffer.size)
    else:
        place = path.parent / unquote(uri)
        if not _is_there(path, folder, uri):
            raise UsageError(f"{path} names {short(uri)}, which is not there: restore {place} or remove the mesh")
        buffer = Buffer(place, 0, place.stat().st_size)
    if claimed > buffer.size:
        raise ImpossibleError(f"a buffer claims {claimed:,} bytes and has {buffer.size:,}")
    if uri is not None and buffer.size > claimed + MOST_COPIED:
        raise ImpossibleError(f"a buffer claims {claimed:,} bytes, and its file has {buffer.size:,}")
    return buffer


def _require_bytes(document: dict[str, Any], buffers: list[Buffer]) -> None:
    """Views lie within buffers, accessors within views."""
    places = [buffer.place for buffer in buffers if isinstance(buffer.place, Path)]
    if len(set(places)) < len(places):
        raise ImpossibleError("two of its buffers are one file")
    views, accessors = rows_of(document, "bufferViews"), rows_of(document, "accessors")
    sizes, copied = [count_of(view, "byteLength") for view in views], 0
    for view, size in zip(views, sizes, strict=True):
        buffer = pick(buffers, view.get("buffer"), "buffer")
        if count_of(view, "byteOffset", 0) + size > buffer.size:
            raise ImpossibleError(f"a bufferView claims {size:,} bytes, more than its buffer of {buffer.size:,} has")
    for accessor in accessors:
        count = count_of(accessor, "count")
        item = ITEM_BYTES[accessor["componentType"]] * COLUMNS[accessor["type"]]
        if "bufferView" in accessor:
            _require_span(views, accessor, count, item)
        elif count > MOST_ITEMS:
            raise ImpossibleError(f"an accessor claims {count:,} items without a byte of them")
        if "sparse" in accessor:
            few = count_of(accessor["sparse"], "count")
            _require_span(
                views, accessor["sparse"]["indices"], few, ITEM_BYTES[accessor["sparse"]["indices"]["componentType"]]
            )
            _require_span(views, accessor["sparse"]["values"], few, item)
        copied += count * item
    most = max(MOST_COPIED, 4 * sum(buffer.size for buffer in buffers))
    if max(copied, sum(sizes)) > most:
        raise ImpossibleError(f"its views claim {max(copied, sum(sizes)):,} bytes, many times what the file has")


def _require_span(views: list[dict[str, Any]], place: dict[str, Any], count: int, item: int) -> None:
    """Items of so many bytes each lie within the bufferView that an accessor, or a part of it, names."""
    view = pick(views, place.get("bufferView"), "bufferView")
    stride = count_of(view, "byteStride", item)
    if count and count_of(place, "byteOffset", 0) + (count - 1) * stride + item > view["byteLength"]:
        raise ImpossibleError(f"an accessor claims {count:,} items, more than its bufferView has")


def _require_tree(document: dict[str, Any]) -> None:
    """Every node has one parent at most, none is its own ancestor, and none lies too deep."""
    children = [node.get("children", []) for node in rows_of(document, "nodes")]
    parents = [-1] * len(children)
    for node, below in enumerate(children):
        for child in below:
            pick(children, child, "node")
            if parents[child] >= 0:
                raise ImpossibleError(f"its node {child} has two parents")
            parents[child] = node
    depth = {node: 0 for node, parent in enumerate(parents) if parent < 0}
    waiting = list(depth)
    while waiting:
        node = waiting.pop()
        depth |= dict.fromkeys(children[node], depth[node] + 1)
        waiting += children[node]
    if len(depth) < len(children):
        raise ImpossibleError("its nodes form a circle")
    if depth and (max(depth.values()) > MOST_DEPTH or sum(depth.values()) > MOST_STEPS):
        raise ImpossibleError(f"its nodes lie up to {max(depth.values()):,} deep, more than is read")


def _require_items(document: dict[str, Any], num_bytes: int) -> None:
    """Vertices and triangles of all meshes, and of all their places in the scene."""
    accessors, meshes, sizes = rows_of(document, "accessors"), rows_of(document, "meshes"), []
    for mesh in meshes:
        vertices = triangles = 0
        for primitive in mesh["primitives"]:
            position, mode = primitive["attributes"].get("POSITION"), primitive.get("mode", TRIANGLES)
            if position is None:
                continue
            corners = count_of(pick(accessors, position, "accessor"), "count")
            vertices += corners
            if "indices" in primitive:
                corners = count_of(pick(accessors, primitive["indices"], "accessor"), "count")
            triangles += corners // 3 if mode == TRIANGLES else corners if mode in (STRIP, FAN) else 0
        sizes.append((vertices, triangles))
    placed = []
    for node in rows_of(document, "nodes"):
        if "mesh" in node:
            vertices, triangles = pick(sizes, node["mesh"], "mesh")
            attributes = node.get("extensions", {}).get(INSTANCING, {}).get("attributes", {}).values()
            times = [count_of(pick(accessors, number, "accessor"), "count") for number in attributes]
            weights = node.get("weights", meshes[node["mesh"]].get("weights", []))
            moved = sum(bool(weight) for weight in weights)  # vertices are read once more for each
            placed.append((vertices * (max(times, default=1) + moved), triangles * max(times, default=1)))
    for listed in (sizes, placed):
        for name, total in zip(("vertices", "triangles"), map(sum, zip(*listed, strict=True)), strict=False):
            if total > max(MOST_ITEMS, num_bytes // 8):
                raise ImpossibleError(f"its meshes have {total:,} {name} together, many times what the file holds")
