"""Stable Diffusion's autoencoder, or any other of diffusers' AutoencoderKL."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scaled_ig.autoencoders.base import Autoencoder
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Width, checked

_TANH_SCALE = 0.02  # raw latents are of order 10: 0.02 z lies where tanh is nearly linear (method 4)
_TANH_LIMIT = 1 - 1e-4


@checked
class KLAutoencoder(Autoencoder):
    """AutoencoderKL with its raw posterior (no 0.18215 factor) and the normaliser z_n = tanh(0.02 z) (method 4).

    The encoder is trained with ``quant_conv``, the decoder with ``post_quant_conv``.

    Args:
        pretrained: Folder that holds ``config.json`` and weights, or a Hub id. ``runwayml/stable-diffusion-v1-5`` is
            gone from the Hub; the default is its mirror.
        subfolder: Folder within ``pretrained``; empty for none.
        config: The network's own configuration, to build it without weights because a checkpoint holds them.
        sample_posterior: Encode to a sample of the posterior (the authors' code) instead of its mean (cacheable).
        small_decoder_channels: Width of a small decoder to distil; none where it is None.

    Raises:
        UsageError: The weights are neither there nor in the Hub's cache and cannot be downloaded.
    """

    def __init__(
        self,
        pretrained: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
        subfolder: str = "vae",
        sample_posterior: bool = False,
        config: dict[str, Any] | None = None,
        small_decoder_channels: Width | None = None,
    ) -> None:
        super().__init__()
        self.sample_posterior, self.is_deterministic = sample_posterior, not sample_posterior
        self.pretrained, self.subfolder = pretrained, subfolder
        self.network = _load(pretrained, subfolder) if config is None else _build(config)
        self.config = {name: value for name, value in self.network.config.items() if not name.startswith("_")}
        self.latent_channels = self.network.config.latent_channels
        self.downsampling = 2 ** (len(self.network.config.block_out_channels) - 1)
        self._build_small_decoder(small_decoder_channels)
        self.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> Tensor:
        posterior = self.network.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist
        return (posterior.sample() if self.sample_posterior else posterior.mode()).float()

    def decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents.contiguous(memory_format=torch.channels_last)).sample.float()

    def compile(self, *args: Any, **options: Any) -> None:
        super().compile(*args, **options)
        for network in self.network.children():  # encode and decode call these
            network.compile(*args, **options)

    def normalise(self, latents: Tensor) -> Tensor:
        return torch.tanh(_TANH_SCALE * latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        return torch.atanh(latents.clamp(-_TANH_LIMIT, _TANH_LIMIT)) / _TANH_SCALE

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.network.encoder.parameters(), _parameters(self.network.quant_conv))

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        return chain(self.network.decoder.parameters(), _parameters(self.network.post_quant_conv))


def _parameters(module: nn.Module | None) -> Iterable[nn.Parameter]:
    return () if module is None else module.parameters()


def _build(config: dict[str, Any]):
    from diffusers import AutoencoderKL  # takes seconds to import, and only this autoencoder needs it

    return AutoencoderKL.from_config(config)


def _load(pretrained: str, subfolder: str):
    from diffusers import AutoencoderKL

    is_folder = Path(pretrained).is_dir()
    if is_folder and subfolder and not (Path(pretrained) / subfolder).is_dir():
        subfolder = ""
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # it recommends accelerate, which is of no use here
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # its retries; the outcome is told below
    if not is_folder:
        print(f"autoencoder: {pretrained} from the Hub or its cache", flush=True)
    try:
        return AutoencoderKL.from_pretrained(
            pretrained, subfolder=subfolder or None, low_cpu_mem_usage=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        where = f"the folder {os.path.abspath(pretrained)}" if is_folder else f"{pretrained} in the Hub or its cache"
        raise UsageError(
            f"no AutoencoderKL (config.json and diffusion_pytorch_model.safetensors) in {where}: download "
            "stable-diffusion-v1-5/stable-diffusion-v1-5 (folder vae) on a machine with a network and give its folder "
            "with --scene.autoencoder.init_args.pretrained FOLDER, or train without weights: "
            "--config experiments/recipes/latent.yaml"
        ) from error
