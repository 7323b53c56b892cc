"""Losses of a run as a table on disk."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.training_table import TrainingTable
from scaled_ig.distributed.agreement import on_first_rank


class MetricsLog(Callback):
    """Writes ``train/*`` to ``training.csv``, where a phase that goes on keeps the rows of its checkpoint alone.

    Args:
        table: Of the run.
        clock: Its training time.
        every_n_steps: Steps between rows.
    """

    def __init__(self, table: TrainingTable, clock: TrainingClock, every_n_steps: int = 20) -> None:
        self.table, self.clock, self.every_n_steps = table, clock, every_n_steps
        self._phase, self._is_first = "", False
        self._step = 0  # of the checkpoint
        self._rows: int | None = None  # of the phase by then; not known to earlier versions

    def on_load_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        self._step = checkpoint["global_step"]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.table.count(self._phase) if self._is_first else 0}  # the first rank's is saved

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rows = state["rows"]

    def on_fit_start(self, trainer, pl_module) -> None:
        """Before anything is measured, which is all that is left of a phase that was cut after its last step."""
        self._phase, self._is_first = pl_module.name, trainer.is_global_zero
        on_first_rank(self._forget)

    def _forget(self) -> None:
        if self._rows is None:
            self.table.forget(self._phase, self._step)
        else:
            self.table.keep_first(self._phase, self._rows)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        on_first_rank(self.table.sync)  # rows of steps that are saved outlive a loss of power

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if step % self.every_n_steps == 0:
            values = {
                name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")
            }
            on_first_rank(lambda: self.table.append(pl_module.name, step, self.clock.seconds, values))
