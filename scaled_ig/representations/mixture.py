"""Planes of scenes from their own features and a mixture of bases, in one pass over the bases.

Letters: S scenes, M bases, K texels along a plane, F_mic and F_mac features.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scaled_ig import native

_CHUNKS = 16  # of texels, whose gradients to the mixing are summed in order, whatever the number of threads


class _Inputs(ctypes.Structure):
    """``Mixture`` of mix.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("scenes", "bases", "micro_channels", "macro_channels")),
        ("texels", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("micro", "mixing", "planes_of_bases", "reads")),
    ]

    @classmethod
    def of(cls, micro: Tensor, mixing: Tensor, bases: Tensor, texels: Tensor | None) -> _Inputs:
        sizes = *mixing.shape, micro.shape[-1], bases.shape[-1], bases.shape[1:-1].numel()
        return cls(*sizes, *(native.pointer(tensor) for tensor in (micro, mixing, bases, texels)))


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, texels: Tensor | None, *inputs: Tensor):
        micro, mixing, bases = (tensor.contiguous() for tensor in inputs)
        ctx.save_for_backward(micro, mixing, bases)
        ctx.texels = None if texels is None else texels.contiguous()
        mixture = _Inputs.of(micro, mixing, bases, ctx.texels)
        planes = micro.new_empty(*micro.shape[:-1], micro.shape[-1] + bases.shape[-1])
        _run("mix", mixture, lambda _: (planes,))
        return planes

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        micro, mixing, bases = ctx.saved_tensors
        inputs, d_planes = _Inputs.of(micro, mixing, bases, ctx.texels), gradients[0].contiguous()
        of_micro, of_mixing, of_bases = ctx.needs_input_grad[1:]
        d_micro = torch.empty_like(micro) if of_micro else None
        d_bases = torch.empty_like(bases) if of_bases else None
        d_mixing = mixing.new_empty(_CHUNKS, *mixing.shape) if of_mixing else None
        _run("unmix", inputs, lambda n: (d_planes, d_micro, d_bases, None if d_mixing is None else d_mixing[n]))
        return None, d_micro, None if d_mixing is None else d_mixing.sum(0), d_bases


def _run(name: str, inputs: _Inputs, tensors: Callable[[int], tuple[Tensor | None, ...]]) -> None:
    """Call a function of mix.c for all chunks of texels, with the tensors that belong to each."""
    function = getattr(native.library("mix"), name)

    def chunk(number: int, *texels: int) -> None:
        function(ctypes.byref(inputs), *map(native.pointer, tensors(number)), *map(ctypes.c_long, texels))

    native.run(chunk, native.shares(inputs.texels, _CHUNKS))


def mix(micro: Tensor, mixing: Tensor, bases: Tensor, texels: Tensor | None = None) -> Tensor:
    """Planes [S, 3, K, K, F_mic + F_mac]: the scenes' own features, then Σ_k w^k B_k.

    Texels that nobody reads are 0, have no gradient and cost next to nothing.

    Args:
        micro: [S, 3, K, K, F_mic], F_mic may be 0.
        mixing: [S, M].
        bases: [M, 3, K, K, F_mac].
        texels: [S, 3, K, K] bool, those that are read; None: all.
    """
    inputs = micro, mixing, bases
    native.require_shape("bases", bases, None, 3, None, None, None)
    native.require_shape("mixing", mixing, None, len(bases))
    native.require_shape("micro", micro, len(mixing), *bases.shape[1:-1], None)
    if texels is not None:
        native.require_shape("texels", texels, len(mixing), *bases.shape[1:-1])
    if all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in inputs) and native.works():
        return _Mix.apply(texels, *inputs)  # type: ignore[no-any-return]
    planes = torch.cat([micro, (mixing @ bases.flatten(1)).unflatten(1, bases.shape[1:])], -1)
    return planes if texels is None else planes.masked_fill(~texels[..., None], 0)
