"""Reading planes on the CPU: compiled by numba, installs everywhere without a compiler.

Same function as :mod:`scaled_ig.kernels.reference`. It beats ``grid_sample`` because all features of a texel lie side by
side, nothing is expanded or permuted, and the sum over planes is never stored. Gradients need no atomics: a plane is
written by one thread, so results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np
import torch
from torch import Tensor

from scaled_ig.representations.planes import PlaneAxes

def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of handing them back: page faults cost as much as the sampling itself."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_keep_freed_memory()
_POOL = ThreadPoolExecutor(os.cpu_count())
_COMPILE = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz"}, "cache": True, "error_model": "numpy"}


@numba.njit(inline="always", **_COMPILE)
def _corners(x, y, resolution):
    """First column and row of the 2×2 texels around a point, and the weights of the two columns and rows."""
    x, y = (x + 1) * (0.5 * resolution) - 0.5, (y + 1) * (0.5 * resolution) - 0.5
    column, row = int(np.floor(x)), int(np.floor(y))
    right, lower = np.float32(x - column), np.float32(y - row)
    left, upper = np.float32(1) - right, np.float32(1) - lower
    # Texels outside the plane count as zero; their index is clamped and their weight is 0.
    if column < 0 or column >= resolution - 1:
        left = left if 0 <= column < resolution else np.float32(0)
        right = right if -1 <= column < resolution - 1 else np.float32(0)
    if row < 0 or row >= resolution - 1:
        upper = upper if 0 <= row < resolution else np.float32(0)
        lower = lower if -1 <= row < resolution - 1 else np.float32(0)
    return column, row, left, right, upper, lower


@numba.njit(inline="always", **_COMPILE)
def _clamp(index, resolution):
    return min(max(index, 0), resolution - 1)


@numba.njit(**_COMPILE)
def _gather(planes, scene, positions, axes, features, first, last):
    """Rays first … last of ``features`` [N, P, F]."""
    resolution, channels = planes.shape[2], planes.shape[4]
    for ray in range(first, last):
        own = planes[scene[ray]]
        for point in range(positions.shape[1]):
            out = features[ray, point]
            for plane in range(3):
                column, row, left, right, upper, lower = _corners(
                    positions[ray, point, axes[plane, 0]], positions[ray, point, axes[plane, 1]], resolution
                )
                c0, c1 = _clamp(column, resolution), _clamp(column + 1, resolution)
                r0, r1 = _clamp(row, resolution), _clamp(row + 1, resolution)
                a, b, c, d = own[plane, r0, c0], own[plane, r0, c1], own[plane, r1, c0], own[plane, r1, c1]
                wa, wb, wc, wd = upper * left, upper * right, lower * left, lower * right
                if plane == 0:
                    for f in range(channels):
                        out[f] = wa * a[f] + wb * b[f] + wc * c[f] + wd * d[f]
                else:
                    for f in range(channels):
                        out[f] += wa * a[f] + wb * b[f] + wc * c[f] + wd * d[f]


@numba.njit(**_COMPILE)
def _scatter(gradient, first_ray, positions, column_axis, row_axis, out, scene, plane):
    """Add the gradient [N, P, F] of one scene's rays to one of its planes in ``out`` [S, 3, K, K, F]."""
    resolution, channels = out.shape[2], out.shape[4]
    own = out[scene, plane]
    for ray in range(first_ray[scene], first_ray[scene + 1]):
        for point in range(positions.shape[1]):
            g = gradient[ray, point]
            column, row, left, right, upper, lower = _corners(
                positions[ray, point, column_axis], positions[ray, point, row_axis], resolution
            )
            c0, c1 = _clamp(column, resolution), _clamp(column + 1, resolution)
            r0, r1 = _clamp(row, resolution), _clamp(row + 1, resolution)
            a, b, c, d = own[r0, c0], own[r0, c1], own[r1, c0], own[r1, c1]
            wa, wb, wc, wd = upper * left, upper * right, lower * left, lower * right
            for f in range(channels):
                a[f] += wa * g[f]
            for f in range(channels):
                b[f] += wb * g[f]
            for f in range(channels):
                c[f] += wc * g[f]
            for f in range(channels):
                d[f] += wd * g[f]


def _run(tasks: list[Callable[[], None]]) -> None:
    if torch.get_num_threads() == 1:
        for task in tasks:
            task()
    else:
        for done in [_POOL.submit(task) for task in tasks]:
            done.result()


@cache
def _axes_array(axes: PlaneAxes) -> np.ndarray:
    return np.array(axes)


class _SampleScenePlanes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, planes: Tensor, scene: Tensor, positions: Tensor, axes: PlaneAxes) -> Tensor:
        planes, positions = planes.contiguous(), positions.contiguous()
        ctx.save_for_backward(scene, positions)
        ctx.planes_shape, ctx.axes = planes.shape, axes
        features = planes.new_empty(*positions.shape[:2], planes.shape[-1])
        arrays = planes.detach().numpy(), scene.numpy(), positions.numpy(), _axes_array(axes), features.numpy()
        bounds = np.linspace(0, len(scene), 4 * torch.get_num_threads() + 1).astype(int).tolist()
        _run([lambda a=a, b=b: _gather(*arrays, a, b) for a, b in zip(bounds, bounds[1:], strict=False)])
        return features

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        gradient = gradients[0].contiguous().numpy()
        scene, positions = ctx.saved_tensors
        out = torch.zeros(ctx.planes_shape)
        num_scenes = len(out)
        first_ray = np.concatenate([[0], np.cumsum(np.bincount(scene.numpy(), minlength=num_scenes))])
        points, target = positions.numpy(), out.numpy()
        _run(
            [
                lambda s=s, p=p, c=column, r=row: _scatter(gradient, first_ray, points, c, r, target, s, p)
                for s in range(num_scenes)
                for p, (column, row) in enumerate(ctx.axes)
            ]
        )
        return out, None, None, None


def sample_scene_planes(planes: Tensor, scene: Tensor, positions: Tensor, axes: PlaneAxes) -> Tensor:
    """As :func:`scaled_ig.kernels.reference.sample_scene_planes`, float32 on the CPU; no gradient to the positions."""
    features = _SampleScenePlanes.apply(planes, scene, positions, axes)
    assert isinstance(features, Tensor)
    return features
