"""Phase 2b: RGB alignment of stage 2."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from scaled_ig.autoencoders import DecoderChoice
from scaled_ig.batch import ViewBatch
from scaled_ig.errors import UsageError
from scaled_ig.optim.schedules import Exponential, Schedule
from scaled_ig.phases.base import LearningRates, Phase, RunSettings, jitter
from scaled_ig.phases.cached_latents import CachedLatents
from scaled_ig.phases.crops import Crops, CropSize
from scaled_ig.phases.losses import latent_loss, rgb_loss
from scaled_ig.randomness import CounterNoise
from scaled_ig.ranges import PartBelowAll, checked
from scaled_ig.scene_model import SceneModel


@checked
class RgbAlignment(Phase):
    """L_RGB on stage 2's scenes: scenes and decoder are aligned with the images (method 5).

    Without a rate for the decoder, or with the small one, gradients go through it to the scenes alone: Decode-Scene.
    With a weight t of the latents the loss is (1 - t) L_RGB + t L_latent: Encode-Decode-Scene (the predecessor's §3.2).

    The encoder stays frozen, as in the papers, or follows: it learns to give what scenes render, which nothing else
    feels. A frozen one gives latents that the aligned decoder does not know, and later scenes are supervised by them.

    Args:
        scene: The model.
        settings: Of the run.
        learning_rates: ``encoder`` counts where it follows.
        schedule: Change of the rates over the phase.
        decoder: What renderings are decoded with; the small one is not trained, nor is then the full one.
        latent_weight: t in [0, 1); for the latents alone, train latent supervision and no alignment.
        crop_size: Pixels along the side of the part of each view that a step sees, at the object; all where it is None.
        encoder_follows: Whether the encoder follows what scenes render, at its rate. Gradients that are clipped by
            their norm over all parts are clipped with the encoder's.

    Raises:
        UsageError: There is no small decoder; or an encoder that follows has a weight of its latents.
    """

    name: ClassVar[str] = "rgb_alignment"
    number: ClassVar[int] = 4
    stage: ClassVar[int] = 2
    trains: ClassVar[tuple[str, ...]] = ("micro", "mixing", "bases", "head", "decoder")

    def __init__(
        self,
        scene: SceneModel,
        settings: RunSettings = RunSettings(),  # noqa: B008
        learning_rates: LearningRates = LearningRates(micro=1e-3, head=1e-3),  # noqa: B008
        schedule: Schedule | None = None,
        decoder: DecoderChoice = "full",
        latent_weight: PartBelowAll = 0.0,
        crop_size: CropSize = None,
        encoder_follows: bool = False,
    ) -> None:
        super().__init__(scene, settings, learning_rates, schedule or Exponential())
        self.decoder, self.latent_weight, self.target = decoder, latent_weight, CachedLatents()
        self.crops, self.encoder_follows = Crops(crop_size, scene), encoder_follows
        if encoder_follows and latent_weight:
            raise UsageError(
                f"encoder_follows with latent_weight {latent_weight:g}: scenes and encoder would follow each other; "
                "give one of them"
            )
        if decoder == "small":
            scene.autoencoder.require_small_decoder()

    @property
    def trained(self) -> tuple[str, ...]:
        parts = tuple(name for name in super().trained if name != "decoder" or self.decoder == "full")
        follows = self.encoder_follows and self.learning_rates.encoder and not self.settings.shared_frozen
        return (*parts, "encoder") if follows else parts

    @property
    def needs_masks(self) -> bool:
        return self.crops.needs_masks

    def on_train_start(self) -> None:
        super().on_train_start()
        small = self.scene.autoencoder.small_decoder
        if self.decoder == "small" and small is not None and not small.fitted:
            raise UsageError(
                "the small decoder has learned nothing yet: train stage 1 with the distillation phase "
                "(experiments/presets/small_decoder.yaml), or give rgb_alignment decoder: full"
            )
        if self.latent_weight and not self.settings.shared_frozen:
            self.scene.measure_background()
        if self.latent_weight and not self.crops.needs_masks:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.target.encode(self.scene, data, self.stage, Path(self.trainer.default_root_dir))

    def terms(self, batch: ViewBatch, noise: CounterNoise) -> dict[str, tuple[float, Tensor]]:
        scene, batch = self.crops(self.scene, batch, noise)
        rendered_latent = scene.render_latent(batch.cameras, batch.scene_index, jitter(scene, batch, noise))
        rendered_image = scene.decode(rendered_latent, self.decoder).clamp(-1, 1)
        terms = {"rgb": (1 - self.latent_weight, rgb_loss(rendered_image, batch.pixels))}
        if self.latent_weight:
            latent = self._latent(scene, batch)
            terms["latent"] = (self.latent_weight, latent_loss(rendered_latent, latent))
        if "encoder" in self.trained:
            terms["encoder"] = (1.0, latent_loss(rendered_latent.detach(), scene.encode(batch.pixels)))
        return terms

    def _latent(self, scene: SceneModel, batch: ViewBatch) -> Tensor:
        """The encoder's latents of whole views, which are kept, or of parts, which are other ones in every step."""
        if not self.crops.needs_masks:
            return self.target.latents(scene, batch)
        with torch.no_grad():
            return scene.encode(batch.pixels)
