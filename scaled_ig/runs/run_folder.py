"""The files of a run: names that others rely on, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from scaled_ig.errors import UsageError

TRAINING_COLUMNS = ("phase", "step", "seconds", "name", "value")
QUALITY_COLUMNS = (
    "split",
    "scene",
    "num_views",
    "psnr",
    "psnr_pooled",
    "psnr_small",
    "ssim",
    "ssim_signed",
    "lpips",
    "latent_psnr",
    "autoencoder_psnr",
    "nearest_view_psnr",
)


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
        """A JSON file of the run; empty where there is none.

        Raises:
            UsageError: It is damaged.
        """
        file = self.path / name
        try:
            content = json.loads(file.read_text()) if file.exists() else {}
        except ValueError as error:
            raise UsageError(f"{file} is damaged ({error}): remove it, then scaled-ig test measures again") from None
        if not isinstance(content, dict):
            raise UsageError(f"{file} is damaged: it holds a {type(content).__name__}, not names with values")
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file of the run."""
        self._replace(name, json.dumps(content, indent=1))

    def write_metrics(self, metrics: dict[str, Any], name: str = "metrics") -> None:
        """Replace ``metrics.json`` and, by the same numbers, ``metrics.csv``.

        Args:
            metrics: ``s1``, ``s2`` and ``all`` with means, ``scenes`` with one record a scene, ``protocol``. The table
                has the scenes of each split, then their mean and standard deviation; a number that is not known is an
                empty field.
            name: Of the files, without their endings.
        """
        rows: list[dict[str, Any]] = []
        for split in ("s1", "s2", "all"):
            if split in metrics:
                means = metrics[split]
                own = [row | {"scene": row["id"]} for row in metrics["scenes"] if f"s{row['stage']}" == split]
                own.append(means | {"scene": "mean"})
                own.append({column: means.get(f"{column}_std") for column in QUALITY_COLUMNS} | {"scene": "std"})
                rows += [row | {"split": split} for row in own]
        self.write_json(f"{name}.json", metrics)
        self._replace(f"{name}.csv", _table(QUALITY_COLUMNS, rows))

    def append_training(self, phase: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Add rows to ``training.csv``: phase, step, seconds of training in this phase, name, value."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "training.csv"
        is_new = not file.exists()
        with file.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if is_new:
                writer.writerow(TRAINING_COLUMNS)
            for name, value in values.items():
                writer.writerow([phase, step, f"{seconds:.3f}", name, f"{value:.6g}"])

    def read_training(self) -> list[dict[str, str]]:
        """Rows of ``training.csv``."""
        file = self.path / "training.csv"
        if not file.exists():
            return []
        with file.open(newline="") as stream:
            return list(csv.DictReader(stream))

    def forget_training(self, phase: str, after_step: int) -> None:
        """Drop a phase's rows beyond a step: a resumed phase trains those steps again."""
        rows = self.read_training()
        kept = [row for row in rows if row["phase"] != phase or int(row["step"]) <= after_step]
        if len(kept) < len(rows):
            self._replace("training.csv", _table(TRAINING_COLUMNS, kept))

    def _replace(self, name: str, text: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f"{name}.{os.getpid()}.part"
        with temporary.open("w", newline="") as stream:
            stream.write(text)
        os.replace(temporary, self.path / name)


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    """CSV of these columns; what else the rows hold is left out."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
