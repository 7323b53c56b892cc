"""No autoencoder: scenes are trained on pixels. Turns every phase into its RGB baseline."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from scaled_ig.autoencoders.base import Autoencoder


class IdentityAutoencoder(Autoencoder):
    """Latents are the images themselves."""

    downsampling = 1
    latent_channels = 3
    small_decoder = None

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def normalise(self, latents: Tensor) -> Tensor:
        return latents

    def denormalise(self, latents: Tensor) -> Tensor:
        return latents

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        return ()
