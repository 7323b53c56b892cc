"""Latents that were encoded once, and L_latent against them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from scaled_ig.agreement import together
from scaled_ig.batch import ViewBatch
from scaled_ig.latent_cache import LatentCache, Precision
from scaled_ig.phases.base import Phase
from scaled_ig.randomness import CounterNoise
from scaled_ig.scene_model import SceneModel


class CachedLatents:
    """The target of the phases whose encoder is frozen.

    Args:
        rays_per_view: Latent pixels of a view that a step looks at, drawn at random; all where it is None. Random rays
            make a strong RGB baseline: whole images are what the papers train on.
        precision: What cached latents are kept in.
    """

    def __init__(self, rays_per_view: int | None = None, precision: Precision = "float32") -> None:
        self.rays_per_view, self.precision = rays_per_view, precision
        self._cache: LatentCache | None = None

    @staticmethod
    def can_cache(scene: SceneModel) -> bool:
        """Whether latents are worth keeping: encoding gives the same ones again, and they are not just the pixels."""
        return scene.autoencoder.is_deterministic and not scene.is_rgb

    def encode(self, phase: Phase) -> None:
        """Encode all training views of this rank's scenes, or find them encoded in the run's ``latents``."""
        scene, trainer = phase.scene, phase.trainer
        if not phase.shared_frozen:  # it goes with an encoder that is frozen for good
            scene.measure_background()
        if not self.can_cache(scene):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        folder = Path(trainer.default_root_dir) / "latents" / f"stage{phase.stage}"
        self._cache = LatentCache(folder, scene, self.precision, partial(print, flush=True))
        read = partial(data.batches, phase.stage, title="encoding")
        shards, digests = data.own_training_shards(), data.scene_digests(phase.stage)
        together(partial(self._cache.fill, shards, digests, read))

    def term(self, phase: Phase, batch: ViewBatch, noise: CounterNoise) -> Tensor:
        """L_latent of a batch, by one sweep for value and gradients where the kernel can."""
        scene, pixels = phase.scene, self._pixels(phase.scene, batch, noise)
        target = batch.pixels_at(pixels) if scene.is_rgb and pixels is not None else self._latent(scene, batch, pixels)
        return scene.rendering_loss(
            batch.cameras, batch.scene_index, target, phase.jitter(batch, noise, pixels), pixels
        )

    def latents(self, scene: SceneModel, batch: ViewBatch) -> Tensor:
        """The encoder's latents [B, C, h, w] of a batch."""
        return scene.encode(batch.pixels) if self._cache is None else self._cache(batch)

    def _pixels(self, scene: SceneModel, batch: ViewBatch, noise: CounterNoise) -> Tensor | None:
        """[B, R] latent pixels that this step looks at; all where it is None."""
        if self.rays_per_view is None:
            return None
        ids = (batch.scene_index << 32) | batch.view_index
        return (noise.uniform(ids, self.rays_per_view, stream=7) * scene.latent_resolution**2).long()

    def _latent(self, scene: SceneModel, batch: ViewBatch, pixels: Tensor | None) -> Tensor:
        """[B, R, C] latent pixels, all or some."""
        latent = self.latents(scene, batch).flatten(2)
        if pixels is not None:
            latent = latent.gather(2, pixels[:, None].expand(-1, latent.shape[1], -1))
        return latent.transpose(1, 2)
