"""``training.csv``: losses and quality of a run, step by step."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scaled_ig.files import naming, sync, write_whole

COLUMNS = ("phase", "step", "seconds", "name", "value")


class TrainingTable:
    """Rows of phase, step, seconds of training in this phase, name and value.

    Args:
        path: The file; made where it is missing, when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: Counter[str] | None = None  # rows of each phase, once they are asked for

    def append(self, phase: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Add a row for each value: all of them, or none where an error of the system says so."""
        rows = [[phase, step, f"{seconds:.3f}", name, f"{value:.6g}"] for name, value in values.items()]
        text = io.StringIO()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("ab", buffering=0) as stream:
            size = stream.tell()
            csv.writer(text).writerows(rows if size else [COLUMNS, *rows])
            content = text.getvalue().encode()
            try:
                while content:
                    content = content[stream.write(content) :]
            except OSError:
                stream.truncate(size)
                raise
        if self._counts is not None:
            self._counts[phase] += len(rows)

    def read(self) -> list[dict[str, str]]:
        """All rows; none where there is no file. A last one without its end, of a process that was killed, is none."""
        if not self.path.exists():
            return []
        whole, end, _ = self.path.read_text().rpartition("\n")
        return list(csv.DictReader(io.StringIO(whole + end)))

    def sync(self) -> None:
        """Have all rows on the disk before going on."""
        if self.path.exists():
            sync(self.path)

    def forget(self, phase: str, after_step: int) -> None:
        """Drop a phase's rows beyond a step, and those of its test views: a resumed phase writes them again."""
        self._keep(
            lambda row, _: (
                row["phase"] != phase or (int(row["step"]) <= after_step and not row["name"].startswith("test/"))
            )
        )

    def count(self, phase: str) -> int:
        """Number of a phase's rows."""
        if self._counts is None:
            self._counts = Counter(row["phase"] for row in self.read())
        return self._counts[phase]

    def keep_first(self, phase: str, count: int) -> None:
        """Drop a phase's rows beyond so many, and those of test views: a resumed phase writes them again."""
        self._keep(
            lambda row, number: row["phase"] != phase or (number < count and not row["name"].startswith("test/"))
        )

    def _keep(self, is_kept: Callable[[dict[str, str], int], bool]) -> None:
        """Write the file anew, if need be, with some rows alone.

        Args:
            is_kept: Whether a row stays; told the row, and how many of its phase come before.
        """
        numbers: Counter[str] = Counter()
        kept = []
        for row in self.read():
            if is_kept(row, numbers[row["phase"]]):
                kept.append(row)
            numbers[row["phase"]] += 1
        self._counts, text = None, csv_text(COLUMNS, kept)
        if self.path.exists() and self.path.read_bytes() != text.encode():
            write_whole(self.path, text)


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV of these columns; what else the rows hold is left out."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
