"""The renderer's inner loop on the CPU: ``march.c``, compiled for this machine when it is first used.

The same function as :func:`scaled_ig.kernels.reference.march`. Results do not depend on the number of threads: a
scene's gradients are written by one thread, in order.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.cameras import Rays
from scaled_ig.compositing import Composite
from scaled_ig.field_head import FieldHead
from scaled_ig.kernels import reference
from scaled_ig.representations.planes import PlaneAxes

_SOURCE = Path(__file__).with_name("march.c")
_FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
_LANES = 16
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@cache
def compiler() -> list[str] | None:
    """Command of a C compiler: ``$CC``, the system's, or the Python package ziglang's; None where there is none."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


@cache
def _library(features: int, hidden: int, values: int) -> ctypes.CDLL:
    """The kernel for these sizes, compiled once for each machine and kept in the user's cache."""
    command = compiler()
    assert command is not None
    sizes = [f"-DF={features}", f"-DH={hidden}", f"-DC={values}"]
    key = [*command, *_FLAGS, *sizes, platform.machine(), _processor(), _SOURCE.read_text()]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaled-ig"
    library = folder / f"march-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = library.with_name(f"{library.name}.{os.getpid()}.part")
        subprocess.run(
            [*command, *_FLAGS, *sizes, str(_SOURCE), "-o", str(part), "-lm"], check=True, capture_output=True
        )
        os.replace(part, library)
    _keep_freed_memory()
    return ctypes.CDLL(str(library))


@cache
def _works() -> bool:
    """Whether the compiler that was found can compile the kernel; says why not, once."""
    try:
        return _library(_LANES, _LANES, 1) is not None
    except (subprocess.CalledProcessError, OSError) as error:
        reason = (
            error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
        )
        first = next(iter(reason.strip().splitlines()), "no message")
        print(
            f"the fast kernel cannot be compiled ({first}): the plain, slower one is used",
            file=sys.stderr,
        )
        return False


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may be shared by different machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))} or lines))


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of returning them: their page faults cost as much as the sampling."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


class _Inputs(ctypes.Structure):
    """``Inputs`` of march.c."""

    _NAMES = (
        *("texels", "slot", "origins", "directions", "t", "axes"),
        *("w1", "w1_rows", "b1", "w2", "w2_rows", "b2", "background"),
    )
    _fields_ = [("samples", ctypes.c_int), ("resolution", ctypes.c_int), *((name, ctypes.c_void_p) for name in _NAMES)]

    @classmethod
    def of(cls, planes: Tensor, tensors: dict[str, Tensor]) -> _Inputs:
        tensors = {"texels": planes, **tensors}
        assert all(tensor.dtype in (torch.float32, torch.int32, torch.int64) for tensor in tensors.values())
        pointers = {name: tensors[name].data_ptr() for name in cls._NAMES}
        return cls(samples=tensors["t"].shape[1], resolution=planes.shape[2], **pointers)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _run(tasks: list[Callable[[], object]]) -> None:
    """Run tasks on as many threads as torch uses; ctypes lets go of the interpreter's lock meanwhile."""
    threads = torch.get_num_threads()
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            task()
    else:
        for done in [_pool(threads).submit(task) for task in tasks]:
            done.result()


class _March(torch.autograd.Function):
    @staticmethod
    def forward(ctx, planes, slot, origins, directions, t, axes, w1_rows, b1, w2_rows, b2, background):
        ctx.sizes = planes.shape[-1], len(b1), len(background)
        names = ("slot", "origins", "directions", "t", "axes", "w1_rows", "b1", "w2_rows", "background")
        given = (slot, origins, directions, t, axes, w1_rows, b1, w2_rows, background)
        tensors = {name: tensor.detach().contiguous() for name, tensor in zip(names, given, strict=True)}
        tensors["w1"] = w1_rows.detach().T.contiguous()
        fill = (0, -len(b2) % _LANES)
        tensors["w2"], tensors["b2"] = F.pad(w2_rows.detach().T, fill).contiguous(), F.pad(b2.detach(), fill)
        ctx.tensors, ctx.planes = tensors, planes.detach().contiguous()
        inputs, forward = _Inputs.of(ctx.planes, tensors), _library(*ctx.sizes).march_forward
        pixels, extra = planes.new_empty(len(t), len(background)), planes.new_empty(len(t), 2)
        ends = torch.linspace(0, len(t), 4 * torch.get_num_threads() + 1).long().tolist()
        outputs = ctypes.byref(inputs), _pointer(pixels), _pointer(extra)
        _run([partial(forward, *outputs, *_range(first, last)) for first, last in pairwise(ends)])
        ctx.mark_non_differentiable(extra)
        return pixels, extra

    @staticmethod
    def backward(ctx, *gradients):
        planes, tensors, gradient = ctx.planes, ctx.tensors, gradients[0].contiguous()
        inputs, backward = _Inputs.of(planes, tensors), _library(*ctx.sizes).march_backward
        d_planes, num_scenes = torch.zeros_like(planes), len(planes)
        # One set of weight gradients a scene, summed in order.
        outputs = tensors["w2_rows"].shape[:1]
        shapes = tensors["w1"].shape, tensors["b1"].shape, tensors["w2_rows"].shape, outputs
        d_head = [torch.zeros(num_scenes, *shape) for shape in shapes]
        ends = torch.bincount(tensors["slot"], minlength=num_scenes).cumsum(0).tolist()

        def scene(s: int, first: int, last: int) -> None:
            own = (_pointer(part[s]) for part in d_head)
            backward(ctypes.byref(inputs), _pointer(gradient), _pointer(d_planes), *own, *_range(first, last))

        _run([partial(scene, s, first, last) for s, (first, last) in enumerate(pairwise([0, *ends]))])
        d_w1, d_b1, d_w2, d_b2 = (part.sum(0) for part in d_head)
        return d_planes, None, None, None, None, None, d_w1.T, d_b1, d_w2, d_b2, None


def _range(first: int, last: int) -> tuple[ctypes.c_long, ctypes.c_long]:
    return ctypes.c_long(first), ctypes.c_long(last)


def serves(planes: Tensor, head: FieldHead) -> bool:
    """Whether this kernel can render these planes here."""
    return (
        planes.device.type == "cpu"
        and planes.dtype == torch.float32
        and head.hidden.out_features % _LANES == 0
        and sys.platform != "win32"
        and compiler() is not None
        and _works()
    )


def densities(planes: Tensor, slot: Tensor, rays: Rays, t: Tensor, head: FieldHead, axes: PlaneAxes) -> Tensor:
    """As :func:`scaled_ig.kernels.reference.densities`."""
    return reference.densities(planes, slot, rays, t, head, axes)


def march(
    planes: Tensor, slot: Tensor, rays: Rays, t: Tensor, head: FieldHead, background: Tensor, axes: PlaneAxes
) -> Composite:
    """As :func:`scaled_ig.kernels.reference.march`, float32 on the CPU; gradients of the pixels to planes and head."""
    fill = -planes.shape[-1] % _LANES
    weight = head.hidden.weight
    if fill:
        planes, weight = F.pad(planes, (0, fill)), F.pad(weight, (0, fill))
    axes_tensor = torch.tensor(axes, dtype=torch.int32)
    parameters = weight, head.hidden.bias, head.out.weight, head.out.bias, background
    pixels, extra = _March.apply(planes, slot, rays.origins, rays.directions, t, axes_tensor, *parameters)
    return Composite(pixels, extra[:, 0], extra[:, 1])


def squared_error(
    planes: Tensor,
    slot: Tensor,
    rays: Rays,
    t: Tensor,
    head: FieldHead,
    background: Tensor,
    axes: PlaneAxes,
    target: Tensor,
) -> Tensor:
    """As :func:`scaled_ig.kernels.reference.squared_error`."""
    return (march(planes, slot, rays, t, head, background, axes).pixels - target).square().sum()
