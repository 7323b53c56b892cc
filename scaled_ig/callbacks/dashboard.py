"""What a run looks like while it trains, and what each phase came to: rates, seconds, pictures, scenes."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from lightning.pytorch import Callback

from scaled_ig.batch import ViewBatch, to_unit_range
from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.pictures import COLUMNS, RECONSTRUCTION, orbit_frames, picture_grid, to_bytes
from scaled_ig.callbacks.run_log import RunLog

TABLE_SCENES = 32
"""Most scenes in a table, from the worst to the best."""


class Dashboard(Callback):
    """Tells the loggers of a run what the losses and the metrics do not show.

    ``lr/*`` of every parameter group, ``train/seconds_per_step`` at the Trainer's logging steps; ``pictures/grid``, the
    same views every time, at even steps of a phase and at its end. These are ``val`` views, or training views where
    there are none, of the scenes of rank zero. What a phase came to is told by :meth:`conclude`.

    Args:
        clock: Training time, which stands still meanwhile.
        every_n_steps: Steps between grids; 0 for one at the end alone.
        num_scenes: Most scenes in the grid.
        num_views: Most views of each scene.
        orbit_views: Pictures of the orbit around the first scene.
    """

    def __init__(
        self,
        clock: TrainingClock,
        every_n_steps: int = 0,
        num_scenes: int = 4,
        num_views: int = 2,
        orbit_views: int = 24,
    ) -> None:
        self.clock, self.every_n_steps = clock, every_n_steps
        self.num_scenes, self.num_views, self.orbit_views = num_scenes, num_views, orbit_views
        self._shown: int | None = None  # step of the last grid
        self._rates: dict[str, float] = {}
        self._last = (0, 0.0)  # step and seconds when they were last logged

    # -- while it trains ---------------------------------------------------------------------------------------------

    def on_train_start(self, trainer, pl_module) -> None:
        self._last = (trainer.global_step, self.clock.seconds)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        # Noted before the step: after it, the schedule has already set the rates of the next one.
        self._rates = {f"lr/{group['name']}": group["lr"] for group in pl_module.scene_adam().param_groups}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.logger is None:
            return
        step, every = trainer.global_step, trainer.log_every_n_steps
        if every and step % every == 0 and step > self._last[0] and trainer.is_global_zero:
            seconds = self.clock.seconds
            per_step = (seconds - self._last[1]) / (step - self._last[0])
            self._last = (step, seconds)
            values = {**self._rates, "train/seconds_per_step": per_step}
            trainer.logger.log_metrics(values, step=step - 1)  # Lightning counts from 0: beside this step's losses
        if self.every_n_steps and step % self.every_n_steps == 0:
            with self.clock.paused():
                pl_module.scene_adam().flush()  # on every rank, so that all ranks' rows go through the same arithmetic
                if trainer.is_global_zero:
                    self._show_grid(trainer, pl_module)

    @torch.no_grad()
    def _show_grid(self, trainer, phase) -> None:
        if trainer.global_step == self._shown:  # the last step may have been one of the even ones
            return
        self._shown = trainer.global_step
        batch = self._views(trainer.datamodule, phase.stage).to(phase.scene.background.device)
        rendered = phase.name != "autoencoder"
        phase.scene.eval()
        picture = picture_grid(phase.scene, batch, rendered)
        phase.scene.train()
        names = ", ".join(dict.fromkeys(_ids(trainer.datamodule, phase.stage, batch)))
        caption = f"{phase.name}, {COLUMNS if rendered else RECONSTRUCTION}; rows: {names}"
        trainer.logger.log_picture("pictures/grid", picture, caption, trainer.global_step)

    def _views(self, data, stage: int) -> ViewBatch:
        """The fixed views: of this rank's first scenes, spread evenly over each scene's views."""
        keys = data.own_views(stage, "val") or data.own_views(stage, "train")
        scenes = [list(group) for _, group in groupby(keys, key=lambda key: key[0])][: self.num_scenes]
        num_views = self.num_views
        shown_keys = [key for keys in scenes for key in keys[:: max(1, len(keys) // num_views)][:num_views]]
        return next(data.batches(stage, shown_keys, len(shown_keys)))

    # -- at the end of a phase ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def conclude(self, trainer, phase, scenes: list[dict[str, Any]], numbers: dict[str, float]) -> None:
        """Tell what a phase came to; on the first rank, once its scenes are measured.

        ``pictures/orbit`` around the first scene; ``scenes/stage<N>``: some of rank zero's scenes from the worst to the
        best, each with the first of its test views; ``scenes/psnr``: a histogram of all.

        Args:
            trainer: Of the phase.
            phase: Finished, with its scenes in memory.
            scenes: Records of :func:`scaled_ig.metrics.evaluation.per_scene` on the test views of all ranks.
            numbers: What else came out, by key.
        """
        log: RunLog | None = trainer.logger
        if log is None:
            return
        step, data = trainer.global_step, trainer.datamodule
        self._show_grid(trainer, phase)
        log.log_metrics(numbers, step)
        if phase.name == "autoencoder":
            return
        phase.scene.eval()
        batch = self._views(data, phase.stage).to(phase.scene.background.device)
        caption = f"{phase.name}: around {_ids(data, phase.stage, batch)[0]}"
        log.log_film("pictures/orbit", orbit_frames(phase.scene, batch, self.orbit_views), caption, step)
        log.log_histogram("scenes/psnr", [scene["psnr"] for scene in scenes], step)
        log.log_table(f"scenes/stage{phase.stage}", scene_rows(phase.scene, data, phase.stage, scenes), step)
        phase.scene.train()
        log.save()


def scene_rows(model, data, stage: int, scenes: list[dict[str, Any]], at_most: int = TABLE_SCENES) -> list[dict]:
    """Some of this rank's scenes, spread evenly from the worst to the best: numbers, a test view, its rendering.

    Args:
        model: Holds the scenes.
        data: Their views.
        stage: 1 or 2.
        scenes: Records of all scenes.
        at_most: Most rows.
    """
    of_rank = data.own_scenes(stage)
    ranked = sorted((scene for scene in scenes if scene["scene"] in of_rank), key=lambda scene: scene["psnr"])
    shown = ranked[:: -(-len(ranked) // at_most)]
    views, pack_scenes, ids = data.split(stage, "test"), data.scenes(stage), data.scene_ids(stage)
    keys = [(record["scene"], views[record["scene"]][0]) for record in shown]
    rows: list[dict[str, Any]] = []
    for batch in data.batches(stage, keys, batch_size=8):
        batch = batch.to(model.background.device)
        pairs = [to_unit_range(batch.pixels), to_unit_range(model.render_image(batch.cameras, batch.scene_index))]
        truths, renderings = (to_bytes(images.permute(0, 2, 3, 1)) for images in pairs)
        for truth, rendering in zip(truths, renderings, strict=True):
            record = shown[len(rows)]
            scene = record["scene"]
            row = {"scene": ids[scene], "category": data.index.categories[pack_scenes[scene]]}
            row |= {"PSNR": record["psnr"], "SSIM": record["ssim"], "LPIPS": record["lpips"]}
            rows.append(row | {"view": views[scene][0], "truth": truth, "rendering": rendering})
    return rows


def _ids(data, stage: int, batch: ViewBatch) -> list[str]:
    """Id of the scene of each view."""
    ids = data.scene_ids(stage)
    return [ids[scene] for scene in batch.scene_index.tolist()]
