"""A scene's own parameters as bytes, and back.

A record is a hull, a head and a body. Tables follow each other in alphabetical order. The hull is one zlib stream of
the bits of the visual hull; scenes of models that do not sample within hulls have none. The head has rows without
planes (mixing coefficients) as float32 and, for 8-bit encodings, the scales [3, F] of each table of planes: one a plane
and channel. The body has the planes [3, K, K, F], channels last: float32, bfloat16 or int8. ``int8_difference`` keeps
what a scene adds to a reference row, the mean of its version, in coarser steps, and its body is one zlib stream. Little
endian.

Beside a hull the body has only the texels that samples within it read, in the order in which they lie; the others come
back as 0. ``int8_difference`` then keeps of a step what its neighbours do not foretell.

Letters: K texels along a plane, F features.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaled_ig.finite import is_finite
from scaled_ig.representations.occupancy import Hulls

Encoding = Literal["float32", "bfloat16", "int8", "int8_difference"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Texels = Callable[[Hulls], Tensor | None]
"""Which texels of planes hulls read, see :meth:`scaled_ig.representations.SceneRepresentation.texels`."""

_STEPS = {"int8": 127, "int8_difference": 63}
"""Largest step either side of zero; fewer are smaller once compressed, see docs/bank.md for what they cost."""
_FORETOLD_STEPS = 47  # of int8_difference beside a hull
TexelMask = NDArray[np.bool_] | None
"""Texels [3, K, K] of planes that a record has; None where it has all."""
_TINY = float(np.finfo(np.float32).tiny)


def encode(rows: dict[str, Tensor], encoding: Encoding, mean: dict[str, Tensor], texels: Texels | None = None) -> bytes:
    """A scene's record.

    Args:
        rows: One row of each table: float32, planes are [3, K, K, F]; or the bits of a hull, uint8.
        encoding: ``float32`` keeps every bit; 8-bit values are off by half a step of their plane and channel at most.
        mean: Reference rows of the version, of the same names and shapes; only ``int8_difference`` reads their values.
        texels: Says which texels of planes a hull reads; None keeps all of them.

    Raises:
        ValueError: The rows have other names or shapes than ``mean``, or an 8-bit encoding is asked of values that are
            not finite.
    """
    if _shapes(rows) != _shapes(mean):
        raise ValueError("the rows of a scene and of its version's mean differ in their names or shapes")
    mask = _texel_mask(rows, texels)
    hull, head, body = b"", b"", b""
    for name, row in sorted(rows.items()):
        if _is_hull(row):
            hull = _deflate(row.cpu().numpy().tobytes())
            continue
        values = row.detach().float().cpu().numpy()
        if not _is_planes(values.shape):
            head += values.astype("<f4").tobytes()
            continue
        if encoding == "int8_difference":
            values = values - mean[name].float().cpu().numpy()
        scales, planes = _pack(values, encoding, mask)
        head, body = head + scales, body + planes
    return hull + head + (_deflate(body) if encoding == "int8_difference" else body)


def decode(
    record: bytes, encoding: Encoding, mean: dict[str, Tensor], texels: Texels | None = None
) -> dict[str, Tensor]:
    """Rows of a record, float32 and the bits of a hull, under the names and with the shapes of ``mean``.

    Args:
        record: What was encoded.
        encoding: How.
        mean: Reference rows of the version.
        texels: Says which texels of planes a hull reads, as it did when the scene was encoded.

    Raises:
        ValueError: The record has another length than these shapes ask for, or cannot be decompressed.
    """
    rows, head, body = _split(record, encoding, mean)
    mask = _texel_mask(rows, texels)
    shapes = _shapes_without_hull(mean)
    if encoding == "int8_difference":
        body, more = _inflate(body, sum(_num_values(shape, mask) for shape in shapes.values() if _is_planes(shape)))
        if more:
            raise ValueError("the record is longer than the shapes of its tables")
    kind = {"float32": "<f4", "bfloat16": "<i2"}.get(encoding, "<i1")
    floats, values = np.frombuffer(head, "<f4"), np.frombuffer(body, kind)
    for name, shape in shapes.items():
        scales, floats = np.split(floats, [_head_values(shape, encoding)])
        if not _is_planes(shape):
            rows[name] = torch.from_numpy(scales.reshape(shape).astype(np.float32))
            continue
        part, values = np.split(values, [_num_values(shape, mask)])
        planes = _unpack(part, scales, shape, encoding, mask)
        if encoding == "int8_difference":
            planes += _masked(mean[name].float().cpu().numpy(), mask)
        rows[name] = torch.from_numpy(planes)
    if len(values):
        raise ValueError("the record is longer than the shapes of its tables")
    return rows


def has_finite_values(record: bytes, encoding: Encoding, mean: dict[str, Tensor]) -> bool:
    """Whether all that a record says is finite; the reference rows are not looked at.

    Args:
        record: What was encoded.
        encoding: How.
        mean: Reference rows of the version.

    Raises:
        ValueError: The record is not one of such rows.
    """
    _, head, body = _split(record, encoding, mean)
    parts = [torch.from_numpy(np.frombuffer(head, "<f4").astype(np.float32))]
    if encoding == "float32":
        parts.append(torch.from_numpy(np.frombuffer(body, "<f4").astype(np.float32)))
    elif encoding == "bfloat16":
        parts.append(torch.from_numpy(np.frombuffer(body, "<i2").astype(np.int16)).view(torch.bfloat16))
    return all(map(is_finite, parts))  # steps of 8-bit encodings are whole numbers


def float32_bytes(rows: dict[str, Tensor], texels: Texels | None = None) -> dict[str, int]:
    """Bytes of each row in a float32 record.

    Args:
        rows: As in :func:`encode`.
        texels: As in :func:`encode`.
    """
    mask = _texel_mask(rows, texels)
    return {
        name: len(_deflate(row.cpu().numpy().tobytes()))
        if _is_hull(row)
        else 4 * (_num_values(row.shape, mask) if _is_planes(row.shape) else row.numel())
        for name, row in rows.items()
    }


def record_sha256(scene_id: str, version: str, source_sha256: str, record: bytes | memoryview) -> bytes:
    """Digest [32] of a record and of what the scene table says about it."""
    digest = hashlib.sha256()
    for text in (scene_id, version, source_sha256):
        part = text.encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    digest.update(record)
    return digest.digest()


def _split(record: bytes, encoding: Encoding, mean: dict[str, Tensor]) -> tuple[dict[str, Tensor], bytes, bytes]:
    """Hull, by its name, head and body of a record."""
    hulls = {}
    for name, row in mean.items():
        if _is_hull(row):
            bits, record = _inflate(record, row.numel())
            hulls[name] = torch.frombuffer(bytearray(bits), dtype=torch.uint8).reshape(row.shape)
    cut = 4 * sum(_head_values(shape, encoding) for shape in _shapes_without_hull(mean).values())
    return hulls, record[:cut], record[cut:]


def _shapes_without_hull(mean: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tables that are no hulls, in the order in which they follow each other."""
    return {name: tuple(row.shape) for name, row in sorted(mean.items()) if not _is_hull(row)}


def _is_hull(row: Tensor) -> bool:
    return row.dtype == torch.uint8


def _is_planes(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 3


def _shapes(rows: dict[str, Tensor]) -> dict[str, tuple[bool, torch.Size]]:
    return {name: (_is_hull(row), row.shape) for name, row in rows.items()}


def _texel_mask(rows: dict[str, Tensor], texels: Texels | None) -> TexelMask:
    hull = next(filter(_is_hull, rows.values()), None)
    masks = None if hull is None or texels is None else texels(Hulls(hull.cpu()[None]))
    return None if masks is None else masks[0].numpy()


def _num_values(shape: tuple[int, ...], mask: TexelMask) -> int:
    """Values that the body of a record has of planes."""
    return int(np.prod(shape)) if mask is None else int(mask.sum()) * shape[-1]


def _masked(planes: NDArray[np.float32], mask: TexelMask) -> NDArray[np.float32]:
    return planes if mask is None else np.where(mask[..., None], planes, np.float32(0))


def _head_values(shape: tuple[int, ...], encoding: Encoding) -> int:
    """Floats that a table has in the head of a record."""
    if not _is_planes(shape):
        return int(np.prod(shape))
    return shape[0] * shape[-1] if encoding in ("int8", "int8_difference") else 0


def _pack(values: NDArray[np.float32], encoding: Encoding, mask: TexelMask) -> tuple[bytes, bytes]:
    """Scales and body of planes [3, K, K, F]; for ``int8_difference``, of what they add to the reference row."""
    values, scales = _masked(values, mask), b""
    planes: NDArray[Any] = values.astype("<f4")
    if encoding == "bfloat16":
        planes = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().astype("<i2")
    elif encoding != "float32":
        foretold = mask if encoding == "int8_difference" else None
        sizes, planes = _quantise(values, _STEPS[encoding] if foretold is None else _FORETOLD_STEPS)
        scales = sizes.astype("<f4").tobytes()
        if foretold is not None:
            _foretell(planes, foretold)
    return scales, (planes if mask is None else planes[mask]).tobytes()


def _unpack(
    values: NDArray[Any], scales: NDArray[np.float32], shape: tuple[int, ...], encoding: Encoding, mask: TexelMask
) -> NDArray[np.float32]:
    """Planes of the values of the texels in the mask; the inverse of :func:`_pack`."""
    if mask is None:
        planes = values.reshape(shape)
    else:
        planes = np.zeros(shape, values.dtype)
        planes[mask] = values.reshape(-1, shape[-1])
    if encoding == "float32":
        return planes.astype(np.float32)
    if encoding == "bfloat16":
        return torch.from_numpy(planes.astype(np.int16)).view(torch.bfloat16).float().numpy()
    if encoding == "int8_difference" and mask is not None:
        _recall(planes, mask)
    return planes * scales.reshape(shape[0], *[1] * (len(shape) - 2), shape[-1]).astype(np.float32)


def _quantise(planes: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scales [3, F] and steps [3, K, K, F], of -``most`` to ``most``, of planes."""
    if not np.isfinite(planes).all():
        raise ValueError("values that are not finite have no 8-bit encoding")
    between = tuple(range(1, planes.ndim - 1))
    # A plane of zeros has a scale too, and so have values that are smaller than a float32 can be divided.
    scales = np.maximum(np.abs(planes).max(between, keepdims=True) / np.float32(most), np.float32(_TINY))
    steps = np.rint(planes / scales).clip(-most, most).astype(np.int8)
    return scales.reshape(planes.shape[0], planes.shape[-1]), steps


def _foretell(steps: NDArray[np.int8], mask: NDArray[np.bool_]) -> None:
    """Leave of steps [3, K, K, F] what half of the one before does not foretell, along rows, then along columns.

    What the mask does not have is 0, before and after.
    """
    for axis in (2, 1):
        lines = np.moveaxis(steps, axis, 0)
        lines[1:] -= lines[:-1] >> 1
        steps *= mask[..., None]


def _recall(steps: NDArray[np.int8], mask: NDArray[np.bool_]) -> None:
    """The inverse of :func:`_foretell`, line by line: each needs the one before."""
    for axis in (1, 2):
        lines, masks = np.moveaxis(steps, axis, 0), np.moveaxis(mask[..., None], axis, 0)
        for previous, line, in_mask in zip(lines[:-1], lines[1:], masks[1:], strict=True):
            line += (previous >> 1) * in_mask


def _deflate(content: bytes) -> bytes:
    """One zlib stream; neighbours in a body are channels of a texel, which repeat too seldom for longer matches."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    return squeeze.compress(content) + squeeze.flush()


def _inflate(stream: bytes, length: int) -> tuple[bytes, bytes]:
    """Content of a zlib stream, and what follows it."""
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(stream, length + 1)
    except zlib.error as error:
        raise ValueError(f"the record cannot be decompressed ({error})") from None
    if len(content) != length or not unpack.eof:
        raise ValueError("the record has another length than the shapes of its tables")
    return content, unpack.unused_data
