"""Losses of a run as a table on disk."""

from __future__ import annotations

from lightning.pytorch import Callback

from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.training_table import TrainingTable


class MetricsLog(Callback):
    """Writes ``train/*`` to ``training.csv``.

    Args:
        table: Of the run.
        clock: Its training time.
        every_n_steps: Steps between rows.
    """

    def __init__(self, table: TrainingTable, clock: TrainingClock, every_n_steps: int = 20) -> None:
        self.table, self.clock, self.every_n_steps = table, clock, every_n_steps

    def on_train_start(self, trainer, pl_module) -> None:
        if trainer.is_global_zero:  # a resumed phase writes again what came after its checkpoint
            self.table.forget(pl_module.name, trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if step % self.every_n_steps == 0 and trainer.is_global_zero:
            values = {
                name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")
            }
            self.table.append(pl_module.name, step, self.clock.seconds, values)
