"""A small autoencoder that needs no download: PCA of image patches plus a convolutional residual."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scaled_ig.autoencoders.layers import residual_network
from scaled_ig.autoencoders.range_normaliser import RangeNormaliser
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Range, Width, checked


@checked
class SmallAutoencoder(RangeNormaliser):
    """Linear map of patches, started from their PCA, plus a residual network on either side.

    A PCA start beats a minute of training from noise. Its latents are not of order 10 as Stable Diffusion's are, so
    the normaliser is a range per channel measured on training views (method 6).

    Args:
        patch_size: Pixels along a patch; the latent image is as many times smaller.
        latent_channels: C.
        width: Channels of the residual networks.
        blocks: Residual blocks on either side.
        small_decoder_channels: Width of a small decoder to distil; none where it is None.
    """

    def __init__(
        self,
        patch_size: Annotated[int, Range(1, 64)] = 4,
        latent_channels: Width = 12,
        width: Width = 48,
        blocks: Annotated[int, Range(0, 256)] = 2,
        small_decoder_channels: Width | None = None,
    ) -> None:
        super().__init__()
        pixels = 3 * patch_size**2
        if latent_channels > pixels:
            raise UsageError(
                f"SmallAutoencoder.latent_channels {latent_channels} must be {pixels} or less: a patch of patch_size "
                f"{patch_size} has no more values"
            )
        self.downsampling, self.latent_channels = patch_size, latent_channels
        self.patch_size, self.width, self.blocks = patch_size, width, blocks
        self.linear_encoder = nn.Conv2d(3, latent_channels, patch_size, patch_size)
        self.linear_decoder = nn.ConvTranspose2d(latent_channels, 3, patch_size, patch_size)
        self.residual_encoder = nn.Sequential(
            nn.PixelUnshuffle(patch_size), *residual_network(pixels, latent_channels, width, blocks)
        )
        self.residual_decoder = nn.Sequential(
            *residual_network(latent_channels, pixels, width, blocks), nn.PixelShuffle(patch_size)
        )
        self._build_range()
        self._build_small_decoder(small_decoder_channels)
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def start_from_pca(self, images: Tensor, max_patches: int = 20_000) -> None:
        """Set the linear path to the principal components of patches that are not white.

        Args:
            images: [B, 3, H, W] in [-1, 1].
            max_patches: Patches to look at, evenly spaced.
        """
        size, count = self.downsampling, self.latent_channels
        patches = F.unfold(images, size, stride=size).transpose(1, 2).flatten(0, 1)
        deviation = patches - 1  # from white, the background
        deviation = deviation[deviation.abs().sum(1) > 0.5]
        deviation = deviation[:: max(1, len(deviation) // max_patches)]
        basis = torch.linalg.svd(deviation, full_matrices=False).Vh[:count]
        if len(basis) < count:
            raise UsageError(
                f"{len(basis)} patches of the training views are not white, too few for {count} latent channels: give "
                "more views, or lower --scene.autoencoder.latent_channels"
            )
        scale = (deviation @ basis.T).std(0).mean()
        shape = (count, 3, size, size)
        self.linear_encoder.weight.copy_((basis / scale).view(shape))
        assert self.linear_encoder.bias is not None
        assert self.linear_decoder.bias is not None
        self.linear_encoder.bias.copy_(-(basis / scale).sum(1))
        self.linear_decoder.weight.copy_((basis * scale).view(shape))
        self.linear_decoder.bias.fill_(1.0)

    def encode(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return (self.linear_encoder(images) + self.residual_encoder(images)).float()

    def decode(self, latents: Tensor) -> Tensor:
        latents = latents.contiguous(memory_format=torch.channels_last)
        return (self.linear_decoder(latents) + self.residual_decoder(latents)).float()

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.linear_encoder.parameters(), self.residual_encoder.parameters())

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.linear_decoder.parameters(), self.residual_decoder.parameters())
