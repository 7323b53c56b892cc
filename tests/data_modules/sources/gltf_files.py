"""Writes small glTF files piece by piece, so that a test says of a file no more than what it is about."""

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

KINDS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Document:
    """A glTF document and its binary chunk; the methods return the number of what they add."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}]}
        self.binary = bytearray()

    def add(self, key: str, row: dict[str, Any]) -> int:
        rows = self.json.setdefault(key, [])
        rows.append(row)
        return len(rows) - 1

    def view(self, content: bytes, **keys: Any) -> int:
        self.binary += bytes(-len(self.binary) % 4)
        row = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content), **keys}
        self.binary += content
        return self.add("bufferViews", row)

    def accessor(self, values: Any, kind: str = "f4", stride: int | None = None, **keys: Any) -> int:
        """Values [N] or [N, columns]; with a stride each item is followed by rubbish."""
        array = np.asarray(values).astype(f"<{kind}")
        array = array.reshape(len(array), -1)
        row = {"componentType": KINDS[kind], "count": len(array), "type": TYPES[array.shape[1]], **keys}
        if stride is None:
            return self.add("accessors", {"bufferView": self.view(array.tobytes()), **row})
        items = b"".join(item.tobytes().ljust(stride, b"\xa5") for item in array)
        return self.add("accessors", {"bufferView": self.view(items, byteStride=stride), **row})

    def image(self, pixels: Any, form: str = "PNG") -> int:
        """A texture of an image [h, w, 3 or 4], without sampler; its number."""
        stream = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, form, lossless=True)
        source = self.add("images", {"bufferView": self.view(stream.getvalue()), "mimeType": f"image/{form.lower()}"})
        return self.add("textures", {"source": source})

    def node(self, is_root: bool = True, **keys: Any) -> int:
        number = self.add("nodes", keys)
        if is_root:
            self.json["scenes"][0]["nodes"].append(number)
        return number

    def mesh(self, *primitives: dict[str, Any], **keys: Any) -> int:
        return self.add("meshes", {"primitives": list(primitives), **keys})

    def extend(self, required: bool, *names: str) -> None:
        self.json.setdefault("extensionsUsed", []).extend(names)
        if required:
            self.json.setdefault("extensionsRequired", []).extend(names)

    def glb(self) -> bytes:
        document = {**self.json, "buffers": [{"byteLength": len(self.binary)}]}
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + bytes(-len(self.binary) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body

    def gltf(self) -> bytes:
        """The same as one text."""
        uri = "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
        return json.dumps({**self.json, "buffers": [{"byteLength": len(self.binary), "uri": uri}]}).encode()

    def write(self, path: Path) -> Path:
        path.write_bytes(self.glb() if path.suffix == ".glb" else self.gltf())
        return path


# A box whose faces can be told apart: four corners a face, counter-clockwise from outside.
_AXES = np.eye(3)
_SIDES = [(axis, sign) for axis in range(3) for sign in (1, -1)]
_RING = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def box(size: Any = (1.0, 1.5, 2.0)) -> dict[str, np.ndarray]:
    """``vertices`` and ``normals`` [24, 3], ``uv`` [24, 2] and ``faces`` [12, 3] of a box around the origin."""
    vertices, normals, uv = [], [], []
    for axis, sign in _SIDES:
        right, up = _AXES[(axis + 1) % 3], _AXES[(axis + 2) % 3]
        for across, above in _RING[::sign]:
            vertices.append((sign * _AXES[axis] + across * right + above * up) / 2)
            normals.append(sign * _AXES[axis])
            uv.append([(across + 1) / 2, (above + 1) / 2])
    ring = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.concatenate([ring + 4 * side for side in range(6)])
    return {
        "vertices": np.array(vertices) * size,
        "normals": np.array(normals),
        "uv": np.array(uv),
        "faces": faces,
    }


def primitive(document: Document, shape: dict[str, np.ndarray], **keys: Any) -> dict[str, Any]:
    """A primitive of plain floats and indices."""
    return {
        "attributes": {
            "POSITION": document.accessor(shape["vertices"]),
            "NORMAL": document.accessor(shape["normals"]),
            "TEXCOORD_0": document.accessor(shape["uv"]),
        },
        "indices": document.accessor(shape["faces"].ravel(), "u2"),
        **keys,
    }
