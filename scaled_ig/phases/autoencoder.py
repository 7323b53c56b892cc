"""Before the papers' phases: train an autoencoder from nothing, where no pretrained one is used."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.batch import ViewBatch
from scaled_ig.errors import UsageError
from scaled_ig.optim.schedules import Schedule, WarmUpCosine
from scaled_ig.phases.base import LearningRates, Phase, RunSettings
from scaled_ig.phases.crops import Crops, CropSize
from scaled_ig.phases.losses import reconstruction_loss
from scaled_ig.randomness import CounterNoise, Stream
from scaled_ig.scene_model import SceneModel


class AutoencoderTraining(Phase):
    """L_ae alone, on stage 1's training views; then the range of the latents and the background are measured.

    Args:
        scene: The model; its autoencoder is a :class:`SmallAutoencoder`.
        settings: Of the run.
        learning_rates: ``encoder`` and ``decoder`` count.
        schedule: Change of the rates over the phase.
        augment: Mirror images and permute their colour channels, so that few scenes serve.
        crop_size: Pixels along the side of the part of each view that a step sees, at the object; all where it is None.
    """

    name: ClassVar[str] = "autoencoder"
    number: ClassVar[int] = 0
    stage: ClassVar[int] = 1
    trains: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    def __init__(
        self,
        scene: SceneModel,
        settings: RunSettings = RunSettings(),  # noqa: B008
        learning_rates: LearningRates = LearningRates(encoder=1.5e-3, decoder=1.5e-3),  # noqa: B008
        schedule: Schedule | None = None,
        augment: bool = True,
        crop_size: CropSize = None,
    ) -> None:
        super().__init__(scene, settings, learning_rates, schedule or WarmUpCosine())
        self.augment, self.crops = augment, Crops(crop_size, scene)
        self._autoencoder()

    def on_train_start(self) -> None:
        """Start from the principal components of patches."""
        if self.global_step == 0:
            self._autoencoder().start_from_pca(self._training_images(512))
            if self.trainer.world_size > 1:  # DDP has made the ranks equal before this
                for parameter in self.scene.autoencoder.parameters():
                    dist.broadcast(parameter.data, 0)

    def finish(self) -> None:
        super().finish()
        with torch.no_grad():
            latents = [self.scene.autoencoder.encode(part) for part in self._training_images(512).split(32)]
            self._autoencoder().measure_range(torch.cat(latents))
            self.scene.measure_background()

    @property
    def needs_masks(self) -> bool:
        return self.crops.needs_masks

    def terms(self, batch: ViewBatch, noise: CounterNoise) -> dict[str, tuple[float, Tensor]]:
        _, batch = self.crops(self.scene, batch, noise)
        images = self._augment(batch, noise) if self.augment else batch.pixels
        autoencoder = self.scene.autoencoder
        reconstruction = autoencoder.decode(autoencoder.encode(images))
        return {"reconstruction": (1.0, reconstruction_loss(reconstruction, images))}

    def _autoencoder(self) -> SmallAutoencoder:
        autoencoder = self.scene.autoencoder
        if not isinstance(autoencoder, SmallAutoencoder):
            raise UsageError(
                f"phases.autoencoder trains a SmallAutoencoder, not a {type(autoencoder).__name__}: set it to null"
            )
        return autoencoder

    def _training_images(self, count: int) -> Tensor:
        batches = self.trainer.datamodule.some_training_views(count)  # type: ignore[attr-defined]
        return torch.cat([batch.pixels for batch in batches]).to(self.device)

    @staticmethod
    def _augment(batch: ViewBatch, noise: CounterNoise) -> Tensor:
        images = batch.pixels
        u = noise.uniform(batch.view_ids, 4, Stream.SAMPLES)
        images = torch.where(u[:, 0, None, None, None] < 0.5, images.flip(-1), images)
        order = u[:, 1:].argsort(1)[..., None, None].expand(-1, -1, *images.shape[2:])
        return images.gather(1, order)
