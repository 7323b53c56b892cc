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
        network_patch_size: Pixels along the patches that the residual networks see, a multiple of ``patch_size``; the
            same where it is None. A convolution of patches twice as large costs a quarter, and sees twice as far.
        small_decoder_channels: Width of a small decoder to distil; none where it is None.
    """

    def __init__(
        self,
        patch_size: Annotated[int, Range(1, 64)] = 4,
        latent_channels: Width = 12,
        width: Width = 48,
        blocks: Annotated[int, Range(0, 256)] = 2,
        network_patch_size: Annotated[int, Range(1, 64)] | None = None,
        small_decoder_channels: Width | None = None,
    ) -> None:
        super().__init__()
        values = 3 * patch_size**2
        if latent_channels > values:
            raise UsageError(
                f"SmallAutoencoder.latent_channels {latent_channels} must be {values} or less: a patch of patch_size "
                f"{patch_size} has no more values"
            )
        if (network_patch_size or patch_size) % patch_size:
            raise UsageError(
                f"SmallAutoencoder.network_patch_size {network_patch_size} must be a multiple of patch_size "
                f"{patch_size}, e.g. {2 * patch_size}"
            )
        self.downsampling, self.latent_channels = patch_size, latent_channels
        self.patch_size, self.network_patch_size = patch_size, network_patch_size
        self.width, self.blocks = width, blocks
        self.linear_encoder = nn.Conv2d(3, latent_channels, patch_size, patch_size)
        self.linear_decoder = nn.ConvTranspose2d(latent_channels, 3, patch_size, patch_size)
        side = self.image_multiple
        self._fold = side // patch_size  # latents along the side of a patch of the networks
        latents, pixels = latent_channels * self._fold**2, 3 * side**2
        self.residual_encoder = nn.Sequential(
            nn.PixelUnshuffle(side), *residual_network(pixels, latents, width, blocks)
        )
        self.residual_decoder = nn.Sequential(*residual_network(latents, pixels, width, blocks), nn.PixelShuffle(side))
        self._build_range()
        self._build_small_decoder(small_decoder_channels)
        self.to(memory_format=torch.channels_last)

    @property
    def image_multiple(self) -> int:
        return self.network_patch_size or self.patch_size

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
        residual = F.pixel_shuffle(self.residual_encoder(images), self._fold)
        return (self.linear_encoder(images) + residual).float()

    def decode(self, latents: Tensor) -> Tensor:
        latents = latents.contiguous(memory_format=torch.channels_last)
        residual = self.residual_decoder(F.pixel_unshuffle(latents, self._fold))
        return (self.linear_decoder(latents) + residual).float()

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.linear_encoder.parameters(), self.residual_encoder.parameters())

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.linear_decoder.parameters(), self.residual_decoder.parameters())
