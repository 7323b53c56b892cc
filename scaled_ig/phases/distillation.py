"""Phase 1c: a small decoder learns to decode as the tuned one does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from scaled_ig.batch import ViewBatch
from scaled_ig.optim.schedules import Schedule, WarmUpCosine
from scaled_ig.phases.base import LearningRates, Phase, RunSettings, jitter
from scaled_ig.phases.losses import rgb_loss
from scaled_ig.randomness import CounterNoise
from scaled_ig.ranges import Weight, checked
from scaled_ig.scene_model import SceneModel


@checked
@dataclass(frozen=True)
class DistillationWeights:
    """λ of each loss.

    Args:
        decoder: Mean squared error to the full decoder's images.
        image: Mean squared error to the true images.
    """

    decoder: Weight = 1.0
    image: Weight = 0.1


class Distillation(Phase):
    """The small decoder alone, on rendered and encoded latents of stage 1's views; nothing else changes (method 5).

    Args:
        scene: The model; its autoencoder has a small decoder.
        settings: Of the run.
        learning_rates: ``small_decoder`` counts.
        schedule: Change of the rate over the phase.
        weights: Weights of the losses.

    Raises:
        UsageError: There is no small decoder.
    """

    name: ClassVar[str] = "distillation"
    number: ClassVar[int] = 5  # the last: noise of the phases that it stands between is as it was without it
    stage: ClassVar[int] = 1
    trains: ClassVar[tuple[str, ...]] = ("small_decoder",)

    def __init__(
        self,
        scene: SceneModel,
        settings: RunSettings = RunSettings(),  # noqa: B008
        learning_rates: LearningRates = LearningRates(),  # noqa: B008
        schedule: Schedule | None = None,
        weights: DistillationWeights = DistillationWeights(),
    ) -> None:
        super().__init__(scene, settings, learning_rates, schedule or WarmUpCosine())
        self.weights = weights
        scene.autoencoder.require_small_decoder()

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Start from the best linear map."""
        if self.global_step == 0:
            scene, small = self.scene, self.scene.autoencoder.require_small_decoder()
            views = self.trainer.datamodule.some_training_views(64)  # type: ignore[attr-defined]
            latents = [scene.encode(batch.pixels.to(self.device)) for batch in views]
            small.fit_linear(torch.cat(latents), torch.cat([scene.decode(part).clamp(-1, 1) for part in latents]))
            if self.trainer.world_size > 1:  # DDP has made the ranks equal before this
                for parameter in small.parameters():
                    dist.broadcast(parameter.data, 0)

    def terms(self, batch: ViewBatch, noise: CounterNoise) -> dict[str, tuple[float, Tensor]]:
        scene, images = self.scene, batch.pixels
        with torch.no_grad():
            rendered_latent = scene.render_latent(batch.cameras, batch.scene_index, jitter(self.scene, batch, noise))
            latents = torch.cat([rendered_latent, scene.encode(images)])
            decoded = scene.decode(latents).clamp(-1, 1)
        imitated = scene.decode(latents, "small").clamp(-1, 1)
        return {
            "decoder": (self.weights.decoder, rgb_loss(imitated, decoded)),
            "image": (self.weights.image, rgb_loss(imitated, torch.cat([images, images]))),
        }
