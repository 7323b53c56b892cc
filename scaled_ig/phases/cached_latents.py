"""Latents that were encoded once, and L_latent against them.

Letters: B views, R rays of each, C channels, h rows and w columns of latents, H and W of images.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.batch import ViewBatch
from scaled_ig.distributed.agreement import together
from scaled_ig.phases.base import jitter
from scaled_ig.phases.hulls import LATENT_REACH, draw_near
from scaled_ig.phases.latent_cache import LatentCache, Precision
from scaled_ig.randomness import CounterNoise, Stream
from scaled_ig.rendering.renderer import Opacity
from scaled_ig.scene_model import SceneModel


class CachedLatents:
    """The target of the phases whose encoder is frozen.

    Args:
        rays_per_view: Latent pixels of a view that a step looks at, drawn at random; all where it is None. Random rays
            make a strong RGB baseline: whole images are what the papers train on.
        precision: What cached latents are kept in.
        opacity_weight: Of the error of opacity against masks.
    """

    def __init__(
        self, rays_per_view: int | None = None, precision: Precision = "float32", opacity_weight: float = 0.0
    ) -> None:
        self.rays_per_view, self.precision, self.opacity_weight = rays_per_view, precision, opacity_weight
        self._cache: LatentCache | None = None

    @staticmethod
    def can_cache(model: SceneModel) -> bool:
        """Whether latents are worth keeping: encoding gives the same ones again, and they are not just the pixels."""
        return model.autoencoder.is_deterministic and not model.is_rgb

    def needs_masks(self, model: SceneModel) -> bool:
        """Whether pixels are drawn near the object, or opacity is compared with its silhouette."""
        return bool(self.opacity_weight) or self._draws_near(model)

    def _draws_near(self, model: SceneModel) -> bool:
        return model.is_rgb and self.rays_per_view is not None and model.samples_hulls

    def encode(self, model: SceneModel, data: Any, stage: int, run: Path) -> None:
        """Encode all training views of this rank's scenes, or find them encoded in the run's ``latents``.

        Args:
            model: What encodes.
            data: The data module.
            stage: Whose scenes.
            run: Folder of the run.
        """
        if not self.can_cache(model):
            return
        self._cache = LatentCache(run / "latents" / f"stage{stage}", model, self.precision, partial(print, flush=True))
        read_views = partial(data.batches, stage, title="encoding")
        shards, digests = data.own_training_shards(), data.scene_digests(stage)
        together(partial(self._cache.fill, shards, digests, read_views))

    def term(self, model: SceneModel, batch: ViewBatch, noise: CounterNoise) -> Tensor:
        """L_latent of a batch, by one sweep for value and gradients where the kernel can."""
        batch = _trusted(model, batch)
        pixels = self._pixels(model, batch, noise)
        target = batch.pixels_at(pixels) if model.is_rgb and pixels is not None else self._latent(model, batch, pixels)
        opacity = self._opacity(model, batch, pixels)
        return model.rendering_loss(
            batch.cameras, batch.scene_index, target, jitter(model, batch, noise, pixels), pixels, opacity
        )

    def _opacity(self, model: SceneModel, batch: ViewBatch, pixels: Tensor | None) -> Opacity | None:
        """What the masks say of the rays of a batch; of views without masks nothing."""
        if not self.opacity_weight or batch.masks is None:
            return None
        assert batch.masked is not None
        coverage = latent_coverage(batch.masks, model.autoencoder.downsampling).flatten(1)
        coverage = torch.where(batch.masked[:, None], coverage, -1)
        return Opacity(coverage if pixels is None else coverage.gather(1, pixels), self.opacity_weight)

    def latents(self, model: SceneModel, batch: ViewBatch) -> Tensor:
        """The encoder's latents [B, C, h, w] of a batch."""
        return model.encode(batch.pixels) if self._cache is None else self._cache(batch)

    def _pixels(self, model: SceneModel, batch: ViewBatch, noise: CounterNoise) -> Tensor | None:
        """[B, R] latent pixels that this step looks at; all where it is None."""
        if self.rays_per_view is None:
            return None
        lots = noise.uniform(batch.view_ids, self.rays_per_view, Stream.RAYS)
        if batch.masks is None or not self._draws_near(model):
            return (lots * math.prod(model.latent_size)).long()
        return draw_near(batch, lots)

    def _latent(self, model: SceneModel, batch: ViewBatch, pixels: Tensor | None) -> Tensor:
        """[B, R, C] latent pixels, all or some."""
        latent = self.latents(model, batch).flatten(2)
        if pixels is not None:
            latent = latent.gather(2, pixels[:, None].expand(-1, latent.shape[1], -1))
        return latent.transpose(1, 2)


def latent_coverage(masks: Tensor, downsampling: int) -> Tensor:
    """Part of each latent pixel that the object covers, where masks tell it.

    A latent pixel carries something of what lies ``LATENT_REACH`` around it, so that masks tell of those alone around
    which all is object or all is background.

    Args:
        masks: [B, H, W] uint8 coverage.
        downsampling: Pixels along the side of a latent pixel; 1 where scenes are trained on pixels.

    Returns:
        [B, h, w] in [0, 1]; −1 where nothing is known.
    """
    coverage = masks[:, None] / 255
    if downsampling == 1:
        return coverage[:, 0]
    around = (2 * LATENT_REACH + 1) * downsampling, downsampling, LATENT_REACH * downsampling
    most, least = F.max_pool2d(coverage, *around), -F.max_pool2d(-coverage, *around)
    return torch.where((least == 1) | (most == 0), most, -1.0)[:, 0]


def _trusted(model: SceneModel, batch: ViewBatch) -> ViewBatch:
    """The batch without the masks of scenes whose hull was refused: they contradict each other."""
    hulls = model.representation.hulls(batch.scene_index)
    if hulls is None or batch.masked is None:
        return batch
    return replace(batch, masked=batch.masked & (hulls.bits != 255).flatten(1).any(1))
