"""What a model shows of its scenes: views beside their ground truth, and orbits.

Letters: B views, C channels, h or H rows and w or W columns of pixels, F frames.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.batch import ViewBatch, to_unit_range
from scaled_ig.cameras import orbit
from scaled_ig.scene_model import SceneModel, to_image

ERROR_GAIN = 4  # errors of a good rendering are too dark to see
RECONSTRUCTION = "columns: ground truth | encoded and decoded"
COLUMNS = (
    f"columns: ground truth | rendering | its error x {ERROR_GAIN} | rendered latent | encoded latent | opacity | "
    "nearness (white in front, black behind)"
)


def picture_grid(model: SceneModel, batch: ViewBatch, rendered: bool = True) -> NDArray[np.uint8]:
    """A row for each view, uint8 [B · H, columns · W, 3].

    Columns: ground truth, decoded rendering, its error × 4, rendered latent, the encoder's latent (first three
    channels of both), opacity, and nearness: white in front of the ball of radius 0.5, black behind it and where
    nothing is. Ground truth and reconstruction alone where there are no scenes yet.

    Args:
        model: The model.
        batch: B views with images.
        rendered: Whether there are scenes to render yet, or the autoencoder alone.
    """
    images = batch.pixels
    truth, encoded = to_unit_range(images), model.encode(images)
    if not rendered:
        return _tile([truth, to_unit_range(model.decode(encoded))])
    rendering, size = model.render(batch.cameras, batch.scene_index), model.latent_size
    latent = to_image(rendering.pixels, size)
    image = to_unit_range(model.decode(latent))
    distance = batch.cameras.camera_to_world[:, :3, 3].norm(dim=1)
    nearness = (distance[:, None] + 0.5 - rendering.depth).clamp(0, 1) * rendering.accumulation
    return _tile(
        [
            truth,
            image,
            ERROR_GAIN * (image - truth).abs(),
            _first_three(to_unit_range(latent)),
            _first_three(to_unit_range(encoded)),
            _first_three(to_image(rendering.accumulation[..., None], size)),
            _first_three(to_image(nearness[..., None], size)),
        ]
    )


def orbit_frames(model: SceneModel, batch: ViewBatch, num_views: int, chunk: int = 8) -> NDArray[np.uint8]:
    """A full turn around the first scene of a batch, at the height and distance of its views: uint8 [F, H, W, 3].

    Args:
        model: The model.
        batch: Views, at whose mean height and distance the camera goes around.
        num_views: F, number of pictures.
        chunk: Pictures rendered at once.
    """
    positions = batch.cameras.camera_to_world[:, :3, 3].double()
    distance = positions.norm(dim=1)
    elevation = (positions[:, 2] / distance).asin().mean()
    # Straight from above there is no upright picture.
    elevation = elevation.clamp(-0.49 * math.pi, 0.49 * math.pi)
    fx, fy = batch.cameras.intrinsics[0, :2].tolist()
    cameras = orbit(num_views, float(elevation), float(distance.mean()), focal=(fx, fy)).to(batch.scene_index.device)
    first = batch.scene_index[:1]
    parts = [cameras[start : start + chunk] for start in range(0, num_views, chunk)]
    images = torch.cat([model.render_image(part, first.expand(len(part))) for part in parts])
    return to_bytes(to_unit_range(images).permute(0, 2, 3, 1))


def _first_three(images: Tensor) -> Tensor:
    """[B, C, h, w] → [B, 3, h, w]; channels come again where there are fewer."""
    return images[:, [channel % images.shape[1] for channel in range(3)]]


def _tile(columns: list[Tensor]) -> NDArray[np.uint8]:
    """Columns of images [B, 3, h, w] in [0, 1], enlarged to the size of the first → uint8 [B · H, columns · W, 3]."""
    size = columns[0].shape[2:]
    # Pixels of latents stay visible as such.
    tiles = torch.cat([F.interpolate(column, size=size, mode="nearest") for column in columns], 3)
    return to_bytes(tiles.permute(0, 2, 3, 1).flatten(0, 1))


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """[0, 1] → uint8 array of the same shape."""
    return (images.clamp(0, 1) * 255).round().byte().cpu().numpy()
