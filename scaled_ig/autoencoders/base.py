"""What turns images into the latent images that scenes are trained in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Autoencoder(nn.Module, ABC):
    """Encoder E_φ, decoder D_ψ and the normaliser that maps raw latents into the field head's [-1, 1].

    Concrete classes set ``downsampling`` (image side over latent side) and ``latent_channels``.
    """

    downsampling: int
    latent_channels: int
    is_deterministic: bool = True  # whether encoding an image twice gives the same latent, so that it can be cached

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Raw latents [B, C, h, w] of images [B, 3, H, W] in [-1, 1]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W], about [-1, 1] but not clamped, of raw latents [B, C, h, w]."""

    @abstractmethod
    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents → [-1, 1]."""

    @abstractmethod
    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""

    @abstractmethod
    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """All that encoding trains."""

    @abstractmethod
    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        """All that decoding trains."""
