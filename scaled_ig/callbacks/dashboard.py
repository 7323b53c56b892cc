"""What a run looks like while it trains: rates, seconds and pictures in Weights & Biases.

Letters: B views, C channels, h or H rows and w or W columns of pixels, F frames.
"""

from __future__ import annotations

import io
import math
from itertools import groupby

import imageio.v2 as imageio
import numpy as np
import torch
from lightning.pytorch import Callback
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.batch import ViewBatch, to_unit_range
from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.run_logger import RunLogger
from scaled_ig.cameras import orbit
from scaled_ig.scene_model import SceneModel, to_image

FRAMES_PER_SECOND = 12
ERROR_GAIN = 4  # errors of a good rendering are too dark to see


class Dashboard(Callback):
    """Logs to a :class:`RunLogger`, where there is one, what the losses and the metrics do not show.

    ``lr/*`` of every parameter group, ``train/seconds`` and ``train/seconds_per_step`` at the Trainer's logging steps;
    ``pictures/grid``, the same views every time, at even steps of a phase and at its end; ``pictures/orbit`` at its
    end. Views are ``val`` views, or training views where there are none, of the scenes of rank zero.

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

    # -- numbers -----------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer, pl_module) -> None:
        self._last = (trainer.global_step, self.clock.seconds)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        # Noted before the step: after it, the schedule has already set the rates of the next one.
        self._rates = {f"lr/{group['name']}": group["lr"] for group in pl_module.scene_adam().param_groups}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if not isinstance(trainer.logger, RunLogger):
            return
        step, every = trainer.global_step, trainer.log_every_n_steps
        if every and step % every == 0 and step > self._last[0] and trainer.is_global_zero:
            seconds = self.clock.seconds
            per_step = (seconds - self._last[1]) / (step - self._last[0])
            self._last = (step, seconds)
            values = {**self._rates, "train/seconds": seconds, "train/seconds_per_step": per_step}
            trainer.logger.log_metrics(values, step=step - 1)  # Lightning counts from 0: beside this step's losses
        if self.every_n_steps and step % self.every_n_steps == 0:
            self._show(trainer, pl_module)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def on_train_end(self, trainer, pl_module) -> None:
        if isinstance(trainer.logger, RunLogger):
            self._show(trainer, pl_module, at_end=True)

    @torch.no_grad()
    def _show(self, trainer, phase, at_end: bool = False) -> None:
        with self.clock.paused():
            phase.scene_adam().flush()  # on every rank, so that all ranks' rows go through the same arithmetic
            if not trainer.is_global_zero:
                return
            scene, logger, step = phase.scene, trainer.logger, trainer.global_step
            batch = self._views(trainer.datamodule, phase.stage).to(scene.background.device)
            rendered = phase.name != "autoencoder"
            scene.eval()
            if step != self._shown:  # the last step may have been one of the even ones
                logger.log_image("pictures/grid", [picture_grid(scene, batch, rendered)], step=step)
                self._shown = step
            if at_end and rendered:
                film = io.BytesIO()
                frames = list(orbit_frames(scene, batch, self.orbit_views))
                imageio.mimwrite(film, frames, format="gif", duration=1000 / FRAMES_PER_SECOND, loop=0)  # type: ignore[call-overload]
                film.seek(0)
                # As a finished file: W&B would need moviepy to make one of an array.
                logger.log_video("pictures/orbit", [film], step=step, format=["gif"])
            scene.train()

    def _views(self, data, stage: int) -> ViewBatch:
        """The fixed views: of this rank's first scenes, spread evenly over each scene's views."""
        keys = data.own_views(stage, "val") or data.own_views(stage, "train")
        scenes = [list(group) for _, group in groupby(keys, key=lambda key: key[0])][: self.num_scenes]
        num_views = self.num_views
        shown_keys = [key for keys in scenes for key in keys[:: max(1, len(keys) // num_views)][:num_views]]
        return next(data.batches(stage, shown_keys, len(shown_keys)))


def picture_grid(model: SceneModel, batch: ViewBatch, rendered: bool = True) -> NDArray[np.uint8]:
    """A row for each view, uint8 [B · H, columns · W, 3].

    Columns: ground truth, decoded rendering, its error × 4, rendered latent, the encoder's latent (first three
    channels of both), opacity, and nearness: white in front of the ball of radius 0.5, black behind it and where
    nothing is. Ground truth and reconstruction alone where there are no scenes yet.

    Args:
        model: The model.
        batch: B views with images.
        rendered: Whether there are scenes to render yet, or the autoencoder alone.
    """
    images = batch.pixels
    truth, encoded = to_unit_range(images), model.encode(images)
    if not rendered:
        return _tile([truth, to_unit_range(model.decode(encoded))])
    rendering, size = model.render(batch.cameras, batch.scene_index), model.latent_size
    latent = to_image(rendering.pixels, size)
    image = to_unit_range(model.decode(latent))
    distance = batch.cameras.camera_to_world[:, :3, 3].norm(dim=1)
    nearness = (distance[:, None] + 0.5 - rendering.depth).clamp(0, 1) * rendering.accumulation
    return _tile(
        [
            truth,
            image,
            ERROR_GAIN * (image - truth).abs(),
            _first_three(to_unit_range(latent)),
            _first_three(to_unit_range(encoded)),
            _first_three(to_image(rendering.accumulation[..., None], size)),
            _first_three(to_image(nearness[..., None], size)),
        ]
    )


def orbit_frames(model: SceneModel, batch: ViewBatch, num_views: int, chunk: int = 8) -> NDArray[np.uint8]:
    """A full turn around the first scene of a batch, at the height and distance of its views: uint8 [F, H, W, 3].

    Args:
        model: The model.
        batch: Views, at whose mean height and distance the camera goes around.
        num_views: F, number of pictures.
        chunk: Pictures rendered at once.
    """
    positions = batch.cameras.camera_to_world[:, :3, 3].double()
    distance = positions.norm(dim=1)
    elevation = (positions[:, 2] / distance).asin().mean()
    # Straight from above there is no upright picture.
    elevation = elevation.clamp(-0.49 * math.pi, 0.49 * math.pi)
    fx, fy = batch.cameras.intrinsics[0, :2].tolist()
    cameras = orbit(num_views, float(elevation), float(distance.mean()), focal=(fx, fy)).to(batch.scene_index.device)
    first = batch.scene_index[:1]
    parts = [cameras[start : start + chunk] for start in range(0, num_views, chunk)]
    images = torch.cat([model.render_image(part, first.expand(len(part))) for part in parts])
    return _to_bytes(to_unit_range(images).permute(0, 2, 3, 1))


def _first_three(images: Tensor) -> Tensor:
    """[B, C, h, w] → [B, 3, h, w]; channels come again where there are fewer."""
    return images[:, [channel % images.shape[1] for channel in range(3)]]


def _tile(columns: list[Tensor]) -> NDArray[np.uint8]:
    """Columns of images [B, 3, h, w] in [0, 1], enlarged to the size of the first → uint8 [B · H, columns · W, 3]."""
    size = columns[0].shape[2:]
    # Pixels of latents stay visible as such.
    tiles = torch.cat([F.interpolate(column, size=size, mode="nearest") for column in columns], 3)
    return _to_bytes(tiles.permute(0, 2, 3, 1).flatten(0, 1))


def _to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """[0, 1] → uint8 array of the same shape."""
    return (images.clamp(0, 1) * 255).round().byte().cpu().numpy()
