"""What all benchmarks share: contestants take turns, so that a busy machine is as unfair to one as to the other."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from scaled_ig.distributed.cores import processor_name
from scaled_ig.progress import Progress


class Elsewhere:
    """A contestant in a process of its own, with PyTorch's default memory: ours tells glibc to keep what is freed.

    Args:
        make: Makes it there.
    """

    def __init__(self, make: Callable[[], Callable[..., object]]) -> None:
        context = get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), daemon=True)
        self._process.start()

    def __call__(self, *arguments: Any) -> float:
        """CPU seconds of a call."""
        self._mine.send(arguments)
        return self._mine.recv()

    def close(self) -> None:
        self._mine.send(None)
        self._process.join()


def _serve(make: Callable[[], Callable[..., object]], pipe: Any) -> None:
    torch.set_num_threads(1)
    contestant = make()
    while (arguments := pipe.recv()) is not None:
        pipe.send(seconds(contestant, *arguments))


def seconds(contestant: Callable[..., object], *arguments: Any) -> float:
    """CPU seconds of a call in this process."""
    begun = time.process_time()
    contestant(*arguments)
    return time.process_time() - begun


def in_turns(contestants: dict[str, Callable[[], float]], rounds: int, title: str) -> dict[str, float]:
    """Median of what each returns, after a turn that does not count.

    Args:
        contestants: By name; they return seconds.
        rounds: Calls of each that count.
        title: Of the progress bar.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with Progress(total=(rounds + 1) * len(contestants), desc=title, unit="call", leave=False) as bar:
        for counted in (False, *[True] * rounds):
            for name, contestant in contestants.items():
                taken = contestant()
                if counted:
                    times[name].append(taken)
                bar.update()
    return {name: statistics.median(own) for name, own in times.items()}


def cpu_seconds(contestants: dict[str, Callable[[], object]], rounds: int, title: str) -> dict[str, float]:
    """Median CPU seconds of a call of each, in turns, in this process."""
    return in_turns({name: partial(seconds, contestant) for name, contestant in contestants.items()}, rounds, title)


def machine() -> dict[str, Any]:
    """Where and when a benchmark ran."""
    return {
        "machine": f"{processor_name()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
