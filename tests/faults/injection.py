"""Faults at the n-th operation of a process: its steps of training, and what it does to the files of a folder."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUDITED = {
    "open": "open",
    "os.rename": "replace",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.truncate": "truncate",
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Fault:
    """What happens just before an operation.

    Args:
        number: Of the operation, from 1.
        act: ``signal``, ``error`` (the system refuses the operation) or ``room`` (no file may grow any further than
            ``value`` from here on).
        value: Number of the signal or error; bytes. A draft that is about to be brought to the disk loses its second
            half before a SIGKILL, as it may when the machine goes down.
    """

    number: int
    act: str
    value: int


class Operations:
    """Counts operations, writes a line for each (time, process, kind, name) and has faults happen.

    Args:
        folder: Files in it count.
        log: File of the lines, elsewhere.
        faults: As dictionaries of :class:`Fault`.
    """

    def __init__(self, folder: str, log: str, faults: list[dict[str, Any]]) -> None:
        self.folder, self.process = os.path.join(os.path.abspath(folder), ""), os.getpid()
        self.faults = {fault["number"]: Fault(**fault) for fault in faults}
        self.number, self.lock = 0, threading.Lock()
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.fsync = os.fsync
        os.fsync = self._sync
        self._count_steps()
        sys.addaudithook(self._hear)

    def _count_steps(self) -> None:
        from scaled_ig.phases.base import Phase

        step = Phase.training_step

        @functools.wraps(step)
        def counted(phase: Phase, *arguments: Any) -> Any:
            self._count("step", phase.name)
            return step(phase, *arguments)

        Phase.training_step = counted  # type: ignore[method-assign]

    def _hear(self, event: str, arguments: tuple) -> None:
        if event not in AUDITED or os.getpid() != self.process or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fspath(arguments[1] if event == "os.rename" else arguments[0]))
        if path.startswith(self.folder) and (event != "open" or (arguments[2] or 0) & WRITES):
            self._count(AUDITED[event], path)

    def _sync(self, handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.startswith(self.folder) and os.getpid() == self.process:
            self._count("sync", path)
        self.fsync(handle)

    def _count(self, kind: str, path: str) -> None:
        with self.lock:
            self.number += 1
            name = re.sub(r"\.\d+\.part$", ".part", path.removeprefix(self.folder))
            with contextlib.suppress(OSError):  # it may grow no further either
                os.write(self.log, f"{time.time()} {self.process} {kind} {name}\n".encode())
            fault = self.faults.get(self.number)
        if fault is None:
            return
        if fault.act == "error":
            raise OSError(fault.value, os.strerror(fault.value), path)
        if fault.act == "room":
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.value, resource.RLIM_INFINITY))
            return
        if kind == "sync" and path.endswith(".part") and fault.value == signal.SIGKILL:
            os.truncate(path, os.path.getsize(path) // 2)
        os.kill(self.process, fault.value)


def operations(log: Path) -> list[tuple[str, str]]:
    """Kind and name of each operation in a log."""
    return [(words[2], words[3]) for words in (line.split(" ", 3) for line in log.read_text().splitlines())]
