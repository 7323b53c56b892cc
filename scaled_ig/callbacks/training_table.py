"""``training.csv``: losses and quality of a run, step by step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scaled_ig.files import write_whole

COLUMNS = ("phase", "step", "seconds", "name", "value")


class TrainingTable:
    """Rows of phase, step, seconds of training in this phase, name and value.

    Args:
        path: The file; made where it is missing, when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, phase: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Add a row for each value."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if is_new:
                writer.writerow(COLUMNS)
            for name, value in values.items():
                writer.writerow([phase, step, f"{seconds:.3f}", name, f"{value:.6g}"])

    def read(self) -> list[dict[str, str]]:
        """All rows; none where there is no file."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as stream:
            return list(csv.DictReader(stream))

    def forget(self, phase: str, after_step: int) -> None:
        """Drop a phase's rows beyond a step: a resumed phase trains those steps again."""
        rows = self.read()
        rows_before = [row for row in rows if row["phase"] != phase or int(row["step"]) <= after_step]
        if len(rows_before) < len(rows):
            write_whole(self.path, csv_text(COLUMNS, rows_before))


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV of these columns; what else the rows hold is left out."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
