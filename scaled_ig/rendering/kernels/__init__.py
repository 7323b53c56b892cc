"""Versions of what the renderer spends its time on: the plain one, and faster ones that compute the same."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from scaled_ig.rendering.compositing import Composite
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import cpu, cuda, reference
from scaled_ig.rendering.kernels.reference import PlaneRays, Target

KernelChoice = Literal["auto", "reference", "fast"]


class Kernel(Protocol):
    """What a module of this package offers; :mod:`~scaled_ig.rendering.kernels.reference` says what they compute."""

    __name__: str

    def serves(self, planes: Tensor, head: FieldHead) -> bool:
        """Whether this kernel can render these planes on this machine."""

    def densities(self, plane_rays: PlaneRays, t: Tensor) -> Tensor:
        """Raw densities along rays, without a gradient."""

    def resample(self, t: Tensor, raw_densities: Tensor, num_samples: int, u: Tensor | None) -> Tensor:
        """Depths and as many more by importance, ascending."""

    def march(self, plane_rays: PlaneRays, t: Tensor) -> Composite:
        """Pixels of rays, with a gradient."""

    def squared_error(self, plane_rays: PlaneRays, t: Tensor, target: Target) -> Tensor:
        """Error of what rays see, with a gradient; none flows to the target and to the background."""


FAST: tuple[Kernel, ...] = (cuda, cpu)
_DESCRIPTIONS = {
    reference.__name__: "plain PyTorch",
    cpu.__name__: "compiled C, scaled_ig/native/march.c",
    cuda.__name__: "Triton, scaled_ig/rendering/kernels/triton_march.py",
}


def choose_kernel(choice: KernelChoice, planes: Tensor, head: FieldHead) -> Kernel:
    """The kernel that renders these planes.

    ``auto`` takes a fast one where it serves these planes on this machine, ``fast`` insists on it.

    Raises:
        ValueError: ``fast`` was asked for and there is none; the message says what it needs.
    """
    if choice == "reference":
        return reference
    for kernel in FAST:
        if kernel.serves(planes, head):
            return kernel
    if choice == "fast":
        raise ValueError(
            "no fast kernel here: it needs float32 planes on the CPU, a hidden_channels that is a multiple of 16 and a "
            "C compiler (or pip install ziglang), or an NVIDIA GPU from Ampere on and Triton; use kernel: auto"
        )
    return reference


def describe_kernel(choice: KernelChoice, head: FieldHead) -> str:
    """One line on which kernel renders planes where the head is; raises as :func:`choose_kernel`."""
    kernel = choose_kernel(choice, head.hidden.weight.new_empty(0), head)
    return f"rendering kernel: {_DESCRIPTIONS[kernel.__name__]}"
