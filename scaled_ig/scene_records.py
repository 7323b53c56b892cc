"""A scene's own parameters as bytes, and back.

A record is a float32 head and a body. Tables follow each other in alphabetical order. The head has rows without planes
(mixing coefficients) as they are and, for 8-bit encodings, the scales [3, F] of each table of planes: one a plane
and channel. The body has the planes [3, K, K, F], channels last: float32, bfloat16 or int8. ``int8_difference`` keeps
what a scene adds to a reference row, the mean of its version, in coarser steps, and its body is one zlib stream. Little
endian.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Encoding = Literal["float32", "bfloat16", "int8", "int8_difference"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

_STEPS = {"int8": 127, "int8_difference": 63}
"""Largest step either side of zero; fewer are smaller once compressed, see docs/bank.md for what they cost."""
_TINY = float(np.finfo(np.float32).tiny)


def encode(rows: dict[str, Tensor], encoding: Encoding, mean: dict[str, Tensor]) -> bytes:
    """A scene's record.

    Args:
        rows: One row of each table, float32; planes are [3, K, K, F].
        encoding: ``float32`` keeps every bit; 8-bit values are off by half a step of their plane and channel at most.
        mean: Reference rows of the version, of the same names and shapes; only ``int8_difference`` reads their values.

    Raises:
        ValueError: The rows have other names or shapes than ``mean``, or an 8-bit encoding is asked of values that are
            not finite.
    """
    if {name: row.shape for name, row in rows.items()} != {name: row.shape for name, row in mean.items()}:
        raise ValueError("the rows of a scene and of its version's mean differ in their names or shapes")
    head, body = [], []
    for name, row in sorted(rows.items()):
        values = row.detach().float().cpu().contiguous()
        if not _is_planes(values.shape):
            head.append(values.numpy().astype("<f4"))
        elif encoding == "float32":
            body.append(values.numpy().astype("<f4"))
        elif encoding == "bfloat16":
            body.append(values.to(torch.bfloat16).view(torch.int16).numpy().astype("<i2"))
        else:
            base = mean[name].float().cpu().numpy() if encoding == "int8_difference" else np.float32(0)
            scales, steps = _quantise(values.numpy() - base, _STEPS[encoding])
            head.append(scales.astype("<f4"))
            body.append(steps)
    content = b"".join(part.tobytes() for part in body)
    return b"".join(part.tobytes() for part in head) + (_deflate(content) if encoding == "int8_difference" else content)


def decode(record: bytes, encoding: Encoding, mean: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows of a record, float32, under the names and with the shapes of ``mean``.

    Raises:
        ValueError: The record has another length than these shapes ask for, or cannot be decompressed.
    """
    shapes = {name: tuple(mean[name].shape) for name in sorted(mean)}
    cut = 4 * sum(_head_values(shape, encoding) for shape in shapes.values())
    head, body = record[:cut], record[cut:]
    if encoding == "int8_difference":
        body = _inflate(body, sum(int(np.prod(shape)) for shape in shapes.values() if _is_planes(shape)))
    kind = {"float32": "<f4", "bfloat16": "<i2"}.get(encoding, "<i1")
    floats, values = np.frombuffer(head, "<f4"), np.frombuffer(body, kind)
    rows = {}
    for name, shape in shapes.items():
        own, floats = np.split(floats, [_head_values(shape, encoding)])
        if not _is_planes(shape):
            rows[name] = torch.from_numpy(own.reshape(shape).astype(np.float32))
            continue
        planes, values = np.split(values, [int(np.prod(shape))])
        if encoding == "bfloat16":
            rows[name] = torch.from_numpy(planes.reshape(shape).astype(np.int16)).view(torch.bfloat16).float()
        elif encoding == "float32":
            rows[name] = torch.from_numpy(planes.reshape(shape).astype(np.float32))
        else:
            scales = own.reshape(shape[0], *[1] * (len(shape) - 2), shape[-1]).astype(np.float32)
            base = mean[name].float().cpu().numpy() if encoding == "int8_difference" else np.float32(0)
            rows[name] = torch.from_numpy(planes.reshape(shape) * scales + base)
    if len(values):
        raise ValueError("the record is longer than the shapes of its tables")
    return rows


def record_sha256(scene_id: str, version: str, source_sha256: str, record: bytes | memoryview) -> bytes:
    """Digest [32] of a record and of what the scene table says about it."""
    digest = hashlib.sha256()
    for text in (scene_id, version, source_sha256):
        part = text.encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    digest.update(record)
    return digest.digest()


def _is_planes(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 3


def _head_values(shape: tuple[int, ...], encoding: Encoding) -> int:
    """Floats that a table has in the head of a record."""
    if not _is_planes(shape):
        return int(np.prod(shape))
    return shape[0] * shape[-1] if encoding in ("int8", "int8_difference") else 0


def _quantise(planes: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scales [3, F] and steps [3, K, K, F], of -``most`` to ``most``, of planes."""
    if not np.isfinite(planes).all():
        raise ValueError("values that are not finite have no 8-bit encoding: keep them as float32")
    between = tuple(range(1, planes.ndim - 1))
    # A plane of zeros has a scale too, and so have values that are smaller than a float32 can be divided.
    scales = np.maximum(np.abs(planes).max(between, keepdims=True) / np.float32(most), np.float32(_TINY))
    steps = np.rint(planes / scales).clip(-most, most).astype(np.int8)
    return scales.reshape(planes.shape[0], planes.shape[-1]), steps


def _deflate(content: bytes) -> bytes:
    """One zlib stream; neighbours in it are channels of a texel, whose values repeat too seldom for longer matches."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    return squeeze.compress(content) + squeeze.flush()


def _inflate(stream: bytes, length: int) -> bytes:
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(stream, length + 1)
    except zlib.error as error:
        raise ValueError(f"the record cannot be decompressed ({error})") from None
    if len(content) != length or not unpack.eof or unpack.unused_data:
        raise ValueError("the record has another length than the shapes of its tables")
    return content
