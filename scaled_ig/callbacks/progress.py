"""One bar a phase, with a rate and an end."""

from __future__ import annotations

from lightning.pytorch.callbacks import ProgressBar

from scaled_ig.progress import Progress


class PhaseProgress(ProgressBar):
    """Optimiser steps of a phase, whatever its epochs, and the present loss.

    Args:
        refresh_every: Steps between updates of the loss.
    """

    def __init__(self, refresh_every: int = 10) -> None:
        super().__init__()
        self.refresh_every = refresh_every
        self._bar: Progress | None = None

    def on_train_start(self, trainer, pl_module) -> None:
        total = trainer.max_steps
        if total < 0:
            total = trainer.max_epochs * trainer.datamodule.steps_per_epoch()
        disabled = not trainer.is_global_zero
        self._bar = Progress(
            total=total, initial=trainer.global_step, desc=pl_module.name, unit="step", disable=disabled
        )

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        assert self._bar is not None
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % self.refresh_every == 0:
            self._bar.set_postfix(loss=f"{float(trainer.callback_metrics['train/total']):.4f}", refresh=False)

    def on_train_end(self, trainer, pl_module) -> None:
        assert self._bar is not None
        self._bar.close()

    def disable(self) -> None:
        if self._bar is not None:
            self._bar.disable = True
