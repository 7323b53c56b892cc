"""The files of a run: names that others rely on, written whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

CSV_COLUMNS = ("phase", "step", "seconds", "name", "value")


class RunFolder:
    """A run's folder.

    Args:
        path: Made where it is missing, when something is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def checkpoint(self, phase: str, name: str = "final") -> Path:
        """``checkpoints/<phase>/{last,final}.ckpt``."""
        return self.path / "checkpoints" / phase / f"{name}.ckpt"

    @property
    def bank(self) -> Path:
        """Folder of the scene bank."""
        return self.path / "bank"

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; empty where there is none."""
        file = self.path / name
        return json.loads(file.read_text()) if file.exists() else {}

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file of the run."""
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f"{name}.{os.getpid()}.part"
        temporary.write_text(json.dumps(content, indent=1))
        os.replace(temporary, self.path / name)

    def append_metrics(self, phase: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Add rows to ``metrics.csv``: phase, step, seconds of training in this phase, name, value."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "metrics.csv"
        is_new = not file.exists()
        with file.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if is_new:
                writer.writerow(CSV_COLUMNS)
            for name, value in values.items():
                writer.writerow([phase, step, f"{seconds:.3f}", name, f"{value:.6g}"])

    def read_metrics(self) -> list[dict[str, str]]:
        """Rows of ``metrics.csv``."""
        file = self.path / "metrics.csv"
        if not file.exists():
            return []
        with file.open(newline="") as stream:
            return list(csv.DictReader(stream))
