"""The renderer's inner loop on CUDA, in Triton: a squared error and all its gradients are one launch.

The same functions as those of :mod:`scaled_ig.rendering.kernels.reference`. Planes are float32, or bfloat16 for half
the traffic; all sums are float32, but autograd rounds the finished gradient of bfloat16 planes to their type. Products
with the head's weights are as exact as float32 where PyTorch's own are
(``torch.set_float32_matmul_precision("highest")``), else TF32. Gradients are sums by atomic additions: they differ from
run to run by the rounding of their order.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scaled_ig.rendering.compositing import Composite
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import reference
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.rendering.kernels.reference import resample as resample  # has no version of its own yet
from scaled_ig.representations.occupancy import HULL_RADIUS, Hulls
from scaled_ig.representations.planes import PlaneAxes

_BUFFERS = 32  # sums of the head's gradients, shared out among programs that else would wait for each other
_ROWS = 64  # samples of a program, more where a ray has more: 8 for a warp are as many as its registers hold
_MOST_SAMPLES, _MOST_FEATURES, _MOST_VALUES = 128, 64, 31  # beyond them a program's rows do not fit


@dataclass(frozen=True)
class _Inputs:
    """What has no gradient, in the order in which kernels take it."""

    slot: Tensor
    origins: Tensor
    directions: Tensor
    t: Tensor
    axes: PlaneAxes
    hulls: Hulls | None = None
    extent: float = 1.0

    @classmethod
    def of(cls, plane_rays: PlaneRays, t: Tensor) -> _Inputs:
        origins, directions = plane_rays.rays.origins.contiguous(), plane_rays.rays.directions.contiguous()
        hulls = None if plane_rays.hulls is None else Hulls(plane_rays.hulls.bits.contiguous())
        return cls(
            plane_rays.slot.contiguous(), origins, directions, t.contiguous(), plane_rays.axes, hulls, plane_rays.extent
        )


def options(
    planes: Tensor, num_samples: int, hidden: int, values: int, axes: PlaneAxes, cells: int = 0, extent: float = 1.0
) -> dict[str, Any]:
    """What a kernel of :mod:`scaled_ig.rendering.kernels.triton_march` is compiled for.

    Args:
        planes: [S, 3, K, K, F].
        num_samples: P.
        hidden: H.
        values: C.
        axes: Coordinates along the columns and rows of each plane.
        cells: G, along a side of hulls; 0 without them.
        extent: Half the side of the planes' cube, world units.
    """
    samples, features = _power_of_two(num_samples, 2), _power_of_two(planes.shape[-1], 16)
    outputs, rays = _power_of_two(1 + values, 16), max(1, _ROWS // samples)
    rows = rays * samples
    precision = "tf32"
    if torch.get_float32_matmul_precision() == "highest":
        # Three products for one keep more in a multiprocessor's memory, of which the smallest cards have 99 KiB.
        precision = "tf32x3" if rows * (features + outputs) <= 6144 else "ieee"
    return {
        "AXES": tuple(axis for pair in axes for axis in pair),
        "K": planes.shape[2],
        "F": planes.shape[-1],
        "H": hidden,
        "C": values,
        "RAYS": rays,
        "SAMPLES": samples,
        "FEATURES": features,
        "OUTPUTS": outputs,
        "BLOCK": 16,
        "PRECISION": precision,
        "CELLS": cells,
        "EXTENT": extent,
        "RADIUS": HULL_RADIUS,
        "num_warps": 8 if precision == "tf32x3" else rows // 8,
        "num_stages": 1,
        "maxnreg": 128 if precision == "tf32" else None,  # two programs of 64 rows on a multiprocessor
        "enable_fp_fusion": True,
    }


def _power_of_two(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())


def _launch(
    name: str, inputs: _Inputs, planes: Tensor, head: tuple[Tensor, ...], *arrays: Tensor, **flags: Any
) -> None:
    """Run a kernel of :mod:`scaled_ig.rendering.kernels.triton_march` on all rays."""
    from scaled_ig.rendering.kernels import triton_march  # not to be had on every machine

    (num_rays, num_samples), (hidden, values) = inputs.t.shape, (head[0].shape[0], head[2].shape[0] - 1)
    if not num_rays:
        return
    cells = 0 if inputs.hulls is None else inputs.hulls.resolution
    constants = options(planes, num_samples, hidden, values, inputs.axes, cells, inputs.extent)
    hulls = inputs.slot if inputs.hulls is None else inputs.hulls.bits  # nobody reads it where there are none
    programs = -(-num_rays // constants["RAYS"])
    with torch.cuda.device_of(planes):
        getattr(triton_march, name)[(programs,)](
            planes, inputs.slot, inputs.origins, inputs.directions, inputs.t, hulls, *head, *arrays,
            num_rays, num_samples,
            **constants, **flags,
        )  # fmt: skip


def _sweep(
    inputs: _Inputs,
    planes: Tensor,
    head: tuple[Tensor, ...],
    background: Tensor,
    target_or_gradient: Target | Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Error to a target, without its scale, and gradients of the planes, and of the head in one row, as needed.

    They are those of the pixels where the gradients of these are passed instead.
    """
    pixels, opacity, weight = target_or_gradient, None, 0.0
    if isinstance(target_or_gradient, Target):
        target = target_or_gradient
        pixels, opacity, weight = target.pixels, target.opacity, target.opacity_weight
    assert isinstance(pixels, Tensor)
    pixels = pixels.contiguous()
    flags = {"LOSS": isinstance(target_or_gradient, Target), "OPACITY": 0.0 if opacity is None else weight}
    d_planes, d_head = needed[0], any(needed[1:])
    # One allocation, so that one launch clears it; sums first, where they are aligned.
    num_sums = _BUFFERS * (sum(parameter.numel() for parameter in head) + 1)
    memory = torch.zeros(num_sums + planes.numel() * d_planes, device=planes.device)
    sums, gradient = memory[:num_sums].view(_BUFFERS, -1), memory[num_sums:]
    _launch(
        "sweep", inputs, planes, head, background, pixels, pixels if opacity is None else opacity.contiguous(),
        gradient if d_planes else sums, sums, BUFFERS=_BUFFERS, D_PLANES=d_planes, D_HEAD=d_head, **flags,
    )  # fmt: skip
    total = sums.sum(0)
    return total[-1], gradient.view_as(planes) if d_planes else None, total[:-1]


def _by_parameter(row: Tensor, shapes: list[torch.Size]) -> Iterator[Tensor]:
    """Gradients of the head, out of one row."""
    parts = row.split([shape.numel() for shape in shapes])
    return (part.view(shape) for part, shape in zip(parts, shapes, strict=True))


class _March(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs: _Inputs, background: Tensor, planes: Tensor, *head: Tensor):
        num_rays, values = len(inputs.t), len(background)
        pixels = torch.empty(num_rays, values, device=planes.device)
        accumulation, depth = torch.empty(2, num_rays, device=planes.device)
        _launch("render", inputs, planes, head, background, pixels, accumulation, depth)
        ctx.save_for_backward(background, planes, *head)
        ctx.inputs = inputs
        ctx.mark_non_differentiable(accumulation, depth)
        return pixels, accumulation, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        background, planes, *head = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        _, d_planes, d_head = _sweep(ctx.inputs, planes, tuple(head), background, gradients[0], needed)
        return None, None, d_planes, *_by_parameter(d_head, [parameter.shape for parameter in head])


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs: _Inputs, background: Tensor, target: Target, planes: Tensor, *head: Tensor):
        error, *gradients = _sweep(inputs, planes, head, background, target, ctx.needs_input_grad[3:])
        ctx.save_for_backward(*gradients)
        ctx.shapes = [parameter.shape for parameter in head]
        return error

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        d_planes, d_head = ctx.saved_tensors
        d_planes = None if d_planes is None else d_planes * gradients[0]
        return None, None, None, d_planes, *_by_parameter(d_head * gradients[0], ctx.shapes)


def _parameters(plane_rays: PlaneRays) -> tuple[Tensor, ...]:
    hidden, out = plane_rays.head.hidden, plane_rays.head.out
    return plane_rays.planes.contiguous(), hidden.weight, hidden.bias, out.weight, out.bias


@cache
def _works(device: int) -> bool:
    """Whether a kernel can be compiled and run on a GPU; says why not, once."""
    if importlib.util.find_spec("triton") is None or torch.version.cuda is None:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    zeros = partial(torch.zeros, device=torch.device("cuda", device))
    ray = _Inputs(zeros(1, dtype=torch.long), zeros(1, 3), zeros(1, 3), zeros(1, 2), ((0, 1), (0, 2), (1, 2)))
    head = zeros(16, 1), zeros(16), zeros(2, 16), zeros(2)
    try:
        _launch("densities", ray, zeros(1, 3, 1, 1, 1), head, zeros(1, 2))
    except Exception as error:  # of Triton, its compiler or the driver: training goes on without
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        print(f"the fast kernel cannot be compiled ({first}): the plain, slower one is used", file=sys.stderr)
        return False
    return True


def serves(planes: Tensor, head: FieldHead) -> bool:
    """Whether this kernel can render these planes here: CUDA from Ampere on, Triton, float32 or bfloat16 planes."""
    return (
        planes.is_cuda
        and planes.dtype in (torch.float32, torch.bfloat16)
        and head.hidden.weight.dtype == torch.float32
        and head.hidden.in_features <= _MOST_FEATURES
        and head.out.out_features - 1 <= _MOST_VALUES
        and _works(planes.get_device())
    )


@torch.no_grad()
def densities(plane_rays: PlaneRays, t: Tensor) -> Tensor:
    """As :func:`scaled_ig.rendering.kernels.reference.densities`. One launch."""
    if t.shape[1] > _MOST_SAMPLES:
        return reference.densities(_in_float32(plane_rays), t)
    raw = torch.empty(t.shape, device=plane_rays.planes.device)
    planes, *head = _parameters(plane_rays)
    _launch("densities", _Inputs.of(plane_rays, t), planes, tuple(head), raw)
    return raw


def march(plane_rays: PlaneRays, t: Tensor) -> Composite:
    """As :func:`scaled_ig.rendering.kernels.reference.march`, with gradients of the pixels to planes and head.

    One launch; the gradient is another one, which computes again what it needs. Rays of more than 128 samples are left
    to the plain version.
    """
    if t.shape[1] > _MOST_SAMPLES:
        return reference.march(_in_float32(plane_rays), t)
    return Composite(
        *_March.apply(_Inputs.of(plane_rays, t), plane_rays.background.contiguous(), *_parameters(plane_rays))
    )


def squared_error(plane_rays: PlaneRays, t: Tensor, target: Target) -> Tensor:
    """As :func:`scaled_ig.rendering.kernels.reference.squared_error`. One launch for the error and its gradients."""
    if t.shape[1] > _MOST_SAMPLES:
        return reference.squared_error(_in_float32(plane_rays), t, target)
    if not torch.is_grad_enabled():
        return target.error(march(plane_rays, t))
    error = _SquaredError.apply(
        _Inputs.of(plane_rays, t), plane_rays.background.contiguous(), target, *_parameters(plane_rays)
    )
    return target.scale * error  # type: ignore[no-any-return]


def _in_float32(plane_rays: PlaneRays) -> PlaneRays:
    return replace(plane_rays, planes=plane_rays.planes.float())
