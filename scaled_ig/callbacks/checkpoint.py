"""Checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, renames; reads without running code from the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=weights_only is not False)


def keep_last(folder: Path, every_n_steps: int | None) -> ModelCheckpoint:
    """Writes ``last.ckpt`` of a phase, from which it can be resumed: every so many steps, or else after every epoch."""
    return ModelCheckpoint(
        folder,
        filename="last",
        enable_version_counter=False,
        every_n_train_steps=every_n_steps,
        every_n_epochs=None if every_n_steps else 1,
        save_on_train_epoch_end=None if every_n_steps else True,
    )
