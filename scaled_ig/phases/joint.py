"""Phase 1b: autoencoder, bases and stage 1's scenes together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scaled_ig.batch import ViewBatch
from scaled_ig.optim.schedules import MultiStep, Schedule
from scaled_ig.phases.base import LearningRates, Phase, RunSettings, jitter
from scaled_ig.phases.crops import Crops, CropSize
from scaled_ig.phases.losses import latent_loss, reconstruction_loss, relative_latent_loss, rgb_loss
from scaled_ig.randomness import CounterNoise
from scaled_ig.ranges import Steps, Weight, checked
from scaled_ig.scene_model import SceneModel


@checked
@dataclass(frozen=True)
class JointWeights:
    """λ of each loss.

    Args:
        latent: L_latent, which reaches encoder and planes. Small latents make it small: many steps shrink them.
        relative_latent: L_latent over the variance of the encoder's latents, which no scale of them makes smaller.
        rgb: L_RGB, which reaches decoder and planes.
        reconstruction: L_ae, which reaches encoder and decoder.
        total_variation: The planes' total variation.
    """

    latent: Weight = 1.0
    relative_latent: Weight = 0.0
    rgb: Weight = 1.0
    reconstruction: Weight = 0.1
    total_variation: Weight = 0.0


@checked
class Joint(Phase):
    """λ_latent L_latent + λ_RGB L_RGB + λ_ae L_ae on stage 1's scenes: makes the autoencoder 3D-aware (method 5).

    Args:
        scene: The model.
        settings: Of the run.
        learning_rates: Every part's.
        schedule: Change of the rates over the phase.
        weights: Weights of the losses.
        background_every: Steps after which the background is measured again, because the encoder has changed.
        crop_size: Pixels along the side of the part of each view that a step sees, at the object; all where it is None.
    """

    name: ClassVar[str] = "joint"
    number: ClassVar[int] = 2
    stage: ClassVar[int] = 1
    trains: ClassVar[tuple[str, ...]] = ("micro", "mixing", "bases", "head", "encoder", "decoder")

    def __init__(
        self,
        scene: SceneModel,
        settings: RunSettings = RunSettings(),  # noqa: B008
        learning_rates: LearningRates = LearningRates(micro=1e-4, head=1e-4),  # noqa: B008
        schedule: Schedule | None = None,
        weights: JointWeights = JointWeights(),
        background_every: Steps = 10,
        crop_size: CropSize = None,
    ) -> None:
        super().__init__(scene, settings, learning_rates, schedule or MultiStep())
        self.weights, self.background_every, self.crops = weights, background_every, Crops(crop_size, scene)

    @property
    def needs_masks(self) -> bool:
        return self.crops.needs_masks

    def terms(self, batch: ViewBatch, noise: CounterNoise) -> dict[str, tuple[float, Tensor]]:
        scene, weights = self.scene, self.weights
        if self.global_step % self.background_every == 0:
            scene.measure_background()
        scene, batch = self.crops(scene, batch, noise)
        images = batch.pixels
        latent = scene.encode(images)
        rendered_latent = scene.render_latent(batch.cameras, batch.scene_index, jitter(scene, batch, noise))
        decoded = scene.decode(torch.cat([rendered_latent, latent])).clamp(-1, 1)  # two decodes in one batch
        rendered_image, reconstruction = decoded.chunk(2)
        terms = {
            "latent": (weights.latent, latent_loss(rendered_latent, latent)),
            "rgb": (weights.rgb, rgb_loss(rendered_image, images)),
            "reconstruction": (weights.reconstruction, reconstruction_loss(reconstruction, images)),
        }
        if weights.relative_latent:
            terms["relative_latent"] = (weights.relative_latent, relative_latent_loss(rendered_latent, latent))
        if weights.total_variation:
            terms["total_variation"] = (weights.total_variation, self.smoothness(batch))
        return terms

    def finish(self) -> None:
        super().finish()
        self.scene.measure_background()
