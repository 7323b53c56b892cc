"""Training that waits for a test at two places, so that no test depends on which of the two is faster."""

import time
from pathlib import Path

from lightning.pytorch import Callback

PATIENCE = 120  # seconds


class Gate(Callback):
    """Stops at the beginning and at the end of a phase, until a file ``PHASE-begin`` or ``PHASE-end`` is there.

    Args:
        folder: Where the files are made.
        phases: Names of the phases.
    """

    def __init__(self, folder: str, phases: list[str]) -> None:
        self.folder, self.phases = folder, phases

    def on_train_start(self, trainer, pl_module) -> None:
        self._wait(pl_module, "begin")

    def on_train_end(self, trainer, pl_module) -> None:
        self._wait(pl_module, "end")

    def _wait(self, phase, place: str) -> None:
        if phase.name in self.phases:
            Path(self.folder, f"{phase.name}-{place}-reached").touch()
            wait_for(Path(self.folder, f"{phase.name}-{place}"))


def wait_for(file: Path) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < end, f"nobody made {file}"
        time.sleep(0.05)
