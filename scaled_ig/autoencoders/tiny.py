"""TAESD and its relatives: diffusers' AutoencoderTiny."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from scaled_ig.autoencoders.pretrained import PretrainedAutoencoder
from scaled_ig.autoencoders.range_normaliser import RangeNormaliser
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Width, checked


@checked
class TinyAutoencoder(PretrainedAutoencoder, RangeNormaliser):
    """AutoencoderTiny with its raw latents; the first phase measures their range on its training views (method 4).

    Until then the range is that of its configuration: ``latent_magnitude`` m and ``latent_shift`` s map raw latents
    from -2ms to 2m (1 - s) to [-1, 1]. A measured range has no use for its ``scaling_factor``.

    Args:
        pretrained: Folder that holds ``config.json`` and weights, or a Hub id.
        subfolder: Folder within ``pretrained``; empty for none.
        config: The network's own configuration, to build it without weights because a checkpoint holds them.
        small_decoder_channels: Width of a small decoder to distil; none where it is None.
        variant: Of the weights, as ``fp16`` of ``diffusion_pytorch_model.fp16.safetensors``.

    Raises:
        UsageError: The files are not there or not those of an AutoencoderTiny; its weights do not go with its
            configuration; its decoder enlarges otherwise than its encoder reduces.
    """

    measured: Tensor  # whether the range is that of training views
    network_class = "AutoencoderTiny"
    example = "madebyollin/taesd"

    def __init__(
        self,
        pretrained: str = "madebyollin/taesd",
        subfolder: str = "",
        config: dict[str, Any] | None = None,
        small_decoder_channels: Width | None = None,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        self._open(pretrained, subfolder, variant, config)
        values = self.config
        self.downsampling = 2 ** (len(values["encoder_block_out_channels"]) - 1)
        upsampling = values["upsampling_scaling_factor"] ** (len(values["decoder_block_out_channels"]) - 1)
        if upsampling != self.downsampling:
            raise UsageError(
                f"the autoencoder's decoder enlarges {upsampling} times and its encoder reduces {self.downsampling} "
                "times: give one whose images keep their size"
            )
        magnitude = float(values["latent_magnitude"])
        self._build_range(magnitude * (1 - 2 * values["latent_shift"]), magnitude)
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))
        self._build_small_decoder(small_decoder_channels)
        self.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> Tensor:
        return self.network.encode(images.contiguous(memory_format=torch.channels_last)).latents.float()

    def measure_range(self, latents: Tensor) -> None:
        super().measure_range(latents)
        self.measured.fill_(True)

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        return self.network.encoder.parameters()

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        return self.network.decoder.parameters()
