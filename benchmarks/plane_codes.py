"""Ways to keep the planes of scenes in fewer bytes, for benchmarks/rate_distortion.py.

Letters: N scenes, K texels along a plane, F features, R rotated features that are kept.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from scaled_ig.bank.scene_records import _deflate, _foretell, _quantise  # the bank's own: what it does is measured

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 0, "pb": 0}]  # contexts of letters cost here


@dataclass(frozen=True)
class Planes:
    """Planes of scenes, as what they add to the reference row of their version.

    Args:
        values: [N, 3, K, K, F], 0 outside the mask.
        mask: [N, 3, K, K] texels that samples within hulls read.
    """

    values: Floats
    mask: Mask


@dataclass(frozen=True)
class Code:
    """What a way keeps of scenes, and what comes back.

    Args:
        steps: [N, 3, K', K', R] whole numbers, of which those in the mask are kept.
        mask: [N, 3, K', K'].
        head_bytes: What a scene keeps beside them: scales.
        restored: [N, 3, K, K, F] planes made of nothing but steps, mask and head.
        channels_first: Whether a feature's steps of a plane lie together, as suits features that differ in size.
    """

    steps: NDArray[np.int8]
    mask: Mask
    head_bytes: int
    restored: Floats
    channels_first: bool = False

    def sizes(self) -> dict[str, float]:
        """Bytes a scene, mean over scenes, by coder, of what neighbours do not foretell, as the bank keeps it.

        ``entropy`` is what no coder goes below that knows the frequencies of steps of each scene, plane and feature,
        and nothing else. Tables of these are not counted; zlib and LZMA, which adapt, may come below it.
        """
        sizes = dict.fromkeys(("zlib", "lzma", "entropy"), 0.0)
        for steps, mask in zip(self.steps, self.mask, strict=True):
            kept = steps.copy()
            _foretell(kept, mask)
            parts = [plane[in_plane] for plane, in_plane in zip(kept, mask, strict=True)]
            body = b"".join((part.T if self.channels_first else part).tobytes() for part in parts)
            sizes["zlib"] += len(_deflate(body))
            sizes["lzma"] += len(lzma.compress(body, lzma.FORMAT_RAW, filters=LZMA))
            sizes["entropy"] += sum(entropy_bytes(column) for part in parts for column in part.T)
        return {name: size / len(self.steps) + self.head_bytes for name, size in sizes.items()}


def entropy_bytes(steps: NDArray[np.int8]) -> float:
    """Bytes that steps take at the entropy of their frequencies."""
    _, counts = np.unique(steps, return_counts=True)
    return float((counts * np.log2(counts.sum() / counts)).sum() / 8)


def fewer_steps(planes: Planes, most: int) -> Code:
    """The bank's ``int8_difference`` with ``most`` steps either side of zero; a scale for each plane and feature."""
    scales, steps = zip(*(_quantise(values, most) for values in planes.values), strict=True)
    restored = np.stack(steps) * np.stack(scales)[:, :, None, None]
    return Code(np.stack(steps), planes.mask, scales[0].nbytes, restored)


def rotated(planes: Planes, weight: Floats, step: float, kept: int | None = None) -> Code:
    """Features turned to the axes along which what the head sees varies most, in steps of one size.

    A turned error has the same length as what it does to the head's hidden layer. The axes are of all scenes together:
    shared, so no scene pays for them.

    Args:
        planes: The planes.
        weight: [H, F] of the head's hidden layer.
        step: The size of a step, in values before the head's activation; what is over 127 of them is cut off.
        kept: R, how many axes are kept; all where it is None.
    """
    axes = head_axes(planes, weight)
    steps = np.rint(planes.values @ axes.T[:, :kept] / step).clip(-127, 127).astype(np.int8)
    restored = (steps * np.float32(step)) @ np.linalg.inv(axes).T[:kept]
    return Code(steps, planes.mask, 0, restored.astype(np.float32), channels_first=True)


def head_axes(planes: Planes, weight: Floats) -> Floats:
    """A matrix [F, F] that turns features: what it makes of them is uncorrelated, the largest first.

    With A this matrix and W the weight, AᵀA = WᵀW.
    """
    values = planes.values[planes.mask].astype(np.float64)
    squares, directions = np.linalg.eigh(weight.T.astype(np.float64) @ weight)
    root = (directions * np.sqrt(squares.clip(min=0))) @ directions.T
    _, axes = np.linalg.eigh(root @ (values.T @ values) @ root)
    return (axes[:, ::-1].T @ root).astype(np.float32)


def fewer_texels(planes: Planes, texels: int, most: int) -> Code:
    """Planes of fewer texels along a side, ``most`` steps either side of zero; bilinear on the way back."""
    count, size = len(planes.values), planes.values.shape[2]
    weights = planes.mask[..., None].astype(np.float32)
    sums = _resample(planes.values, texels), _resample(weights, texels)
    small_mask = sums[1][..., 0] > 0  # texels outside the mask count for nothing
    small = np.where(small_mask[..., None], sums[0] / sums[1].clip(min=1e-6), 0).astype(np.float32)
    code = fewer_steps(Planes(small, small_mask), most)
    restored = _resample(code.restored, size).reshape(count, *planes.values.shape[1:])
    return Code(code.steps, small_mask, code.head_bytes, restored * weights)


def _resample(planes: Floats, texels: int) -> Floats:
    """Planes [N, 3, K, K, F] at another resolution; smoothed where it is lower."""
    flat = torch.from_numpy(planes).flatten(0, 1).movedim(-1, 1)
    other = functional.interpolate(flat, (texels, texels), mode="bilinear", antialias=texels < planes.shape[2])
    return other.movedim(1, -1).unflatten(0, planes.shape[:2]).numpy()
