"""What turns images into the latent images that scenes are trained in.

Letters: B images of H rows and W columns, C channels of latents of h rows and w columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scaled_ig.autoencoders.distilled import SmallDecoder
from scaled_ig.errors import UsageError

DecoderChoice = Literal["full", "small"]


class Autoencoder(nn.Module, ABC):
    """Encoder E_φ, decoder D_ψ and the normaliser that maps raw latents into the field head's [-1, 1].

    Concrete classes set ``downsampling`` (image side over latent side) and ``latent_channels``, and ``small_decoder``,
    which is None where there is none.
    """

    downsampling: int
    latent_channels: int
    small_decoder: SmallDecoder | None  # approximates the decoder at a fraction of its cost
    is_deterministic: bool = True  # whether encoding an image twice gives the same latent, so that it can be cached

    @property
    def image_multiple(self) -> int:
        """Pixels that the sides of its images are multiples of."""
        return self.downsampling

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
        """All that decoding trains; not the small decoder's."""

    def small_decoder_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the small decoder."""
        return () if self.small_decoder is None else self.small_decoder.parameters()

    def decode_small(self, latents: Tensor) -> Tensor:
        """What the small decoder makes of *normalised* latents [B, C, h, w]: images [B, 3, H, W], not clamped."""
        return self.require_small_decoder()(latents.contiguous(memory_format=torch.channels_last)).float()

    def require_small_decoder(self) -> SmallDecoder:
        """The small decoder.

        Raises:
            UsageError: There is none.
        """
        if self.small_decoder is None:
            raise UsageError(
                "this autoencoder has no small decoder: train stage 1 with the distillation phase and "
                "--scene.autoencoder.init_args.small_decoder_channels 256 (experiments/presets/small_decoder.yaml)"
            )
        return self.small_decoder

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile every network in place, by torch.compile's arguments; names in the state stay as they are."""
        for network in self.children():
            network.compile(*args, **options)

    def _build_small_decoder(self, channels: int | None) -> None:
        self.small_decoder_channels = channels
        self.small_decoder = None
        if channels is not None:
            self.small_decoder = SmallDecoder(self.latent_channels, self.downsampling, channels)
