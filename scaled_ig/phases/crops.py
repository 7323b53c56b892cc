"""Parts of views at the object: what is left out of a step, white around it, costs neither rays nor convolutions.

Letters: B views, H rows and W columns of an image.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scaled_ig.batch import ViewBatch
from scaled_ig.errors import UsageError
from scaled_ig.randomness import CounterNoise, Stream
from scaled_ig.ranges import Count
from scaled_ig.scene_model import SceneModel

CropSize = Count | None
MARGIN = 4  # pixels around the object that a crop may end in


class Crops:
    """Draws a square part of each view of a batch, another one in every step, at any pixel.

    Crops begin anywhere between the pixels of latents, so that the autoencoder does not learn their grid.

    Args:
        size: Pixels along the side of a part; whole views where it is None, as in the papers, or views have no more.
        scene: The model of whole views.

    Raises:
        UsageError: The autoencoder has no images of this size.
    """

    def __init__(self, size: CropSize, scene: SceneModel) -> None:
        self.size = size
        if size is None or size >= min(scene.image_size):
            return
        multiple = scene.autoencoder.image_multiple
        if size % multiple:
            nearest = max(1, size // multiple) * multiple
            raise UsageError(f"crop_size {size} is no multiple of the autoencoder's {multiple}: give {nearest}")

    @property
    def needs_masks(self) -> bool:
        """Whether batches must carry silhouettes."""
        return self.size is not None

    def __call__(self, scene: SceneModel, batch: ViewBatch, noise: CounterNoise) -> tuple[SceneModel, ViewBatch]:
        """The model of such parts, and those of a batch; of views without masks any part is as good as another."""
        if self.size is None or self.size >= min(scene.image_size):
            return scene, batch
        assert batch.images is not None
        assert batch.masks is not None
        assert batch.masked is not None
        covered = (batch.masks > 0) | ~batch.masked[:, None, None]
        lots = noise.uniform(batch.view_ids, 2, Stream.RAYS)
        rows = _places(covered.any(2), self.size, lots[:, 0])
        columns = _places(covered.any(1), self.size, lots[:, 1])
        span = torch.arange(self.size, device=rows.device)
        view = torch.arange(len(batch), device=rows.device)[:, None, None]
        part = view, (rows[:, None] + span)[:, :, None], (columns[:, None] + span)[:, None, :]
        return scene.at(self.size), replace(
            batch,
            cameras=batch.cameras.cropped(rows, columns, self.size, scene.image_size),
            images=batch.images.movedim(1, -1)[part].movedim(-1, 1),
            masks=batch.masks[part],
        )


def _places(covered: Tensor, size: int, lots: Tensor) -> Tensor:
    """Where parts of this size begin along one side [B], by lots [B] in [0, 1).

    Args:
        covered: [B, H or W] bool, whether the object is there. All of it lies in a part where there is room for it, and
            all of a part at the object where there is not.
    """
    length = covered.shape[1]
    along = torch.arange(length, device=covered.device)
    first = torch.where(covered, along, length).amin(1) - MARGIN
    last = torch.where(covered, along, -1).amax(1) + 1 + MARGIN
    ends = torch.stack([first, last - size]).clamp(0, length - size)
    least, most = ends.aminmax(dim=0)
    return least + (lots * (most - least + 1)).long().clamp(max=length)
