"""Whether what a glTF or GLB file claims can be true, found before trimesh, which believes it, allocates.

Lengths are compared with the bytes that are there. What many entries share may be claimed once more by each of them, so
that a small file asks for much: of that there is a bound beside the size of the file.
"""

import base64
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from data_modules.sources.files import require_inside, short
from data_modules.sources.pictures import BROKEN, TexturePixels, open_picture
from scaled_ig.documents import LARGEST_JSON, parse_json, read_file
from scaled_ig.errors import UsageError

HEADER = struct.Struct("<4sIII4s")  # of a GLB and of its first chunk
CHUNK = struct.Struct("<I4s")
MOST_CHUNKS = 64
MOST_ITEMS = 4_000_000  # vertices, or triangles, of a small file
MOST_COPIED = 1 << 28  # bytes of all views, or of all accessors, of a small file
MOST_DEPTH = 512  # of nodes below each other
MOST_STEPS = 1_000_000  # from all nodes up to their roots; trimesh goes them, at 5 us each
ITEM_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
TRIANGLES, STRIPS_AND_FANS = 4, (5, 6)


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


def require_possible_gltf(path: Path, folder: Path) -> None:
    """Refuses a glTF or GLB file that claims what it cannot hold, or names what is missing, broken or elsewhere.

    Args:
        path: the file.
        folder: in which all that it names must lie.

    Raises:
        UsageError: so it is.
    """
    try:
        document, binary = _open_gltf(path)
    except (OSError, ValueError, struct.error) as error:
        raise UsageError(f"{path} is no glTF file ({error}): repair or remove it") from None
    try:
        buffers = [_buffer(path, folder, entry, binary) for entry in _rows(document, "buffers")]
        _require_bytes(document, buffers)
        _require_tree(document)
        _require_items(document, sum(buffer.size for buffer in buffers))
        _require_textures(path, folder, document, buffers)
    except ImpossibleError as error:
        raise UsageError(f"{path}: {error}: repair or remove it") from None
    except UsageError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path} is no sound glTF file ({error!r}): repair or remove it") from None


def _open_gltf(path: Path) -> tuple[dict[str, Any], Buffer | None]:
    """The document, and the binary chunk of a GLB."""
    if path.suffix.lower() == ".gltf":
        document, binary = parse_json(read_file(path)), None
    else:
        size = path.stat().st_size
        with path.open("rb") as stream:
            magic, _, total, length, kind = HEADER.unpack(stream.read(HEADER.size))
            if (magic, kind) != (b"glTF", b"JSON"):
                raise ValueError("it does not begin as one")
            if total > size or HEADER.size + length > size:
                raise ValueError(f"it claims {max(total, length):,} bytes and has {size:,}")
            if length > LARGEST_JSON:
                raise ValueError(f"its document has {length:,} bytes")
            document = parse_json(stream.read(length))
            binary = _binary(path, stream, total)
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
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


def _rows(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ImpossibleError(f"its {key} are no list of objects")
    return rows


def _number(row: dict[str, Any], key: str, default: int | None = None) -> int:
    value = row.get(key, default)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise ImpossibleError(f"a {key} is {short(value)}")
    return value


def _pick(rows: list[Any], number: Any, what: str) -> Any:
    if type(number) is not int or not 0 <= number < len(rows):
        raise ImpossibleError(f"it names {what} {short(number)}, which is not there")
    return rows[number]


def _named_file(path: Path, folder: Path, uri: str) -> Path:
    place = path.parent / unquote(uri)
    require_inside(place, folder, path)
    if not place.is_file():
        raise UsageError(f"{path} names {short(uri)}, which is not there: restore {place} or remove the mesh")
    return place


def _buffer(path: Path, folder: Path, entry: dict[str, Any], binary: Buffer | None) -> Buffer:
    claimed, uri = _number(entry, "byteLength", 0), entry.get("uri")
    if uri is None:
        buffer = binary or Buffer(b"", 0, 0)
    elif uri.startswith("data:"):
        content = uri.partition("base64,")[2]
        # Whole groups of four digits, less what fills the last one up.
        buffer = Buffer(b"", 0, len(content) * 3 // 4)
        if buffer.size >= claimed:
            buffer = Buffer(base64.b64decode(content), 0, buffer.size)
    else:
        place = _named_file(path, folder, uri)
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
    views, accessors = _rows(document, "bufferViews"), _rows(document, "accessors")
    sizes, copied = [_number(view, "byteLength") for view in views], 0
    for view, size in zip(views, sizes, strict=True):
        buffer = _pick(buffers, view.get("buffer"), "buffer")
        if _number(view, "byteOffset", 0) + size > buffer.size:
            raise ImpossibleError(f"a bufferView claims {size:,} bytes, more than its buffer of {buffer.size:,} has")
    for accessor in accessors:
        count = _number(accessor, "count")
        item = ITEM_BYTES[accessor["componentType"]] * COLUMNS[accessor["type"]]
        if "bufferView" in accessor:
            view = _pick(views, accessor["bufferView"], "bufferView")
            size, stride = sizes[accessor["bufferView"]], _number(view, "byteStride", item)
            if count and _number(accessor, "byteOffset", 0) + (count - 1) * stride + item > size:
                raise ImpossibleError(f"an accessor claims {count:,} items, more than its bufferView has")
        elif count > MOST_ITEMS:
            raise ImpossibleError(f"an accessor claims {count:,} items without a byte of them")
        copied += count * item
    most = max(MOST_COPIED, 4 * sum(buffer.size for buffer in buffers))
    if max(copied, sum(sizes)) > most:
        raise ImpossibleError(f"its views claim {max(copied, sum(sizes)):,} bytes, many times what the file has")


def _require_tree(document: dict[str, Any]) -> None:
    """Every node has one parent at most, none is its own ancestor, and none lies too deep."""
    children = [node.get("children", []) for node in _rows(document, "nodes")]
    parents = [-1] * len(children)
    for node, below in enumerate(children):
        for child in below:
            _pick(children, child, "node")
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
    accessors, meshes, sizes = _rows(document, "accessors"), _rows(document, "meshes"), []
    for mesh in meshes:
        vertices = triangles = 0
        for primitive in mesh["primitives"]:
            position, mode = primitive["attributes"].get("POSITION"), primitive.get("mode", TRIANGLES)
            if position is None:
                continue
            corners = _number(_pick(accessors, position, "accessor"), "count")
            vertices += corners
            if "indices" in primitive:
                corners = _number(_pick(accessors, primitive["indices"], "accessor"), "count")
            triangles += corners // 3 if mode == TRIANGLES else corners if mode in STRIPS_AND_FANS else 0
        sizes.append((vertices, triangles))
    placed = [_pick(sizes, node["mesh"], "mesh") for node in _rows(document, "nodes") if "mesh" in node]
    for listed in (sizes, placed):
        for name, total in zip(("vertices", "triangles"), map(sum, zip(*listed, strict=True)), strict=False):
            if total > max(MOST_ITEMS, num_bytes // 8):
                raise ImpossibleError(f"its meshes have {total:,} {name} together, many times what the file holds")


def _require_textures(path: Path, folder: Path, document: dict[str, Any], buffers: list[Buffer]) -> None:
    """Images exist and lie inside; those of base colours can be opened, else trimesh would go on without them."""
    images, pixels = _rows(document, "images"), TexturePixels()
    for image in images:
        if not image.get("uri", "data:").startswith("data:"):
            _named_file(path, folder, image["uri"])
    for number in sorted(set(_base_colours(document))):
        image = _pick(images, number, "image")
        try:
            content = _image_bytes(path, image, document, buffers)
            with open_picture(io.BytesIO(content)) as opened:
                pixels.add(opened, len(content))
        except BROKEN as error:
            name = image.get("uri", "data:")
            name = f"image {number}" if name.startswith("data:") else short(name)
            raise UsageError(f"{path}: its texture {name} cannot be read ({error}): restore it") from None


def _base_colours(document: dict[str, Any]) -> Iterator[int]:
    """Numbers of the images that base colours come from."""
    textures = _rows(document, "textures")
    for material in _rows(document, "materials"):
        reference = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if reference is None:
            continue
        texture = _pick(textures, reference.get("index"), "texture")
        sources = [extension.get("source") for extension in texture.get("extensions", {}).values()]
        source = next((number for number in [texture.get("source"), *sources] if number is not None), None)
        if source is None:
            raise ImpossibleError("a texture of it has no image")
        yield source


def _image_bytes(path: Path, image: dict[str, Any], document: dict[str, Any], buffers: list[Buffer]) -> bytes:
    if "bufferView" in image:
        view = _pick(_rows(document, "bufferViews"), image["bufferView"], "bufferView")
        return buffers[view["buffer"]].read(_number(view, "byteOffset", 0), _number(view, "byteLength"))
    uri = image["uri"]
    if uri.startswith("data:"):
        return base64.b64decode(uri.partition("base64,")[2])
    return read_file(path.parent / unquote(uri))
