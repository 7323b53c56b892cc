"""The renderer's inner loop on CUDA: what :mod:`scaled_ig.rendering.kernels.cuda` launches.

A program owns ``RAYS`` whole rays with all their samples, ``RAYS · SAMPLES`` rows: what was seen stays in registers and
the gradient follows at once. The hidden layer is computed in blocks of ``BLOCK`` units, again on the way back: a block
costs less to compute than to keep. Sizes are padded to powers of two; padding reads as zero and is not written.

Names in capitals are known when a kernel is compiled: the sizes K, F, H and C of planes and head; ``AXES``, the
coordinates along the columns and rows of the three planes; ``FEATURES`` and ``OUTPUTS``, F and 1 + C with padding;
``PRECISION``, that of products; ``CELLS``, those along a side of hulls, 0 where there are none; ``RADIUS`` and
``EXTENT``, half the sides of the cubes of hulls and planes; ``OPACITY``, the weight of its error. Arrays are those of
:mod:`scaled_ig.rendering.kernels.reference`, contiguous. Letters are those of that module, too.
"""
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from scaled_ig.rendering.kernels.triton_field import (
    apply_head,
    first_weights,
    gather,
    held_rows,
    hidden_block,
    samples_of_rows,
    scatter,
    second_weights,
    softplus,
)


@triton.jit
def _next(x, SAMPLES: tl.constexpr):
    """What the next sample has, [RAYS, SAMPLES]; the last one its own."""
    index = tl.minimum(tl.arange(0, SAMPLES) + 1, SAMPLES - 1)
    return tl.gather(x, tl.broadcast_to(index[None, :], x.shape), 1)


@triton.jit
def _previous(x, SAMPLES: tl.constexpr):
    """What the previous sample has, [RAYS, SAMPLES]; 0 at the first."""
    sample = tl.arange(0, SAMPLES)[None, :]
    return tl.where(sample == 0, 0.0, tl.gather(x, tl.broadcast_to(tl.maximum(sample - 1, 0), x.shape), 1))


@triton.jit
def _rays(num_rays, RAYS: tl.constexpr):
    """The rays of this program, and which of them there are."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    return tl.minimum(ray, num_rays - 1).to(tl.int64), ray < num_rays


@triton.jit
def _composite(
    outputs, in_hull, t, background, num_rays, num_samples,
    C: tl.constexpr, CELLS: tl.constexpr,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Pixels [RAYS, OUTPUTS], value c in column 1 + c, and what they are made of.

    That is, of samples: depth and weight [RAYS, SAMPLES], sigmoid and difference from the background [RAYS, SAMPLES,
    OUTPUTS]; of the intervals behind them: weight, light that passes, change of the optical depth with the raw density.
    """
    ray, _ = _rays(num_rays, RAYS)
    sample, column = tl.arange(0, SAMPLES), tl.arange(0, OUTPUTS)
    depths = t + (ray * num_samples)[:, None]
    depth = tl.load(depths + tl.minimum(sample, num_samples - 1)[None, :])
    length = tl.load(depths + tl.minimum(sample + 1, num_samples - 1)[None, :]) - depth  # 0 behind the last sample
    outputs = tl.reshape(outputs, (RAYS, SAMPLES, OUTPUTS))
    raw = tl.sum(tl.where(column[None, None, :] == 0, outputs, 0.0), 2)
    in_hull = tl.reshape(in_hull, (RAYS, SAMPLES))
    if CELLS:
        raw = tl.where(in_hull, raw, -10.0)  # EMPTY
    density, slope = softplus(0.5 * (raw + _next(raw, SAMPLES)) - 1)
    thickness = density * length
    optical_depth = tl.cumsum(thickness, 1)
    series = thickness * (1 - thickness * (0.5 - thickness * (1 / 6 - thickness * (1 / 24))))  # 1 - exp(-x) of small x
    alpha = tl.where(thickness < 0.05, series, 1 - tl.exp(-thickness))
    weight = tl.exp(-_previous(optical_depth, SAMPLES)) * alpha
    at_sample = 0.5 * (weight + _previous(weight, SAMPLES))
    is_value = (column > 0) & (column <= C)
    background_value = tl.load(background + column - 1, mask=is_value, other=0)
    sigmoid = tl.sigmoid(outputs)
    value = sigmoid * 1.002 - 0.001
    if CELLS:
        value = tl.where(in_hull[:, :, None], value, 0.0)
    contrast = tl.where(is_value[None, None, :], value - background_value[None, None, :], 0.0)
    pixels = tl.sum(contrast * at_sample[:, :, None], 1) + background_value[None, :]
    return pixels, depth, at_sample, sigmoid, contrast, weight, tl.exp(-optical_depth), slope * length


@triton.jit
def _d_outputs(
    d_pixels, d_opacity, at_sample, sigmoid, contrast, weight, transmittance, slope,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Gradient of the outputs [rows, OUTPUTS] from those of pixels [RAYS, OUTPUTS] and of opacities [RAYS].

    That of pixels is 0 in columns that are no values.
    """
    gain = tl.sum(contrast * d_pixels[:, None, :], 2)
    d_weight = 0.5 * (gain + _next(gain, SAMPLES)) + d_opacity[:, None]
    contribution = weight * d_weight
    # What is seen behind an interval falls by itself per unit of the interval's optical depth.
    contribution_behind = tl.sum(contribution, 1)[:, None] - tl.cumsum(contribution, 1)
    d_raw = (d_weight * transmittance - contribution_behind) * slope
    d_density = 0.5 * (d_raw + _previous(d_raw, SAMPLES))
    d_values = d_pixels[:, None, :] * at_sample[:, :, None] * (1.002 * sigmoid * (1 - sigmoid))
    is_density = (tl.arange(0, OUTPUTS) == 0)[None, None, :]
    return tl.reshape(tl.where(is_density, d_density[:, :, None], d_values), (RAYS * SAMPLES, OUTPUTS))


@triton.jit(do_not_specialize=["num_rays", "num_samples"])
def densities(
    planes, slot, origins, directions, t, hulls, w1, b1, w2, b2, raw, num_rays, num_samples,
    AXES: tl.constexpr, K: tl.constexpr, F: tl.constexpr, H: tl.constexpr, C: tl.constexpr,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, FEATURES: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    CELLS: tl.constexpr, EXTENT: tl.constexpr, RADIUS: tl.constexpr,
):  # fmt: skip
    """Write raw densities [N, P]."""
    in_hull = held_rows(
        hulls, slot, origins, directions, t, num_rays, num_samples, CELLS, EXTENT, RADIUS, RAYS, SAMPLES
    )
    features = gather(
        planes, in_hull, slot, origins, directions, t, num_rays, num_samples, AXES, K, F, FEATURES, RAYS, SAMPLES
    )
    outputs = apply_head(features, w1, b1, w2, b2, F, H, C, FEATURES, OUTPUTS, BLOCK, PRECISION)
    ray, sample, exists = samples_of_rows(num_rays, num_samples, RAYS, SAMPLES)
    is_density = (tl.arange(0, OUTPUTS) == 0)[None, :]
    density = tl.sum(tl.where(is_density, outputs, 0.0), 1)
    if CELLS:
        density = tl.where(in_hull, density, -10.0)  # EMPTY
    tl.store(raw + ray * num_samples + sample, density, mask=exists)


@triton.jit(do_not_specialize=["num_rays", "num_samples"])
def render(
    planes, slot, origins, directions, t, hulls, w1, b1, w2, b2, background, pixels, accumulation, depth,
    num_rays, num_samples,
    AXES: tl.constexpr, K: tl.constexpr, F: tl.constexpr, H: tl.constexpr, C: tl.constexpr,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, FEATURES: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    CELLS: tl.constexpr, EXTENT: tl.constexpr, RADIUS: tl.constexpr,
):  # fmt: skip
    """Write pixels [N, C], accumulation [N] and depth [N]."""
    in_hull = held_rows(
        hulls, slot, origins, directions, t, num_rays, num_samples, CELLS, EXTENT, RADIUS, RAYS, SAMPLES
    )
    features = gather(
        planes, in_hull, slot, origins, directions, t, num_rays, num_samples, AXES, K, F, FEATURES, RAYS, SAMPLES
    )
    outputs = apply_head(features, w1, b1, w2, b2, F, H, C, FEATURES, OUTPUTS, BLOCK, PRECISION)
    colour, depths, at_sample, _, _, weight, _, _ = _composite(
        outputs, in_hull, t, background, num_rays, num_samples, C, CELLS, RAYS, SAMPLES, OUTPUTS
    )
    ray, exists = _rays(num_rays, RAYS)
    column = tl.arange(0, OUTPUTS)
    mask = exists[:, None] & ((column > 0) & (column <= C))[None, :]
    tl.store(pixels + (ray * C)[:, None] + column[None, :] - 1, colour, mask=mask)
    opacity = tl.sum(weight, 1)
    mean_depth = tl.sum(at_sample * depths, 1) / tl.maximum(opacity, 1e-3)
    last = tl.load(t + ray * num_samples + num_samples - 1)
    tl.store(accumulation + ray, opacity, mask=exists)
    tl.store(depth + ray, tl.where(opacity > 1e-3, mean_depth, last), mask=exists)


@triton.jit(do_not_specialize=["num_rays", "num_samples"])
def sweep(
    planes, slot, origins, directions, t, hulls, w1, b1, w2, b2, background, target_or_gradient, opacity, d_planes,
    sums, num_rays, num_samples,
    AXES: tl.constexpr, K: tl.constexpr, F: tl.constexpr, H: tl.constexpr, C: tl.constexpr,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, FEATURES: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    CELLS: tl.constexpr, EXTENT: tl.constexpr, RADIUS: tl.constexpr,
    BUFFERS: tl.constexpr, LOSS: tl.constexpr, OPACITY: tl.constexpr, D_PLANES: tl.constexpr, D_HEAD: tl.constexpr,
):  # fmt: skip
    """Render and add all gradients.

    ``target_or_gradient`` [N, C] are the pixels' targets where there is a ``LOSS``, else their gradients; ``opacity``
    [N] what opacities should be, where they have a weight. ``sums`` [BUFFERS, H·F + H + (1+C)·H + (1+C) + 1]
    are gradients of w1, b1, w2 and b2, and the error; programs share out the buffers among them, to wait less for each
    other.
    """
    in_hull = held_rows(
        hulls, slot, origins, directions, t, num_rays, num_samples, CELLS, EXTENT, RADIUS, RAYS, SAMPLES
    )
    features = gather(
        planes, in_hull, slot, origins, directions, t, num_rays, num_samples, AXES, K, F, FEATURES, RAYS, SAMPLES
    )
    outputs = apply_head(features, w1, b1, w2, b2, F, H, C, FEATURES, OUTPUTS, BLOCK, PRECISION)
    pixels, _, at_sample, sigmoid, contrast, weight, transmittance, slope = _composite(
        outputs, in_hull, t, background, num_rays, num_samples, C, CELLS, RAYS, SAMPLES, OUTPUTS
    )
    ray, exists = _rays(num_rays, RAYS)
    feature, output = tl.arange(0, FEATURES), tl.arange(0, OUTPUTS)
    is_value = exists[:, None] & ((output > 0) & (output <= C))[None, :]
    d_pixels = tl.load(target_or_gradient + (ray * C)[:, None] + output[None, :] - 1, mask=is_value, other=0)
    d_w1 = sums + tl.program_id(0) % BUFFERS * (H * F + H + (1 + C) * H + (1 + C) + 1)
    d_b1 = d_w1 + H * F
    d_w2 = d_b1 + H
    d_b2 = d_w2 + (1 + C) * H
    if LOSS:
        residual = tl.where(is_value, pixels - d_pixels, 0.0)
        tl.atomic_add(d_b2 + 1 + C, tl.sum(residual * residual), sem="relaxed")
        d_pixels = 2 * residual
    d_opacity = tl.zeros((RAYS,), tl.float32)
    if OPACITY > 0:
        target_opacity = tl.load(opacity + ray)
        opacity_residual = tl.where(exists & (target_opacity >= 0), tl.sum(weight, 1) - target_opacity, 0.0)
        tl.atomic_add(d_b2 + 1 + C, OPACITY * tl.sum(opacity_residual * opacity_residual), sem="relaxed")
        d_opacity = 2 * OPACITY * opacity_residual
    d_outputs = _d_outputs(
        d_pixels, d_opacity, at_sample, sigmoid, contrast, weight, transmittance, slope, RAYS, SAMPLES, OUTPUTS
    )
    if CELLS:
        d_outputs = tl.where(in_hull[:, None], d_outputs, 0.0)
    if D_HEAD:
        tl.atomic_add(d_b2 + output, tl.sum(d_outputs, 0), mask=output <= C, sem="relaxed")
    d_features = tl.zeros((RAYS * SAMPLES, FEATURES), tl.float32)
    for start in range(0, H, BLOCK):
        unit = start + tl.arange(0, BLOCK)
        first, second = first_weights(w1, unit, F, H, FEATURES), second_weights(w2, unit, H, C, OUTPUTS)
        hidden, steepness = hidden_block(features, first, b1, unit, H, PRECISION)
        d_hidden = tl.dot(d_outputs, second, input_precision=PRECISION) * steepness
        d_features = tl.dot(d_hidden, first, d_features, input_precision=PRECISION)
        if D_HEAD:
            inside = unit < H
            d_first = tl.dot(tl.trans(d_hidden), features, input_precision=PRECISION)
            mask = inside[:, None] & (feature < F)[None, :]
            tl.atomic_add(d_w1 + unit[:, None] * F + feature[None, :], d_first, mask=mask, sem="relaxed")
            tl.atomic_add(d_b1 + unit, tl.sum(d_hidden, 0), mask=inside, sem="relaxed")
            d_second = tl.dot(tl.trans(d_outputs), hidden, input_precision=PRECISION)
            mask = (output <= C)[:, None] & inside[None, :]
            tl.atomic_add(d_w2 + output[:, None] * H + unit[None, :], d_second, mask=mask, sem="relaxed")
    if D_PLANES:
        scatter(
            d_planes, d_features, in_hull, slot, origins, directions, t, num_rays, num_samples,
            AXES, K, F, FEATURES, RAYS, SAMPLES,
        )  # fmt: skip
