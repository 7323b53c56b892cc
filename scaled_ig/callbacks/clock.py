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
    """Wall seconds of a phase, from before its latents are cached to its finish; evaluation does not count.

    Args:
        seconds: Seconds that the phase has already taken, where it is resumed.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._start: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._before + (0.0 if self._start is None else time.perf_counter() - self._start)

    def on_fit_start(self, trainer, pl_module) -> None:
        self._start = time.perf_counter()

    def on_train_end(self, trainer, pl_module) -> None:
        self._before, self._start = self.seconds, None

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is done before or after training."""
        self._start = time.perf_counter()
        try:
            yield
        finally:
            self._before, self._start = self.seconds, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop while something is done that training does not need."""
        running = self._start is not None
        self._before, self._start = self.seconds, None
        try:
            yield
        finally:
            self._start = time.perf_counter() if running else None

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._before = state["seconds"]


def peak_mebibytes() -> float:
    """Most memory held so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
