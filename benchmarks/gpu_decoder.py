"""G6: the decoder's part of RGB alignment on a GPU, Stable Diffusion's architecture at random weights, 128 × 128.

Decoding 32 latents, the loss, and back. Before: float32 with TF32, PyTorch's own memory format, the decoder trained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.decoder import GOOD_DECIBELS, STABLE_DIFFUSION
from benchmarks.gpu_contest import Bench
from scaled_ig.autoencoders import KLAutoencoder

TOY = STABLE_DIFFUSION | {"block_out_channels": [32, 32, 32, 32]}


def pass_of(
    network: nn.Module, latents: Tensor, target: Tensor, bf16: bool, trained: bool, compiled: bool = False
) -> Callable[[], None]:
    """Decoding and its backward pass, to the latents, and to the weights where they are trained."""
    memory_format = torch.channels_last if bf16 else torch.contiguous_format
    network = copy.deepcopy(network).to(memory_format=memory_format).requires_grad_(trained)
    if compiled:
        network.compile()

    def step() -> None:
        network.zero_grad()
        given = latents.detach().contiguous(memory_format=memory_format).requires_grad_()
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=bf16):
            images = network(given)
        F.mse_loss(images.float(), target).backward()

    return step


def matmul_peak(bench: Bench) -> float:
    """TFLOP/s of the largest matrices' product in bf16."""
    size = bench.size(8192, 256)
    a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / bench.milliseconds({"matmul": lambda: a @ b})["matmul"] / 1e9


@torch.no_grad()
def bf16_error(network: nn.Module, latents: Tensor) -> tuple[float, float]:
    """PSNR in dB of bf16 images against float32 ones, and what that takes from images of ``GOOD_DECIBELS``."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    exact = network(latents)
    torch.backends.cudnn.allow_tf32 = tf32
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    with torch.autocast(latents.device.type, torch.bfloat16):
        rounded = network(latents.contiguous(memory_format=torch.channels_last)).float()
    span = exact.max() - exact.min()  # random weights give no images in [-1, 1]
    psnr = float(-10 * torch.log10(F.mse_loss(rounded, exact) / span**2))
    return psnr, 10 * math.log10(1 + 10 ** ((GOOD_DECIBELS - psnr) / 10))


def decoder(bench: Bench) -> dict[str, Any]:
    """The row ``G6``."""
    torch.manual_seed(0)
    autoencoder = KLAutoencoder(config=TOY if bench.toy else STABLE_DIFFUSION).to(bench.device)
    network = nn.Sequential(autoencoder.network.post_quant_conv, autoencoder.network.decoder)
    views, side = bench.size(32, 1), bench.size(16, 4)
    latents = 10 * torch.randn(views, 4, side, side, device=bench.device)
    target = torch.rand(views, 3, 8 * side, 8 * side, device=bench.device)
    contestants = {
        "TF32 trained": pass_of(network, latents, target, bf16=False, trained=True),
        "bf16 trained": pass_of(network, latents, target, bf16=True, trained=True),
        "bf16 frozen": pass_of(network, latents, target, bf16=True, trained=False),
    }
    with FlopCounterMode(display=False) as counter:
        contestants["bf16 frozen"]()
    flops, not_compiled = counter.get_total_flops(), None
    for name, trained in (("frozen", False), ("trained", True)) if not bench.toy else ():
        compiled = pass_of(network, latents, target, bf16=True, trained=trained, compiled=True)
        try:
            compiled()
            contestants[f"bf16 {name}, compiled"] = compiled
        except Exception as error:  # of the compiler: the row goes without it, and says so
            not_compiled = str(error).strip().splitlines()[0]
    times = bench.milliseconds(contestants, rounds=10)
    best = {
        name: min(own for of, own in times.items() if of.startswith(f"bf16 {name}")) for name in ("frozen", "trained")
    }
    peak, (psnr, drop) = matmul_peak(bench), bf16_error(network, latents)
    reached = flops / best["frozen"] / 1e9
    return {
        "G6": {
            "work": f"decode {views} views of RGB alignment and go back, architecture of Stable Diffusion",
            "ratio": times["TF32 trained"] / best["frozen"],
            "ratio_of_trained": times["TF32 trained"] / best["trained"],
            "check": f"bf16 images are {psnr:.1f} dB from float32, which takes {drop:.3f} dB from {GOOD_DECIBELS:.0f}; "
            f"{reached:.0f} TFLOP/s, {100 * reached / peak:.0f} % of the {peak:.0f} of a bf16 product",
            "passed": drop <= 0.05,
            "part_of_peak": reached / peak,
            "not_compiled": not_compiled,
            "milliseconds": times,
        }
    }
