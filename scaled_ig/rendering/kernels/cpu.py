"""The renderer's inner loop on the CPU: ``march.c``, compiled for this machine when it is first used.

The same functions as those of :mod:`scaled_ig.rendering.kernels.reference`. Results do not depend on the number of
threads: a scene's gradients are written by one thread, in order.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from scaled_ig import native
from scaled_ig.rendering.compositing import Composite
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.representations.occupancy import HULL_RADIUS

_LANES = 16


def _readable(name: str, tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The tensor, contiguous, for C, which sees an address only; ValueError where it is not what C reads there."""
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        actual = f"{tensor.dtype} on {tensor.device}"
        raise ValueError(f"{name} is {actual}, and the compiled kernel reads {dtype} on the CPU: convert it")
    return tensor.contiguous()


def _require_shapes(
    plane_rays: PlaneRays, t: Tensor, planes: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> None:
    """Raise ValueError where C would read beyond a tensor."""
    native.require_shape("t", t, None, None)
    native.require_shape("planes", planes, None, 3, None, None, None)
    rays, scenes, side, hidden = len(t), len(planes), planes.shape[2], len(b1)
    shapes: dict[str, tuple[Tensor, tuple[int | None, ...]]] = {
        "planes": (planes, (None, 3, side, side, None)),
        "slot": (plane_rays.slot, (rays,)),
        "origins": (plane_rays.rays.origins, (rays, 3)),
        "directions": (plane_rays.rays.directions, (rays, 3)),
        "background": (plane_rays.background, (len(b2) - 1,)),
        "hidden weights": (w1, (hidden, planes.shape[-1])),
        "output weights": (w2, (len(b2), hidden)),
    }
    if plane_rays.hulls:
        cells = plane_rays.hulls.resolution
        shapes["hulls"] = plane_rays.hulls.bits, (scenes, cells, cells, cells // 8)
    for name, (tensor, shape) in shapes.items():
        native.require_shape(name, tensor, *shape)
    native.require_rows("slot", plane_rays.slot, scenes)


class _Inputs(ctypes.Structure):
    """``Inputs`` of march.c, and the tensors that it points into."""

    _NAMES = (
        *("texels", "slot", "origins", "directions", "t", "axes"),
        *("w1", "w1_rows", "b1", "w2", "w2_rows", "b2", "background", "hulls"),
    )
    _fields_ = [
        *((name, ctypes.c_int) for name in ("samples", "resolution", "cells")),
        *((name, ctypes.c_float) for name in ("extent", "radius", "scale", "opacity_weight")),
        *((name, ctypes.c_void_p) for name in _NAMES),
    ]

    @classmethod
    def of(cls, plane_rays: PlaneRays, t: Tensor, planes: Tensor, *head: Tensor) -> _Inputs:
        """Planes and head as :func:`_parameters` has them."""
        w1, b1, w2, b2 = (parameter.detach() for parameter in head)
        _require_shapes(plane_rays, t, planes, w1, b1, w2, b2)
        fill = (0, -len(b2) % 8)
        hulls = plane_rays.hulls
        inputs = cls(samples=t.shape[1], resolution=planes.shape[2])
        inputs.extent, inputs.radius, inputs.cells = plane_rays.extent, HULL_RADIUS, hulls.resolution if hulls else 0
        inputs.num_scenes, inputs.sizes = len(planes), {"F": planes.shape[-1], "H": len(b1), "C": len(b2) - 1}
        inputs.tensors = {
            "texels": planes, "slot": plane_rays.slot, "t": t,
            "origins": plane_rays.rays.origins, "directions": plane_rays.rays.directions,
            "axes": torch.tensor(plane_rays.axes, dtype=torch.int32), "w1": w1.T, "w1_rows": w1, "b1": b1,
            "w2": F.pad(w2.T, fill), "w2_rows": w2, "b2": F.pad(b2, fill), "background": plane_rays.background,
        }  # fmt: skip
        inputs.tensors |= {"hulls": hulls.bits} if hulls else {}
        for name in inputs.tensors:
            dtype = {"slot": torch.int64, "axes": torch.int32, "hulls": torch.uint8}.get(name, torch.float32)
            tensor = inputs.tensors[name] = _readable(name, inputs.tensors[name].detach(), dtype)
            setattr(inputs, name, tensor.data_ptr())
        return inputs

    def run(self, name: str, tensors: Callable[[int], tuple[Tensor | None, ...]], ends: list[int]) -> None:
        """Call a function of march.c for ranges of rays, with the tensors that belong to each."""
        function = getattr(native.library("march", **self.sizes), f"march_{name}")

        def task(number: int, *rays: int) -> None:
            function(ctypes.byref(self), *map(native.pointer, tensors(number)), *map(ctypes.c_long, rays))

        native.run(task, ends)

    def see(self) -> tuple[Tensor, Tensor]:
        """Pixels [N, C]; opacity, depth and the number of samples that were read [N, 3]."""
        num_rays = len(self.tensors["t"])
        outputs = torch.empty(num_rays, self.sizes["C"]), torch.empty(num_rays, 3)
        self.run("forward", lambda _: outputs, _any_shares(num_rays))
        return outputs

    def sweep(self, target_or_gradient: Target | Tensor, of_planes: bool) -> tuple[Tensor, list[Tensor | None]]:
        """Error to a target, and its gradients to planes and head; or those of pixels, from theirs [N, C]."""
        if isinstance(target_or_gradient, Target):
            target = target_or_gradient
            self.scale, self.opacity_weight = target.scale, target.opacity_weight
            opacity = None if target.opacity is None else _readable("opacity", target.opacity)
            pixels = _readable("target", target.pixels)
        else:
            opacity, pixels = None, _readable("gradient", target_or_gradient)
        native.require_shape("target", pixels, len(self.tensors["t"]), self.sizes["C"])
        if opacity is not None:
            native.require_shape("opacity", opacity, len(self.tensors["t"]))
        if bool((self.tensors["slot"].diff() < 0).any()):
            raise ValueError("slot must ascend: the rays of a scene follow one another")
        planes, (features, hidden, values) = self.tensors["texels"], self.sizes.values()
        d_planes = torch.empty_like(planes) if of_planes else None
        error = torch.empty(self.num_scenes, dtype=torch.float64)
        # One set of weight gradients a scene, summed in order.
        shapes = (features, hidden), (hidden,), (1 + values, hidden), (1 + values,)
        d_head = [torch.empty(self.num_scenes, *shape) for shape in shapes]

        def scene(number: int) -> tuple[Tensor | None, ...]:
            d_scene = None if d_planes is None else d_planes[number]
            scene_error = error[number] if isinstance(target_or_gradient, Target) else None
            return pixels, opacity, scene_error, d_scene, *(gradient[number] for gradient in d_head)

        per_scene = torch.bincount(self.tensors["slot"], minlength=self.num_scenes)
        self.run("backward", scene, [0, *per_scene.cumsum(0).tolist()])
        d_w1, *d_rest = (gradient.sum(0) for gradient in d_head)
        return error.sum().float(), [d_planes, d_w1.T, *d_rest]


def _any_shares(num_rays: int) -> list[int]:
    return native.shares(num_rays, 4 * torch.get_num_threads())


class _March(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plane_rays, t, *parameters):
        ctx.inputs = _Inputs.of(plane_rays, t, *parameters)
        pixels, extra = ctx.inputs.see()
        ctx.mark_non_differentiable(extra)
        return pixels, extra

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        return None, None, *ctx.inputs.sweep(gradients[0], ctx.needs_input_grad[2])[1]


class _SquaredError(torch.autograd.Function):
    """The gradients are there with the error: backward has to scale them only."""

    @staticmethod
    def forward(ctx, plane_rays, t, target, *parameters):
        error, gradients = _Inputs.of(plane_rays, t, *parameters).sweep(target, ctx.needs_input_grad[3])
        ctx.save_for_backward(*gradients)
        return error

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        parameter_gradients = ctx.saved_tensors
        if float(gradients[0]) != 1:  # a pass over all planes
            scale = gradients[0]
            parameter_gradients = tuple(None if d is None else d * scale for d in parameter_gradients)
        return None, None, None, *parameter_gradients


def _parameters(plane_rays: PlaneRays) -> tuple[Tensor, ...]:
    """Planes and head, with as many features as fill whole vectors."""
    planes, head = plane_rays.planes, plane_rays.head
    fill, weight = (0, -planes.shape[-1] % _LANES), head.hidden.weight
    if fill[1]:
        planes, weight = F.pad(planes, fill), F.pad(weight, fill)
    return planes, weight, head.hidden.bias, head.out.weight, head.out.bias


def serves(planes: Tensor, head: FieldHead) -> bool:
    """Whether this kernel can render these planes here."""
    return (
        planes.device.type == "cpu"
        and planes.dtype == torch.float32
        and head.hidden.out_features % _LANES == 0
        and native.works()
    )


@torch.no_grad()
def densities(plane_rays: PlaneRays, t: Tensor) -> Tensor:
    """As :func:`scaled_ig.rendering.kernels.reference.densities`; raises as :func:`march`."""
    raw = torch.empty(t.shape)
    _Inputs.of(plane_rays, t, *_parameters(plane_rays)).run("densities", lambda _: (raw,), _any_shares(len(t)))
    return raw


def resample(t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
    """As :func:`scaled_ig.rendering.kernels.reference.resample`; raises as :func:`march`."""
    inputs = _readable("t", t), _readable("raw_densities", raw_densities), None if u is None else _readable("u", u)
    native.require_shape("t", t, None, None)
    native.require_shape("raw_densities", raw_densities, *t.shape)
    if u is not None:
        native.require_shape("u", u, len(t), num_samples)
    depths = torch.empty(len(t), t.shape[1] + num_samples)
    function = native.library("march", F=_LANES, H=_LANES, C=1).march_resample

    def task(_: int, *rays: int) -> None:
        pointers = map(native.pointer, (*inputs, depths))
        function(t.shape[1], num_samples, *pointers, *map(ctypes.c_long, rays))

    native.run(task, _any_shares(len(t)))
    return depths


def march(plane_rays: PlaneRays, t: Tensor) -> Composite:
    """As the reference's ``march``, float32 on the CPU; gradients of the pixels to planes and head.

    Raises:
        ValueError: A tensor is of another type or elsewhere; the message names it.
    """
    pixels, extra = _March.apply(plane_rays, t, *_parameters(plane_rays))
    return Composite(pixels, extra[:, 0], extra[:, 1])


@torch.no_grad()
def samples_read(plane_rays: PlaneRays, t: Tensor) -> Tensor:
    """How many samples of each ray are read, [N]: those that its hull holds, up to where nothing is seen any more."""
    return _Inputs.of(plane_rays, t, *_parameters(plane_rays)).see()[1][:, 2].long()


def squared_error(plane_rays: PlaneRays, t: Tensor, target: Target) -> Tensor:
    """As :func:`scaled_ig.rendering.kernels.reference.squared_error`, in one sweep; raises as :func:`march`."""
    if not torch.is_grad_enabled():
        return target.error(march(plane_rays, t))
    return _SquaredError.apply(plane_rays, t, target, *_parameters(plane_rays))  # type: ignore
