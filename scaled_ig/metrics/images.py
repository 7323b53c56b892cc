"""Image quality per image. Value ranges are converted here and nowhere else.

Letters: B images, C channels, H rows and W columns of pixels.
"""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from scaled_ig.errors import UsageError

ALEXNET = "alexnet-owt-7be5be79.pth"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET}"
LICENCE = "torchvision, BSD 3-Clause; trained on ImageNet, whose terms allow research that is not commercial"
LPIPS_LEAST_SIDE = 31
"""Pixels: of smaller images AlexNet's last layers see nothing."""
LpipsChoice = Literal["auto", "require", "off", "download"]


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
    """Where the ImageNet AlexNet lies that LPIPS compares features of.

    Args:
        path: File given by the user; the torch hub's cache is searched where it is None.

    Raises:
        UsageError: It is nowhere; the message lists where it was looked for.
    """
    place = Path(path) if path else _cached_backbone()
    if place.is_file():
        return place
    raise UsageError(
        f"LPIPS needs {ALEXNET} (torchvision's ImageNet AlexNet), not found at {place}: put it there, give "
        "--lpips_weights FILE, or let --lpips download fetch it"
    )


def _cached_backbone() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET


def download_lpips_backbone(url: str = ALEXNET_URL) -> None:
    """Fetch the backbone into the torch hub's cache, unless it is there.

    Raises:
        UsageError: It cannot be fetched, or is another file.
    """
    place = _cached_backbone()
    if place.is_file():
        return
    print(f"LPIPS: fetching {url} (233 MB; {LICENCE}) to {place}", flush=True)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(place), hash_prefix=ALEXNET.removesuffix(".pth").rpartition("-")[2])
    except (OSError, RuntimeError, HTTPException) as error:
        raise UsageError(
            f"{url} cannot be fetched ({' '.join(str(error).split())[:200]}): fetch it on another machine and give "
            "--lpips_weights FILE"
        ) from None


class Lpips(nn.Module):
    """LPIPS (AlexNet, v0.1 heads) of each image, from a local backbone file.

    Args:
        weights: The backbone's file, see :func:`find_lpips_backbone`.

    Raises:
        UsageError: It is another file.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        import lpips

        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        backbone = self.network.net
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            backbone.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in backbone.state_dict()})
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError, EOFError, UnpicklingError):
            raise UsageError(
                f"{weights} is not {ALEXNET}, the weights of torchvision's AlexNet: give that file with "
                "--lpips_weights, or let --lpips download fetch it"
            ) from None
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """[B] distances of images [B, 3, H, W] in [0, 1]."""
        return self.network(images * 2 - 1, targets * 2 - 1).flatten()


def load_lpips(mode: LpipsChoice, weights: str | None = None, side: int = LPIPS_LEAST_SIDE) -> Lpips | None:
    """LPIPS where it is wanted and can be had; a sentence is printed where it cannot.

    Args:
        mode: ``require`` it, ``download`` its backbone where that is not on this machine, leave it ``off``, or take it
            where its backbone is found (``auto``).
        weights: File of the backbone; one that is given must be there.
        side: Pixels of the shorter side of the images that will be measured.

    Raises:
        UsageError: The backbone is nowhere, and it is required or its file was given; or the images are too small, and
            it is required.
    """
    if mode == "off":
        return None
    try:
        if side < LPIPS_LEAST_SIDE:
            raise UsageError(f"images of {side} pixels are too small for LPIPS, which needs {LPIPS_LEAST_SIDE}")
        if mode == "download" and not weights:
            download_lpips_backbone()
        return Lpips(find_lpips_backbone(weights))
    except UsageError as error:
        if mode in ("require", "download") or (weights and side >= LPIPS_LEAST_SIDE):
            raise
        print(f"LPIPS is left out: {error}", flush=True)
        return None
