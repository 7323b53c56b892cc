"""G6 on the CPU: the decoder's part of a step, by Stable Diffusion's architecture at random weights, 128×128.

What an optimiser would do with the gradients is left out; a decoder that is not trained saves that, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest import cpu_seconds
from scaled_ig.autoencoders import DecoderChoice, KLAutoencoder

STABLE_DIFFUSION = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SMALL_CHANNELS = 256
GOOD_DECIBELS = 35.0  # quality at which the bf16 images' own error is told


def pass_of(
    autoencoder: KLAutoencoder, latents: list[Tensor], bf16: bool, trained: bool, decoder: DecoderChoice = "full"
) -> Callable[[], None]:
    """Decoding and its backward pass, batch after batch.

    Args:
        autoencoder: With both decoders.
        latents: Batches of raw latents [B, 4, 16, 16], whose gradient is taken too.
        bf16: Under autocast.
        trained: Whether the gradient of the weights is taken.
        decoder: Which.
    """
    targets = [torch.rand(len(batch), 3, 128, 128) for batch in latents]

    def step() -> None:
        autoencoder.requires_grad_(trained).zero_grad()
        for batch, target in zip(latents, targets, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                raw = batch.detach().requires_grad_()
                decode = autoencoder.decode if decoder == "full" else autoencoder.decode_small
                images = decode(raw if decoder == "full" else autoencoder.normalise(raw))
            (F.mse_loss(images, target) / len(latents)).backward()

    return step


def gigaflops(step: Callable[[], object]) -> float:
    """Multiplications and additions of a call, by torch's counter: always the same."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


@torch.no_grad()
def bf16_error(autoencoder: KLAutoencoder, latents: Tensor) -> tuple[float, float]:
    """PSNR in dB of bf16 images against float32 ones, and what that takes from images of ``GOOD_DECIBELS``."""
    exact = autoencoder.decode(latents)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = autoencoder.decode(latents)
    span = exact.max() - exact.min()  # random weights give no images in [-1, 1]
    psnr = float(-10 * torch.log10(F.mse_loss(rounded, exact) / span**2))
    return psnr, 10 * math.log10(1 + 10 ** ((GOOD_DECIBELS - psnr) / 10))


def alignment(autoencoder: KLAutoencoder, latents: Tensor) -> dict[str, Any]:
    """A view of RGB alignment: the decoder trained in float32, in bf16, not trained, and the small one."""
    steps = {
        "fp32 trained": pass_of(autoencoder, [latents], bf16=False, trained=True),
        "bf16 trained": pass_of(autoencoder, [latents], bf16=True, trained=True),
        "bf16 frozen": pass_of(autoencoder, [latents], bf16=True, trained=False),
        "small bf16 frozen": pass_of(autoencoder, [latents], bf16=True, trained=False, decoder="small"),
    }
    times = cpu_seconds(steps, rounds=4, title="decoder")
    psnr, drop = bf16_error(autoencoder, latents)
    return {
        "work": "decode a view and go back, architecture of Stable Diffusion, random weights",
        "ratio": times["fp32 trained"] / times["bf16 frozen"],
        "ratio_of_bf16_trained": times["fp32 trained"] / times["bf16 trained"],
        "ratio_of_small": times["fp32 trained"] / times["small bf16 frozen"],
        "check": f"bf16 images are {psnr:.1f} dB from float32, which takes {drop:.3f} dB from {GOOD_DECIBELS:.0f} dB",
        "passed": drop <= 0.05,
        "gigaflops": {name: gigaflops(step) for name, step in steps.items()},
        "milliseconds": {name: 1e3 * value for name, value in times.items()},
    }


def joint(autoencoder: KLAutoencoder, latents: Tensor) -> dict[str, Any]:
    """The two decodings of a view in the joint phase, bf16: one after the other, and in one batch."""
    steps = {
        "two batches": pass_of(autoencoder, [latents, latents.flip(2)], bf16=True, trained=True),
        "one batch": pass_of(autoencoder, [torch.cat([latents, latents.flip(2)])], bf16=True, trained=True),
    }
    times = cpu_seconds(steps, rounds=2, title="two decodings")
    flops = {name: gigaflops(step) for name, step in steps.items()}
    return {
        "work": "the two decodings of a view in the joint phase",
        "ratio": times["two batches"] / times["one batch"],
        "check": f"{flops['one batch']:.0f} GFLOP in one batch, {flops['two batches']:.0f} in two",
        "passed": flops["one batch"] == flops["two batches"],
        "milliseconds": {name: 1e3 * value for name, value in times.items()},
    }


def measure() -> dict[str, Any]:
    """The rows ``G6_cpu`` and ``G6_cpu_joint``."""
    torch.manual_seed(0)
    autoencoder = KLAutoencoder(config=STABLE_DIFFUSION, small_decoder_channels=SMALL_CHANNELS)
    latents = 10 * torch.randn(1, 4, 16, 16)
    return {"G6_cpu": alignment(autoencoder, latents), "G6_cpu_joint": joint(autoencoder, latents)}
