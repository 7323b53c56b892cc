"""What all benchmarks share: contestants take turns, so that a busy machine is as unfair to one as to the other."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from tqdm import tqdm


def cpu_seconds(contestants: dict[str, Callable[[], object]], rounds: int, title: str) -> dict[str, float]:
    """Median CPU seconds of this process for a call of each contestant, after one call that does not count.

    Args:
        contestants: By name; called in turns.
        rounds: Calls of each that count.
        title: Of the progress bar.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with tqdm(total=(rounds + 1) * len(contestants), desc=title, unit="call", leave=False) as bar:
        for counted in (False, *[True] * rounds):
            for name, contestant in contestants.items():
                begun = time.process_time()
                contestant()
                if counted:
                    times[name].append(time.process_time() - begun)
                bar.update()
    return {name: statistics.median(own) for name, own in times.items()}


def machine() -> dict[str, Any]:
    """Where and when a benchmark ran."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
