"""A surface as a binary glTF 2.0 file, which viewers, browsers, Blender and game engines open.

Letters: V vertices, F faces.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import srgb_to_linear
from scaled_ig import __version__
from scaled_ig.export.surface import Surface

VERTICES, INDICES = 34962, 34963  # targets of buffers
FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125  # types of numbers
UNLIT = "KHR_materials_unlit"


def glb(surface: Surface, name: str, licence: str) -> bytes:
    """Content of a ``.glb`` file.

    Axes are those of the format: +Y up, the front along +Z; the world's x, y, z become x, z, -y. Colours are linear
    with 16 bits, as the format asks, and are shown as they are: light is in them already.

    Args:
        surface: The surface.
        name: Of the object.
        licence: Becomes the file's ``copyright``; none where it is empty.
    """
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
    places, normals = surface.vertices @ turn.T, surface.normals @ turn.T
    colours = np.full((len(places), 4), 65535, np.uint16)  # numbers of a vertex fill a multiple of four bytes
    colours[:, :3] = np.round(srgb_to_linear(surface.colours) * 65535)
    limits = {"min": places.min(0).tolist(), "max": places.max(0).tolist()}
    buffers = [
        _Buffer(places, "VEC3", FLOAT, VERTICES, limits),
        _Buffer(normals, "VEC3", FLOAT, VERTICES),
        _Buffer(colours, "VEC4", UNSIGNED_SHORT, VERTICES, {"normalized": True}),
        _Buffer(surface.faces.astype(np.uint32).ravel(), "SCALAR", UNSIGNED_INT, INDICES),
    ]
    attributes = {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}
    document = {
        "asset": {
            "version": "2.0",
            "generator": f"scaled-ig {__version__}",
            **({"copyright": licence} if licence else {}),
        },
        "extensionsUsed": [UNLIT],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [{"attributes": attributes, "indices": 3, "material": 0}]}],
        # Viewers that do not know the extension light a surface that does not shine.
        "materials": [{"extensions": {UNLIT: {}}, "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}}],
    }
    return _file(document, buffers)


class _Buffer:
    """Numbers of one kind: what the file says of them, and their bytes."""

    def __init__(
        self, values: NDArray[Any], shape: str, kind: int, target: int, more: dict[str, Any] | None = None
    ) -> None:
        self.accessor = {"type": shape, "componentType": kind, "count": len(values), **(more or {})}
        self.target, self.content = target, np.ascontiguousarray(values).tobytes()
        assert len(self.content) % 4 == 0


def _file(document: dict[str, Any], buffers: list[_Buffer]) -> bytes:
    """Header, the document as JSON, and the buffers one behind the other."""
    views, offset = [], 0
    for buffer in buffers:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(buffer.content), "target": buffer.target})
        offset += len(buffer.content)
    accessors = [{"bufferView": number, **buffer.accessor} for number, buffer in enumerate(buffers)]
    document = document | {"accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": offset}]}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", offset, b"BIN\0")
    content = b"".join(buffer.content for buffer in buffers)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks) + offset) + chunks + content
