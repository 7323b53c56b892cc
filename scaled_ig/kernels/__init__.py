"""Fast versions of what the renderer spends its time on, each beside the plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from scaled_ig.kernels import reference

Kernel = Literal["auto", "reference", "fast"]


def sample_scene_planes(kernel: Kernel, planes: Tensor) -> Callable[..., Tensor]:
    """The function that reads these planes: see :func:`scaled_ig.kernels.reference.sample_scene_planes`.

    ``auto`` takes the fast one where it serves the planes' device and type, ``fast`` insists on it.
    """
    fast = planes.device.type == "cpu" and planes.dtype == torch.float32
    if kernel == "reference" or (kernel == "auto" and not fast):
        return reference.sample_scene_planes
    if not fast:
        raise ValueError(f"no fast kernel for {planes.dtype} planes on {planes.device.type}: use kernel: auto")
    from scaled_ig.kernels import cpu  # imports numba, which takes a second

    return cpu.sample_scene_planes
