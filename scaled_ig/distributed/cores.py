"""How many cores this process may use: for torch's threads, and for processes that pack and check.

Processes that need not wait for each other share a busy core with others. Threads that meet hundreds of times a step
cannot: all of them wait for the one whose core somebody else has. Beside one busy process two threads on two cores are
slower than one, so cores that others keep busy are left to them.

Without torch, for OpenMP reads how its threads shall wait when torch is imported.

The name of their processor is read here too, beside all else that Linux says of it.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# A thread that waits sleeps: one that spins holds a core that somebody else could use, the thread that it waits for
# among them. Every OpenMP reads the first; without the second, those of Intel and LLVM spin for 200 ms all the same.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
_CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # by the user, or by a launcher for each of its ranks
_LONG_ENOUGH = 0.2  # seconds that tell a busy core from an idle one: the kernel counts in hundredths
_NICE, _IDLE, _WAITING = 1, 3, 4  # columns of /proc/stat

Limits = tuple[tuple[float, float], ...]
"""Of each control group that has a quota: CPU seconds that it has used, and the quota in cores."""


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """To be called before torch is imported. What the user has set stays."""
    for name, value in PASSIVE.items():
        environment.setdefault(name, value)


@dataclass(frozen=True)
class Moment:
    """CPU seconds used up to a moment.

    Args:
        clock: The moment, in seconds.
        busy: Used by anybody, on the CPUs that this process may use.
        own_seconds: Used by this process and its children that have ended.
        limits: Used by control groups.
    """

    clock: float
    busy: float
    own_seconds: float
    limits: Limits = ()

    @classmethod
    def now(cls, root: Path = Path("/")) -> Moment:
        """Args: root: Folder of ``proc`` and ``sys``."""
        times = os.times()
        own_seconds = times.user + times.system + times.children_user + times.children_system
        return cls(time.monotonic(), _busy_seconds(root), own_seconds, tuple(_limits(root)))


_begun: Moment | None = None


def begin() -> None:
    """At the start of the program: threads wait passively, and from here on it is watched what others use."""
    global _begun
    wait_passively()
    _begun = Moment.now()


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use, whoever else does: as many as processes of ours can be busy with.

    Args:
        root: Folder of ``proc`` and ``sys``.
    """
    return _at_least_one(min([len(allowed_cpus(root)), *(quota for _, quota in _limits(root))]))


def usable_cores(root: Path = Path("/")) -> int:
    """The same of cores: a thread that computes without pause leaves nothing to the second one of its core."""
    return min(_cores(allowed_cpus(root), root), usable_cpus(root))


def share_cores(ranks: int = 1, running: int = 1) -> None:
    """Have torch use this process's part of the cores that others leave idle, unless somebody has chosen another one.

    Args:
        ranks: Processes of the program on this machine, this one among them.
        running: Those of them that have started as this one has; the others inherit what is found here.
    """
    if any(os.environ.get(name) for name in _CHOSEN):
        return
    begun = _begun or Moment.now()
    time.sleep(max(0.0, begun.clock + _LONG_ENOUGH - time.monotonic()))
    threads = max(1, idle_cores(usable_cores(), begun, Moment.now(), running) // ranks)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # which has read it already
        sys.modules["torch"].set_num_threads(threads)


def idle_cores(cores: int, first: Moment, last: Moment, running: int = 1) -> int:
    """Of a number of cores those that others have left idle between two moments; at least one.

    Args:
        cores: Their number.
        first: The first moment.
        last: The last one.
        running: Processes of ours; each has used as much as this one.
    """
    own_seconds = running * (last.own_seconds - first.own_seconds)

    def cores_of_others(start: float, end: float) -> float:
        """Cores that they have kept busy."""
        return max(0.0, end - start - own_seconds) / (last.clock - first.clock)

    free = [cores - cores_of_others(first.busy, last.busy)]
    for (start, quota), (end, _) in zip(first.limits, last.limits, strict=False):
        free.append(quota - cores_of_others(start, end))
    return _at_least_one(min(free) + 0.5)


def _at_least_one(number: float) -> int:
    """Whole ones: a thread beyond a quota is stopped in mid-step."""
    return max(1, math.floor(number))


# -- what the kernel says ----------------------------------------------------------------------------------------------


def processor_lines(root: Path = Path("/")) -> list[str]:
    """What Linux says of the CPUs, line by line; nothing on other systems."""
    return _text(root / "proc/cpuinfo").splitlines()


def processor_name(root: Path = Path("/")) -> str:
    """Make of the processor; its architecture where Linux does not name it, as on ARM."""
    names = (line.partition(":")[2].strip() for line in processor_lines(root) if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def allowed_cpus(root: Path = Path("/")) -> set[int]:
    """Numbers of the CPUs that this process may run on."""
    text = _text(root / "proc/self/status")
    listed = re.search(r"^Cpus_allowed_list:\s*(\S+)", text, re.MULTILINE)
    return _numbers(listed[1]) if listed else set(range(os.cpu_count() or 1))


def _numbers(ranges: str) -> set[int]:
    """``0-3,8`` is 0, 1, 2, 3 and 8."""
    ends = [[int(end) for end in part.split("-")] for part in ranges.strip().split(",")]
    return {number for first, *last in ends for number in range(first, (last or [first])[0] + 1)}


def _cores(cpus: set[int], root: Path) -> int:
    """Cores that so many CPUs are threads of."""
    siblings = [_text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus]
    return len({text or str(cpu) for cpu, text in zip(cpus, siblings, strict=True)})


def _busy_seconds(root: Path) -> float:
    """Of what is not nice to us: nice processes yield to all that are not."""
    cpus, ticks = allowed_cpus(root), 0
    none = {_IDLE, _WAITING} if _is_nice() else {_IDLE, _WAITING, _NICE}
    for number, columns in re.findall(r"^cpu(\d+) ([\d ]+)$", _text(root / "proc/stat"), re.MULTILINE):
        if int(number) in cpus:
            ticks_of_cpu = columns.split()[:8]  # guests are within user
            ticks += sum(int(value) for column, value in enumerate(ticks_of_cpu) if column not in none)
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


@cache
def _is_nice() -> bool:
    """At first, lest a process that is made nice meanwhile take all that was nice before for a neighbour."""
    return os.name == "posix" and os.getpriority(os.PRIO_PROCESS, 0) > 0


def _limits(root: Path) -> Iterator[tuple[float, float]]:
    """Seconds used by, and quota in cores of, each control group of this process that has one, of version 1 or 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, second = root / "sys/fs/cgroup", True
        elif "cpu" in controllers.split(","):
            top, second = root / "sys/fs/cgroup" / controllers, False
        else:
            continue
        # From outside a container its group has a path that the container itself does not see: what is there counts.
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if limit := _limit_2(folder) if second else _limit_1(folder):
                yield limit
            if folder == top:
                break


def _limit_2(folder: Path) -> tuple[float, float] | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota.isdigit():
        return None  # max, or no such file
    usage = re.search(r"^usage_usec (\d+)", _text(folder / "cpu.stat"), re.MULTILINE)
    return int(usage[1]) / 1e6 if usage else 0.0, int(quota) / int(period or 100_000)


def _limit_1(folder: Path) -> tuple[float, float] | None:
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if not (quota.isdigit() and period.isdigit()):
        return None  # -1, or no such file
    usage = _text(folder / "cpuacct.usage").strip()
    return int(usage) / 1e9 if usage else 0.0, int(quota) / int(period)


def _text(file: Path) -> str:
    """Of a file; nothing where it cannot be read, as on other systems than Linux."""
    try:
        return file.read_text()
    except OSError:
        return ""
