"""Image quality per image. Value ranges are converted here and nowhere else.

Letters: B images, C channels, H rows and W columns of pixels.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from scaled_ig.errors import UsageError

ALEXNET = "alexnet-owt-7be5be79.pth"


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB; 100 where they are equal.

    Args:
        images: [B, C, H, W] in [0, 1].
        targets: [B, C, H, W] in [0, 1].

    Returns:
        [B].
    """
    return -10 * (images - targets).square().flatten(1).mean(1).clamp(min=1e-10).log10()


def ssim(images: Tensor, targets: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each image: Gaussian window 11, σ 1.5.

    Args:
        images: [B, 3, H, W] in [0, 1], sides of at least 11.
        targets: as images.
        data_range: Difference of the greatest and the least value, where it is not that of [0, 1].

    Returns:
        [B].
    """
    values = structural_similarity_index_measure(
        images, targets, data_range=data_range, sigma=1.5, kernel_size=11, reduction="none"
    )
    assert isinstance(values, Tensor)
    return values.reshape(len(images))


def ssim_signed(images: Tensor, targets: Tensor) -> Tensor:
    """:func:`ssim` of images in [0, 1], compared in [-1, 1]: another number, since luminance is then about mid-grey."""
    return ssim(images * 2 - 1, targets * 2 - 1, data_range=2.0)


def find_lpips_backbone(path: str | None = None) -> Path:
    """Where the ImageNet AlexNet lies that LPIPS compares features of. Never downloads.

    Args:
        path: File given by the user; the torch hub's cache is searched where it is None.

    Raises:
        UsageError: It is nowhere; the message lists where it was looked for.
    """
    looked = [Path(path)] if path else [Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET]
    for candidate in looked:
        if candidate.is_file():
            return candidate
    raise UsageError(
        f"LPIPS needs {ALEXNET} (torchvision's ImageNet AlexNet), not found at {os.fspath(looked[0])}: "
        "put it there or give --lpips_weights FILE"
    )


class Lpips(nn.Module):
    """LPIPS (AlexNet, v0.1 heads) of each image, from a local backbone file.

    Args:
        weights: The backbone's file, see :func:`find_lpips_backbone`.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        import lpips

        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        state = torch.load(weights, map_location="cpu", weights_only=True)
        backbone = self.network.net
        backbone.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in backbone.state_dict()})
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """[B] distances of images [B, 3, H, W] in [0, 1]."""
        return self.network(images * 2 - 1, targets * 2 - 1).flatten()


def load_lpips(mode: Literal["auto", "require", "off"], weights: str | None = None) -> Lpips | None:
    """LPIPS where it is wanted and can be had; a sentence is printed where its backbone is not on this machine.

    Args:
        mode: ``require`` it, leave it ``off``, or take it where its backbone is found (``auto``).
        weights: File of the backbone; one that is given must be there.

    Raises:
        UsageError: The backbone is nowhere, and it is required or its file was given.
    """
    if mode == "off":
        return None
    try:
        return Lpips(find_lpips_backbone(weights))
    except UsageError as error:
        if mode == "require" or weights:
            raise
        print(f"LPIPS is left out: {error}", flush=True)
        return None
