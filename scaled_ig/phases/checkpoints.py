"""Checkpoints that are there whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from scaled_ig.distributed.agreement import together
from scaled_ig.errors import UsageError
from scaled_ig.files import replacing
from scaled_ig.phases.saved_rows import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, renames; reads without running code from the file.

    Only the first rank writes, and the others wait for it: what goes wrong is kept until :meth:`settle`, where all of
    them hear of it. Folders of rows that belong to no checkpoint any more (:mod:`scaled_ig.phases.saved_rows`), and
    what a process that was killed has left unfinished, are removed.
    """

    _mistake: UsageError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        try:
            for draft in target.parent.glob(f"{target.name}.*.part"):
                draft.unlink()
            with replacing(target) as draft:
                torch.save(checkpoint, draft)
            _forget_rows(target.parent)
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            self._mistake = UsageError(f"{target} cannot be written ({reason}): free space, then --resume true")

    def settle(self) -> None:
        """Say on all ranks what went wrong on the first. Collective.

        Raises:
            UsageError: A checkpoint could not be written since the last call.
        """
        mistake, self._mistake = self._mistake, None

        def tell() -> None:
            if mistake is not None:
                raise mistake

        together(tell)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        return read_checkpoint(Path(path))


def _forget_rows(folder: Path) -> None:
    """Remove folders of rows that no checkpoint names; none, where a checkpoint cannot be read."""
    found = list(folder.glob("rows-*"))
    if not found:
        return
    try:
        named = {read_checkpoint(file).get("scaled_ig", {}).get("rows") for file in folder.glob("*.ckpt")}
    except UsageError:
        return
    for rows in found:
        if rows.name not in named:
            shutil.rmtree(rows)


def save(trainer: Trainer, path: Path) -> None:
    """Write a checkpoint now. All ranks call it.

    Args:
        trainer: Of the phase; its plugin writes.
        path: The checkpoint.

    Raises:
        UsageError: It could not be written.
    """
    trainer.save_checkpoint(path, weights_only=False)
    _settle(trainer)


def _settle(trainer: Trainer) -> None:
    files = trainer.strategy.checkpoint_io
    assert isinstance(files, AtomicCheckpointIO)
    files.settle()


class KeepLast(ModelCheckpoint):
    """Writes ``last.ckpt`` of a phase, from which it can be resumed.

    Args:
        folder: Of the phase's checkpoints.
        every_n_steps: Steps between two of them; after every epoch where it is None.
    """

    def __init__(self, folder: Path, every_n_steps: int | None) -> None:
        super().__init__(
            folder,
            filename="last",
            enable_version_counter=False,
            every_n_train_steps=every_n_steps,
            every_n_epochs=None if every_n_steps else 1,
            save_on_train_epoch_end=None if every_n_steps else True,
        )
        self._saved = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._settle(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._settle(trainer)

    def _settle(self, trainer: Trainer) -> None:
        if self._saved:
            self._saved = False
            _settle(trainer)
