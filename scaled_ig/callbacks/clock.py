"""How long training takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback


class TrainingClock(Callback):
    """Wall and processor seconds of a phase, from before its latents are cached to its finish, without evaluation.

    Args:
        seconds: Wall seconds that the phase has already taken, where it is resumed.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = {"seconds": seconds, "processor_seconds": 0.0}
        self._start: dict[str, float] | None = None

    @property
    def seconds(self) -> float:
        """Wall seconds so far."""
        return self._so_far()["seconds"]

    @property
    def processor_seconds(self) -> float:
        """Seconds so far that processors worked for this process, all of its threads; other work does not count."""
        return self._so_far()["processor_seconds"]

    def _so_far(self) -> dict[str, float]:
        if self._start is None:
            return self._before
        now = _now()
        return {name: before + now[name] - self._start[name] for name, before in self._before.items()}

    def on_fit_start(self, trainer, pl_module) -> None:
        self._start = _now()

    def on_train_end(self, trainer, pl_module) -> None:
        self._before, self._start = self._so_far(), None

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is done before or after training."""
        self._start = _now()
        try:
            yield
        finally:
            self._before, self._start = self._so_far(), None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop while something is done that training does not need."""
        running = self._start is not None
        self._before, self._start = self._so_far(), None
        try:
            yield
        finally:
            self._start = _now() if running else None

    def state_dict(self) -> dict[str, float]:
        return dict(self._so_far())

    def load_state_dict(self, state: dict[str, float]) -> None:
        wall = state["seconds"]  # what earlier versions saved alone
        self._before = {name: state.get(name, wall) for name in self._before}


def _now() -> dict[str, float]:
    return {"seconds": time.perf_counter(), "processor_seconds": time.process_time()}


def peak_mebibytes() -> float:
    """Most memory held so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
