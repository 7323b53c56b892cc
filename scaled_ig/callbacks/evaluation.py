"""Quality while training, on views that are watched but not trained on."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback

from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.training_table import TrainingTable
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.metrics.images import Lpips


class Evaluation(Callback):
    """Measures ``val`` views at even steps of a phase and ``test`` views once, at its end.

    Args:
        table: Where the means go.
        clock: Training time, which stands still meanwhile.
        every_n_steps: Steps between measurements of ``val`` views; 0 for none.
        max_views: Most ``val`` views of a measurement, spread evenly over the scenes.
        lpips: The metric, where its weights are here.
    """

    def __init__(
        self,
        table: TrainingTable,
        clock: TrainingClock,
        every_n_steps: int = 0,
        max_views: int = 64,
        lpips: Lpips | None = None,
    ) -> None:
        self.table, self.clock, self.every_n_steps, self.max_views, self.lpips = (
            table,
            clock,
            every_n_steps,
            max_views,
            lpips,
        )
        self.scenes: list[dict[str, Any]] = []  # of the test views, once they are measured

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        # The first measurements come early, while much changes.
        early = self.every_n_steps and step in (
            self.every_n_steps // 8,
            self.every_n_steps // 4,
            self.every_n_steps // 2,
        )
        if step and self.every_n_steps and (early or step % self.every_n_steps == 0):
            self._measure(trainer, pl_module, "val", self.max_views)

    def on_train_end(self, trainer, pl_module) -> None:
        pl_module.finish()
        if self.every_n_steps and trainer.global_step % self.every_n_steps:
            self._measure(trainer, pl_module, "val", self.max_views)
        self.measure_test(trainer, pl_module)

    def measure_test(self, trainer, phase) -> None:
        """Measure the test views; collective."""
        self.scenes = self._measure(trainer, phase, "test")

    def measure_watched(self, trainer, phase) -> list[dict[str, Any]]:
        """Measure all ``val`` views: a record a scene; collective."""
        return self._measure(trainer, phase, "val")

    def _measure(self, trainer, phase, split: str, at_most: int | None = None) -> list[dict[str, Any]]:
        with self.clock.paused():
            if trainer.training and trainer.optimizers:
                phase.scene_adam().flush()
            data = trainer.datamodule
            keys = data.own_views(phase.stage, split, at_most)
            phase.scene.eval()
            records = evaluate(phase.scene, data.batches(phase.stage, keys), self.lpips, phase.name != "autoencoder")
            phase.scene.train()
            scenes = per_scene(records)
            if trainer.world_size > 1:  # a scene's views are all on one rank, and ranks are in the order of scenes
                parts: list[Any] = [None] * trainer.world_size
                dist.all_gather_object(parts, scenes)
                scenes = [scene for part in parts for scene in part]
            means = {f"{split}/{name}": value for name, value in over_scenes(scenes).items() if value is not None}
            if trainer.is_global_zero and scenes:
                self.table.append(phase.name, trainer.global_step, self.clock.seconds, means)
                if trainer.logger:
                    trainer.logger.log_metrics(means, step=trainer.global_step)
            return scenes
