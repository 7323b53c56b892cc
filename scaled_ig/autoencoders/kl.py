"""Stable Diffusion's autoencoder, or any other of diffusers' AutoencoderKL."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from scaled_ig.autoencoders.pretrained import PretrainedAutoencoder
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Width, checked

_TANH_SCALE = 0.02  # raw latents are of order 10: 0.02 z lies where tanh is nearly linear (method 4)
_TANH_LIMIT = 1 - 1e-4
_PAPERS_FACTOR = 0.18215  # Stable Diffusion's, with whose latents the papers chose that scale


@checked
class KLAutoencoder(PretrainedAutoencoder):
    """AutoencoderKL with its raw posterior and the normaliser z_n = tanh(0.02 z) of the papers (method 4).

    Latents of another network are brought to the order of Stable Diffusion's first:
    z_n = tanh(0.02 f (z - s) / 0.18215) with the ``scaling_factor`` f and ``shift_factor`` s of its configuration, or
    its ``latents_mean`` as s and f / ``latents_std`` as f. The encoder is trained with ``quant_conv``, the decoder with
    ``post_quant_conv``.

    Args:
        pretrained: Folder that holds ``config.json`` and weights, or a Hub id. ``runwayml/stable-diffusion-v1-5`` is
            gone from the Hub; the default is its mirror.
        subfolder: Folder within ``pretrained``; empty for none.
        sample_posterior: Encode to a sample of the posterior (the authors' code) instead of its mean (cacheable).
        config: The network's own configuration, to build it without weights because a checkpoint holds them.
        small_decoder_channels: Width of a small decoder to distil; none where it is None.
        variant: Of the weights, as ``fp16`` of ``diffusion_pytorch_model.fp16.safetensors``.

    Raises:
        UsageError: The files are not there or not those of an AutoencoderKL; its weights do not go with its
            configuration.
    """

    shift: Tensor
    scale: Tensor
    network_class = "AutoencoderKL"
    example = "stable-diffusion-v1-5/stable-diffusion-v1-5 (folder vae)"

    def __init__(
        self,
        pretrained: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
        subfolder: str = "vae",
        sample_posterior: bool = False,
        config: dict[str, Any] | None = None,
        small_decoder_channels: Width | None = None,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        self.sample_posterior, self.is_deterministic = sample_posterior, not sample_posterior
        self._open(pretrained, subfolder, variant, config)
        self.downsampling = 2 ** (len(self.config["block_out_channels"]) - 1)
        shift = self._per_channel(
            "shift_factor", self.config.get("latents_mean") or self.config.get("shift_factor") or 0.0
        )
        factor = self._per_channel("scaling_factor", self.config["scaling_factor"], positive=True)
        factor = factor / self._per_channel("latents_std", self.config.get("latents_std") or 1.0, positive=True)
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", _TANH_SCALE * (factor / _PAPERS_FACTOR), persistent=False)
        self._build_small_decoder(small_decoder_channels)
        self.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> Tensor:
        posterior = self.network.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist
        return (posterior.sample() if self.sample_posterior else posterior.mode()).float()

    def normalise(self, latents: Tensor) -> Tensor:
        return torch.tanh(self.scale * (latents - self.shift))

    def denormalise(self, latents: Tensor) -> Tensor:
        return torch.atanh(latents.clamp(-_TANH_LIMIT, _TANH_LIMIT)) / self.scale + self.shift

    def _per_channel(self, key: str, values: Any, positive: bool = False) -> Tensor:
        """A number for all channels, or one of each as [C, 1, 1]."""
        numbers = values if isinstance(values, list | tuple) else [values]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers) or (
            positive and min(numbers) <= 0
        ):
            raise UsageError(f"the autoencoder's configuration has the {key} {values!r:.80}: give finite numbers")
        made = torch.tensor(values, dtype=torch.float32)
        if made.shape not in ((), (self.latent_channels,)):
            raise UsageError(
                f"the autoencoder's configuration has {made.numel()} numbers for {self.latent_channels} channels"
            )
        return made[:, None, None] if made.ndim else made

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.network.encoder.parameters(), _parameters(self.network.quant_conv))

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.network.decoder.parameters(), _parameters(self.network.post_quant_conv))


def _parameters(module: nn.Module | None) -> Iterable[nn.Parameter]:
    return () if module is None else module.parameters()
