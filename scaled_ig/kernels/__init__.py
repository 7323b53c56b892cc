"""Fast versions of what the renderer spends its time on, each beside the plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from scaled_ig.compositing import Composite
from scaled_ig.field_head import FieldHead
from scaled_ig.kernels import cpu, reference

Kernel = Literal["auto", "reference", "fast"]


def choose_march(kernel: Kernel, planes: Tensor, head: FieldHead) -> Callable[..., Composite]:
    """The function that renders rays through these planes: see :func:`scaled_ig.kernels.reference.march`.

    ``auto`` takes the fast one where it serves these planes on this machine, ``fast`` insists on it.

    Raises:
        ValueError: ``fast`` was asked for and there is none; the message says what it needs.
    """
    if kernel == "reference":
        return reference.march
    if cpu.serves(planes, head):
        return cpu.march
    if kernel == "fast":
        raise ValueError(
            "no fast kernel here: it needs float32 planes on the CPU, a hidden_channels that is a multiple of 16 and a "
            "C compiler (or pip install ziglang); use kernel: auto"
        )
    return reference.march
