"""C for the CPU: the sources of this folder, compiled for this machine when they are first used.

Tasks of a call run on as many threads as torch uses. What they compute must not depend on how many those are.
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
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.distributed.cores import processor_lines, processor_name
from scaled_ig.files import replacing
from scaled_ig.forks import fork_safe_lock

_FOLDER = Path(__file__).parent
_FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


_COMPILING = fork_safe_lock()  # threads of a process would write one draft


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
def library(name: str, **sizes: int) -> ctypes.CDLL:
    """A source of this folder, compiled once for each machine and kept in the user's cache.

    Args:
        name: Of the source, without its ending.
        sizes: What it is compiled for.

    Raises:
        subprocess.CalledProcessError: It does not compile.
        OSError: The compiler cannot be run, or the cache not be written.
    """
    command = compiler()
    assert command is not None
    source, lanes = _FOLDER / f"{name}.c", _FOLDER / "lanes.h"
    definitions = [f"-D{size}={value}" for size, value in sizes.items()]
    key = [*command, *_FLAGS, *definitions, platform.machine(), _processor(), source.read_text(), lanes.read_text()]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaled-ig"
    compiled = folder / f"{name}-{digest}.so"
    with _COMPILING:
        if not compiled.exists():
            with replacing(compiled) as draft:
                call = [*command, *_FLAGS, *definitions, str(source), "-o", str(draft), "-lm"]
                subprocess.run(call, check=True, capture_output=True)
    _keep_freed_memory()
    return ctypes.CDLL(str(compiled))


def works() -> bool:
    """Whether there is a compiler here that can compile these sources."""
    return sys.platform != "win32" and compiler() is not None and _compiles()


@cache
def _compiles() -> bool:
    """Says why not, once. Each source, so that none of them fails when training already runs."""
    try:
        return all(
            (library("mix"), library("adam"), library("deferred"), library("hull"), library("march", F=16, H=16, C=1))
        )
    except (subprocess.CalledProcessError, OSError) as error:
        output = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error).encode()
        reason = output.decode(errors="replace")
        first = next(iter(reason.strip().splitlines()), "no message")
        print(f"the fast kernel cannot be compiled ({first}): the plain, slower one is used", file=sys.stderr)
        return False


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may be shared by different machines."""
    lines = processor_lines() or [processor_name()]
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))} or lines))


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of returning them: their page faults cost as much as the sampling."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a contiguous tensor begins; NULL for None."""
    assert tensor is None or tensor.is_contiguous()
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def require_shape(name: str, tensor: Tensor, *shape: int | None) -> None:
    """Raise ValueError where a tensor has not the shape that C reads; None stands for any length.

    Args:
        name: Of the tensor.
        tensor: What will be read.
        shape: What is expected.
    """
    fits = len(shape) == tensor.dim() and all(
        length in (None, actual) for length, actual in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} has shape {list(tensor.shape)}, and compiled code reads [{expected}]")


def require_rows(name: str, rows: Tensor, count: int) -> None:
    """Raise ValueError where integers name rows that a table of ``count`` rows does not have."""
    if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < count):
        raise ValueError(f"{name} must be 0 to {count - 1}, and is {int(rows.min())} to {int(rows.max())}")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def shares(count: int, number: int) -> list[int]:
    """Ends of so many equal shares of ``count`` things, for :func:`run`."""
    return [count * share // number for share in range(number + 1)]


def run(task: Callable[[int, int, int], object], ends: list[int]) -> None:
    """Call ``task(number, first, last)`` for each pair of neighbours in ``ends``; ctypes lets go of Python's lock."""
    threads = torch.get_num_threads()
    tasks = [(number, *ends) for number, ends in enumerate(pairwise(ends))]
    if threads == 1 or len(tasks) == 1:
        for arguments in tasks:
            task(*arguments)
    else:
        for future in [_pool(threads).submit(task, *arguments) for arguments in tasks]:
            future.result()
