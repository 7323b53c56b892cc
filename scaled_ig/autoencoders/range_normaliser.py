"""The normaliser of autoencoders whose latents have no scale of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from scaled_ig.autoencoders.base import Autoencoder

_MARGIN = 1.15  # renderings may overshoot the latents that the range was measured on


class RangeNormaliser(Autoencoder):
    """Maps a range of raw latents, measured per channel on training views, to [-1, 1] (method 4)."""

    centre: Tensor
    half_range: Tensor

    def _build_range(self, centre: float = 0.0, half_range: float = 1.0) -> None:
        """Begin with one range for all channels."""
        shape = self.latent_channels, 1, 1
        self.register_buffer("centre", torch.full(shape, centre))
        self.register_buffer("half_range", torch.full(shape, half_range))

    @torch.no_grad()
    def measure_range(self, latents: Tensor) -> None:
        """Set the normaliser from raw latents [B, C, h, w] of training views: centre and half-range per channel."""
        values = latents.transpose(0, 1).flatten(1).float()
        values = values[:, :: max(1, values.shape[1] // 1_000_000)].sort(1).values
        outliers = int(0.0005 * values.shape[1])
        low, high = values[:, outliers], values[:, -1 - outliers]
        self.centre.copy_(((low + high) / 2)[:, None, None])
        self.half_range.copy_(((high - low) / 2 * _MARGIN).clamp(min=1e-3)[:, None, None])

    def normalise(self, latents: Tensor) -> Tensor:
        return (latents - self.centre) / self.half_range

    def denormalise(self, latents: Tensor) -> Tensor:
        return latents * self.half_range + self.centre
