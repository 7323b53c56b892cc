"""Quality while training, on views that are watched but not trained on."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback

from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.training_table import TrainingTable
from scaled_ig.distributed.agreement import on_first_rank
from scaled_ig.distributed.watch import Watch
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
        watch: What hears that the run shall stop: a measurement is then cut, and made when the run goes on.
    """

    def __init__(
        self,
        table: TrainingTable,
        clock: TrainingClock,
        every_n_steps: int = 0,
        max_views: int = 64,
        lpips: Lpips | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.table, self.clock, self.every_n_steps, self.max_views, self.lpips = (
            table,
            clock,
            every_n_steps,
            max_views,
            lpips,
        )
        self.watch = watch or Watch()
        self._is_due, self._watched_step = False, 0  # of the last measurement of val views
        self.scenes: list[dict[str, Any]] = []  # of the test views, once they are measured

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self._is_due:
            self._watch_quality(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        # The first measurements come early, while much changes.
        early = self.every_n_steps and step in (
            self.every_n_steps // 8,
            self.every_n_steps // 4,
            self.every_n_steps // 2,
        )
        if step and self.every_n_steps and (early or step % self.every_n_steps == 0):
            self._watch_quality(trainer, pl_module)

    def _watch_quality(self, trainer, phase) -> None:
        self._is_due = self._measure(trainer, phase, "val", self.max_views) is None
        if not self._is_due:
            self._watched_step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        return {"is_due": self._is_due, "watched_step": self._watched_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._is_due, self._watched_step = state["is_due"], state.get("watched_step", 0)  # of earlier versions

    def on_train_end(self, trainer, pl_module) -> None:
        pl_module.finish()
        self.conclude(trainer, pl_module)

    def conclude(self, trainer, phase) -> None:
        """Measure what is left to measure after the last step, the test views among it; collective."""
        if self._is_due or (self.every_n_steps and self._watched_step != trainer.global_step):
            self._watch_quality(trainer, phase)
        if not self._is_due:
            self.scenes = self._measure(trainer, phase, "test") or []

    def measure_watched(self, trainer, phase) -> list[dict[str, Any]]:
        """Measure all ``val`` views, of which training makes use: a record a scene; collective."""
        scenes = self._measure(trainer, phase, "val", can_be_cut=False)
        assert scenes is not None
        return scenes

    def _measure(
        self, trainer, phase, split: str, at_most: int | None = None, can_be_cut: bool = True
    ) -> list[dict[str, Any]] | None:
        """A record a scene; None where the run shall stop, for which all ranks go on to the end of their step."""
        with self.clock.paused():
            if trainer.training and trainer.optimizers:
                phase.scene_adam().flush()
            data = trainer.datamodule
            keys = data.own_views(phase.stage, split, at_most)
            phase.scene.eval()
            batches = data.batches(phase.stage, keys)
            batches = self.watch.until_asked(batches) if can_be_cut else batches
            records = evaluate(phase.scene, batches, self.lpips, phase.name != "autoencoder")
            phase.scene.train()
            if can_be_cut and self.watch.agree(trainer.strategy.root_device):
                return None
            scenes = per_scene(records)
            if trainer.world_size > 1:  # a scene's views are all on one rank, and ranks are in the order of scenes
                parts: list[Any] = [None] * trainer.world_size
                dist.all_gather_object(parts, scenes)
                scenes = [scene for part in parts for scene in part]
            means = {f"{split}/{name}": value for name, value in over_scenes(scenes).items() if value is not None}
            if scenes:
                seconds = self.clock.seconds
                on_first_rank(lambda: self.table.append(phase.name, trainer.global_step, seconds, means))
                if trainer.is_global_zero and trainer.logger:
                    trainer.logger.log_metrics(means, step=trainer.global_step)
            return scenes
