"""What the rows of benchmarks/gpu.py share: time on a device, contestants in turns, and counts of launches."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

WARM_UP = 3  # calls that do not count: compilation, cuDNN's choice of algorithms, the allocator


@dataclass(frozen=True)
class Bench:
    """Where rows are measured, and how large.

    Args:
        device: A GPU; the CPU for a trial of the code.
        toy: Sizes that a CPU can do in a minute, whose figures mean nothing.
    """

    device: torch.device
    toy: bool

    def size(self, real: int, toy: int) -> int:
        return toy if self.toy else real

    def milliseconds(self, contestants: dict[str, Callable[[], object]], rounds: int = 30) -> dict[str, float]:
        """Median time of a call of each, from its first launch to its last on an idle device; called in turns."""
        rounds, times = self.size(rounds, 1), {name: [] for name in contestants}  # type: dict[str, list[float]]
        for turn in range(self.size(WARM_UP, 0) + rounds):
            for name, contestant in contestants.items():
                taken = self._time(contestant)
                if turn >= self.size(WARM_UP, 0):
                    times[name].append(taken)
        return {name: statistics.median(own) for name, own in times.items()}

    def _time(self, contestant: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            begun = time.process_time()
            contestant()
            return 1e3 * (time.process_time() - begun)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(self.device)
        first.record()
        contestant()
        last.record()
        last.synchronize()
        return first.elapsed_time(last)

    def launches(self, contestant: Callable[[], object]) -> int:
        """Kernels that a call launches; 0 on the CPU."""
        if self.device.type != "cuda":
            return 0
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
            contestant()
            torch.cuda.synchronize(self.device)
        return sum(event.count for event in record.key_averages() if "LaunchKernel" in event.key)

    def machine(self) -> dict[str, Any]:
        """Where and when a row was measured."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU, a trial of the code"
        return {
            "machine": f"{name}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "triton": _triton_version(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "date": date.today().isoformat(),
        }


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, as part of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
