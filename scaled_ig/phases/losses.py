"""The papers' losses as unweighted scalars: means over all elements (method 2).

Letters: B views, C channels, h rows and w columns of latents, H and W of images and planes, S scenes, P planes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def latent_loss(rendered_latent: Tensor, latent: Tensor) -> Tensor:
    """L_latent = ‖z − z̃‖² in the normalised latent space.

    Args:
        rendered_latent: [B, C, h, w] in [-1, 1].
        latent: [B, C, h, w] normalised.
    """
    return F.mse_loss(rendered_latent, latent)


def relative_latent_loss(rendered_latent: Tensor, latent: Tensor) -> Tensor:
    """L_latent in units of the latents' variance over views and pixels, the mean over channels.

    Args:
        rendered_latent: [B, C, h, w] in [-1, 1].
        latent: [B, C, h, w] normalised. Those of empty pictures are all the same, and count as if they varied a little.
    """
    return latent_loss(rendered_latent, latent) / latent.var((0, 2, 3)).mean().clamp(min=1e-6)


def rgb_loss(rendered_image: Tensor, image: Tensor) -> Tensor:
    """L_RGB = ‖x − x̃‖² of decoded renderings.

    Args:
        rendered_image: [B, 3, H, W] in [-1, 1].
        image: [B, 3, H, W] in [-1, 1].
    """
    return F.mse_loss(rendered_image, image)


def reconstruction_loss(reconstruction: Tensor, image: Tensor) -> Tensor:
    """L_ae = ‖x − x̂‖² of the autoencoder alone.

    Args:
        reconstruction: [B, 3, H, W] in [-1, 1].
        image: [B, 3, H, W] in [-1, 1].
    """
    return F.mse_loss(reconstruction, image)


def total_variation(planes: Tensor, weights: Tensor) -> Tensor:
    """Squared differences of neighbouring texels, summed over a scene's planes and divided by H + W; mean over images.

    The authors' code sums over the per-process batch, so their weight grows with it; this one does not depend on the
    batch (method 5).

    Args:
        planes: [S, P, H, W, F], channels last.
        weights: [S] part of the batch's images that show each scene.
    """
    height, width = planes.shape[2:4]
    along_height = planes.diff(dim=2).square().sum((1, 2, 3, 4))
    along_width = planes.diff(dim=3).square().sum((1, 2, 3, 4))
    return (weights * (along_height + along_width)).sum() / (height + width)
