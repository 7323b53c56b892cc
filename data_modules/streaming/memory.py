"""How much memory there is to decode views into."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MEMORY_INFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")


def available_bytes() -> int:
    """Memory that this machine, or the container that this process lives in, has to give."""
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if MEMORY_INFO.is_file():
        fields = dict(line.split(":") for line in MEMORY_INFO.read_text().splitlines())
        free.append(int(fields["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        usage = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        # Files that were read lately count as used, but are given up when memory is wanted.
        used = int((CGROUP / "memory.current").read_text()) - int(usage["inactive_file"])
        free.append(int((CGROUP / "memory.max").read_text()) - used)
    return max(0, min(free))


def available_shared_bytes() -> int:
    """Memory that processes can share; containers often have 64 MB of it."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else available_bytes()
