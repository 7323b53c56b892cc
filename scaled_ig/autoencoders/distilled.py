"""A small decoder that imitates the tuned one, for gradients and for fast rendering.

Letters: B images of H rows and W columns, C channels of latents of h rows and w columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scaled_ig.autoencoders.layers import residual_network


class SmallDecoder(nn.Module):
    """Normalised latents to patches of pixels: a linear map started by least squares, plus a residual network.

    All convolutions run at the latents' resolution, where they cost least. With 256 channels an image of Stable
    Diffusion's latents takes 1 GMAC, by its own decoder 77.6.

    Args:
        latent_channels: C.
        downsampling: Pixels along a patch.
        channels: Width of the residual network.
        blocks: Its residual blocks.
    """

    fitted: Tensor  # whether it has begun to imitate anything

    def __init__(self, latent_channels: int, downsampling: int, channels: int, blocks: int = 3) -> None:
        super().__init__()
        self.downsampling = downsampling
        self.linear = nn.Conv2d(latent_channels, 3 * downsampling**2, 1)
        self.residual = residual_network(latent_channels, 3 * downsampling**2, channels, blocks)

        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W], about [-1, 1] but not clamped, of normalised latents [B, C, h, w]."""
        return F.pixel_shuffle(self.linear(latents) + self.residual(latents), self.downsampling)

    @torch.no_grad()
    def fit_linear(self, latents: Tensor, images: Tensor) -> None:
        """Set the linear path to the least-squares map of normalised latents [B, C, h, w] to images [B, 3, H, W]."""
        patches = F.pixel_unshuffle(images, self.downsampling).movedim(1, -1).flatten(0, 2).double()
        inputs = F.pad(latents.movedim(1, -1).flatten(0, 2).double(), (0, 1), value=1.0)  # the last one for the bias
        solution = torch.linalg.pinv(inputs.T @ inputs, hermitian=True) @ (inputs.T @ patches)
        assert self.linear.bias is not None
        self.linear.weight.copy_(solution[:-1].T[..., None, None])
        self.linear.bias.copy_(solution[-1])
        self.fitted.fill_(True)
