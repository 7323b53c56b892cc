"""The field on CUDA: features of samples from planes, gradients back to planes, and the head in blocks of hidden units.

Parts of the kernels of ``triton_march.py``, which explains the names. A row is one sample of one ray.
"""
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def samples_of_rows(num_rays, num_samples, RAYS: tl.constexpr, SAMPLES: tl.constexpr):
    """Ray and sample of each row, the last ones where there is none, and whether there is."""
    row = tl.arange(0, RAYS * SAMPLES)
    ray, sample = tl.program_id(0) * RAYS + row // SAMPLES, row % SAMPLES
    exists = (ray < num_rays) & (sample < num_samples)
    return tl.minimum(ray, num_rays - 1).to(tl.int64), tl.minimum(sample, num_samples - 1), exists


@triton.jit
def held_rows(
    hulls, slot, origins, directions, t, num_rays, num_samples,
    CELLS: tl.constexpr, EXTENT: tl.constexpr, RADIUS: tl.constexpr, RAYS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Which rows are samples that the hull of their scene holds; all that exist where there are no hulls (CELLS 0)."""
    ray, sample, in_hull = samples_of_rows(num_rays, num_samples, RAYS, SAMPLES)
    if CELLS:
        depth = tl.load(t + ray * num_samples + sample)
        place = tl.zeros((RAYS * SAMPLES,), tl.int32)
        for axis in tl.static_range(3):
            start, slope = tl.load(origins + 3 * ray + axis), tl.load(directions + 3 * ray + axis)
            cell = tl.floor(((start + depth * slope) * EXTENT + RADIUS) * (CELLS / (2 * RADIUS)))
            in_hull = in_hull & (cell >= 0) & (cell < CELLS)
            place = place * CELLS + tl.minimum(tl.maximum(cell, 0), CELLS - 1).to(tl.int32)
        scene = hulls + tl.load(slot + ray).to(tl.int64) * (CELLS * CELLS * CELLS // 8)
        byte = tl.load(scene + place // 8, mask=in_hull, other=0).to(tl.int32)
        in_hull = in_hull & ((byte >> (place % 8)) & 1 == 1)
    return in_hull


@triton.jit
def _axis(origins, directions, ray, depth, coordinate, K: tl.constexpr):
    """The texels on either side of points along one coordinate, and their weights: 0 beyond the plane."""
    start, slope = tl.load(origins + 3 * ray + coordinate), tl.load(directions + 3 * ray + coordinate)
    place = (start + depth * slope + 1) * (0.5 * K) - 0.5
    floor = tl.floor(place)
    low = tl.minimum(tl.maximum(floor, -2), K + 1).to(tl.int32)
    low_weight = tl.where((low >= 0) & (low < K), 1 - (place - floor), 0.0)
    high_weight = tl.where((low >= -1) & (low < K - 1), place - floor, 0.0)
    low, high = tl.minimum(tl.maximum(low, 0), K - 1), tl.minimum(tl.maximum(low + 1, 0), K - 1)
    return (low, high), (low_weight, high_weight)


@triton.jit
def _cell(origins, directions, ray, depth, plane, AXES: tl.constexpr, K: tl.constexpr):
    """Texels and weights across and down one plane. Known late which, so that its registers serve the next one."""
    across = tl.where(plane == 0, AXES[0], tl.where(plane == 1, AXES[2], AXES[4]))
    down = tl.where(plane == 0, AXES[1], tl.where(plane == 1, AXES[3], AXES[5]))
    column, column_weight = _axis(origins, directions, ray, depth, across, K)
    row, row_weight = _axis(origins, directions, ray, depth, down, K)
    return column, column_weight, row, row_weight


@triton.jit
def gather(
    planes, in_hull, slot, origins, directions, t, num_rays, num_samples,
    AXES: tl.constexpr, K: tl.constexpr, F: tl.constexpr, FEATURES: tl.constexpr,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Features [rows, FEATURES] of the rows whose sample is in the hull."""
    ray, sample, _ = samples_of_rows(num_rays, num_samples, RAYS, SAMPLES)
    depth = tl.load(t + ray * num_samples + sample)
    scene = planes + tl.load(slot + ray).to(tl.int64) * (3 * K * K * F)
    feature = tl.arange(0, FEATURES)
    mask = in_hull[:, None] & (feature < F)[None, :]
    features = tl.zeros((RAYS * SAMPLES, FEATURES), tl.float32)
    for plane in range(3):
        column, column_weight, row, row_weight = _cell(origins, directions, ray, depth, plane, AXES, K)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                texel = (plane * K + row[i]) * K + column[j]
                values = tl.load(scene[:, None] + (texel * F)[:, None] + feature[None, :], mask=mask, other=0)
                features += values.to(tl.float32) * (row_weight[i] * column_weight[j])[:, None]
    return features


@triton.jit
def scatter(
    d_planes, d_features, in_hull, slot, origins, directions, t, num_rays, num_samples,
    AXES: tl.constexpr, K: tl.constexpr, F: tl.constexpr, FEATURES: tl.constexpr,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Add the gradient of features to that of the planes: the transpose of ``gather``."""
    ray, sample, _ = samples_of_rows(num_rays, num_samples, RAYS, SAMPLES)
    depth = tl.load(t + ray * num_samples + sample)
    scene = d_planes + tl.load(slot + ray).to(tl.int64) * (3 * K * K * F)
    feature = tl.arange(0, FEATURES)
    mask = in_hull[:, None] & (feature < F)[None, :]
    for plane in range(3):
        column, column_weight, row, row_weight = _cell(origins, directions, ray, depth, plane, AXES, K)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                texel = (plane * K + row[i]) * K + column[j]
                values = d_features * (row_weight[i] * column_weight[j])[:, None]
                places = scene[:, None] + (texel * F)[:, None] + feature[None, :]
                tl.atomic_add(places, values, mask=mask, sem="relaxed")


@triton.jit
def softplus(x):
    """log(1 + eˣ) and its slope."""
    small = tl.exp(-tl.abs(x))
    above_one = 1 + small
    log = tl.where(above_one > 1, tl.log(above_one) * (small / (above_one - 1)), small)  # of 1 + small, to all digits
    return tl.maximum(x, 0.0) + log, tl.where(x > 0, 1.0, small) / above_one


@triton.jit
def first_weights(w1, unit, F: tl.constexpr, H: tl.constexpr, FEATURES: tl.constexpr):
    """Some rows of the first weights, [BLOCK, FEATURES]."""
    feature = tl.arange(0, FEATURES)
    mask = (unit < H)[:, None] & (feature < F)[None, :]
    return tl.load(w1 + unit[:, None] * F + feature[None, :], mask=mask, other=0)


@triton.jit
def second_weights(w2, unit, H: tl.constexpr, C: tl.constexpr, OUTPUTS: tl.constexpr):
    """Some columns of the second weights, [OUTPUTS, BLOCK]."""
    output = tl.arange(0, OUTPUTS)
    mask = (output <= C)[:, None] & (unit < H)[None, :]
    return tl.load(w2 + output[:, None] * H + unit[None, :], mask=mask, other=0)


@triton.jit
def hidden_block(features, first, b1, unit, H: tl.constexpr, PRECISION: tl.constexpr):
    """A block of the hidden layer and its slope, [rows, BLOCK]."""
    bias = tl.load(b1 + unit, mask=unit < H, other=0)
    return softplus(tl.dot(features, tl.trans(first), input_precision=PRECISION) + bias[None, :])


@triton.jit
def apply_head(
    features, w1, b1, w2, b2,
    F: tl.constexpr, H: tl.constexpr, C: tl.constexpr, FEATURES: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Outputs [rows, OUTPUTS]: the raw density, then C values before their sigmoid."""
    output = tl.arange(0, OUTPUTS)
    bias = tl.load(b2 + output, mask=output <= C, other=0)
    outputs = tl.zeros((features.shape[0], OUTPUTS), tl.float32) + bias[None, :]
    for start in range(0, H, BLOCK):
        unit = start + tl.arange(0, BLOCK)
        hidden, _ = hidden_block(features, first_weights(w1, unit, F, H, FEATURES), b1, unit, H, PRECISION)
        second = second_weights(w2, unit, H, C, OUTPUTS)
        outputs = tl.dot(hidden, tl.trans(second), outputs, input_precision=PRECISION)
    return outputs
