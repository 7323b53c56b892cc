"""C sources of the package, compiled for this machine when they are first used, and kept in the user's cache."""

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
from functools import cache
from pathlib import Path

_FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@cache
def compiler() -> list[str] | None:
    """Command of a C compiler: ``$CC``, the system's, or the Python package ziglang's; None where there is none."""
    if sys.platform == "win32":
        return None
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


@cache
def library(source: Path, **sizes: int) -> ctypes.CDLL | None:
    """A compiled source; None where this machine cannot compile it, which is said once.

    Args:
        source: The C file.
        sizes: Macros that it is compiled with.
    """
    command = compiler()
    if command is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(command, source, sizes)))
    except (subprocess.CalledProcessError, OSError) as error:
        _say_once(
            error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
        )
        return None


def _compiled(command: list[str], source: Path, sizes: dict[str, int]) -> Path:
    macros = [f"-D{name}={size}" for name, size in sizes.items()]
    key = [*command, *_FLAGS, *macros, platform.machine(), _processor(), source.read_text()]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaled-ig"
    target = folder / f"{source.stem}-{digest}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        subprocess.run(
            [*command, *_FLAGS, *macros, str(source), "-o", str(part), "-lm"], check=True, capture_output=True
        )
        os.replace(part, target)
    _keep_freed_memory()
    return target


@cache
def _say_once(reason: str) -> None:
    first = next(iter(reason.strip().splitlines()), "no message")
    print(f"the fast kernel cannot be compiled ({first}): the plain, slower one is used", file=sys.stderr)


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
