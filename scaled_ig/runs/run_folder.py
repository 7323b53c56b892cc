"""The files of a run: names that others rely on, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaled_ig.callbacks.training_table import TrainingTable, csv_text
from scaled_ig.documents import DocumentError, parse_json, parse_yaml
from scaled_ig.errors import UsageError
from scaled_ig.files import alone_in, remove_drafts, write_json, write_whole

LOCK_FILE = "run.lock"
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
    "stage1_autoencoder_psnr",
    "nearest_view_psnr",
)


class RunFolder:
    """A run's folder.

    Args:
        path: Made where it is missing, when something is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def alone(self, way_out: str) -> Iterator[None]:
        """Keep others from writing here; what those that were killed have left unfinished is removed.

        The bank, which scenes may be removed from meanwhile, has a lock of its own.

        Args:
            way_out: What to do where another process writes.

        Raises:
            UsageError: Another process writes.
            OSError: It cannot be written.
        """
        with alone_in(self.path, LOCK_FILE, "written", way_out):
            remove_drafts(self.path, besides=self.bank)
            yield

    def checkpoint(self, phase: str, name: str = "final") -> Path:
        """``checkpoints/<phase>/{last,final}.ckpt``."""
        return self.path / "checkpoints" / phase / f"{name}.ckpt"

    @property
    def bank(self) -> Path:
        """Folder of the scene bank."""
        return self.path / "bank"

    @property
    def training(self) -> TrainingTable:
        """``training.csv``."""
        return TrainingTable(self.path / "training.csv")

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; empty where there is none.

        Raises:
            UsageError: It is damaged.
        """
        file = self.path / name
        try:
            content = parse_json(file.read_bytes()) if file.exists() else {}
        except DocumentError as error:
            raise UsageError(f"{file} is damaged ({error}): remove it, then scaled-ig test measures again") from None
        if not isinstance(content, dict):
            raise UsageError(f"{file} is damaged: it holds a {type(content).__name__}, not names with values")
        return content

    def read_config(self) -> dict[str, Any]:
        """Content of ``config.yaml``.

        Raises:
            UsageError: There is none, or it is damaged.
        """
        file = self.path / "config.yaml"
        try:
            config = parse_yaml(file.read_text())
        except FileNotFoundError:
            raise UsageError(f"{self.path} is no run: give the folder of a run of scaled-ig fit") from None
        except (OSError, UnicodeDecodeError, DocumentError) as error:
            raise UsageError(f"{file} cannot be read ({error}): give the folder of a run of scaled-ig fit") from None
        parts = [config.get("data"), config.get("phases")] if isinstance(config, dict) else [config]
        if not all(isinstance(part or {}, dict) for part in parts):
            raise UsageError(f"{file} is no configuration: give the folder of a run of scaled-ig fit")
        return config

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file of the run."""
        write_json(self.path / name, content)

    def append_lines(self, name: str, lines: list[str]) -> None:
        """Add lines to a text file of the run, made where it is missing."""
        file = self.path / name
        before = file.read_text() if file.exists() else ""
        write_whole(file, before + "".join(f"{line}\n" for line in lines))

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
                split_rows = [row | {"scene": row["id"]} for row in metrics["scenes"] if f"s{row['stage']}" == split]
                split_rows.append(means | {"scene": "mean"})
                split_rows.append({column: means.get(f"{column}_std") for column in QUALITY_COLUMNS} | {"scene": "std"})
                rows += [row | {"split": split} for row in split_rows]
        self.write_json(f"{name}.json", metrics)
        write_whole(self.path / f"{name}.csv", csv_text(QUALITY_COLUMNS, rows))
