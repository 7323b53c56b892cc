"""What travels from a data module to a phase.

Letters: B views, R pixels of each, H rows and W columns of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from scaled_ig.cameras import Cameras

ViewKey = tuple[int, int]
"""Row of a scene in the scene set, and number of a view within it."""


def view_ids(scene_index, view_index):
    """A number for each view, which no other has: of a pair of numbers, or of two tensors [B] long."""
    return scene_index << 32 | view_index


@dataclass(frozen=True)
class ViewBatch:
    """Posed views of several scenes, checked on construction.

    Args:
        cameras: B cameras.
        scene_index: [B] long, row of the scene in the scene set being trained.
        view_index: [B] long, number of the view within its scene.
        images: [B, 3, H, W] uint8, or None where a phase trains from cached latents and needs no pixels.
        masks: [B, H, W] uint8, how much of each pixel the object covers, 255 is all of it; None where nobody asked.
        masked: [B] bool, False where the scene of a view has no masks: then its mask is zero, and says nothing. None
            where masks is None.
        global_size: Views of the batch over all ranks of which these are a part; 0 where they are all.

    Raises:
        ValueError: Shapes or types do not fit; the message says what was expected.
    """

    cameras: Cameras
    scene_index: Tensor
    view_index: Tensor
    images: Tensor | None = None
    masks: Tensor | None = None
    masked: Tensor | None = None
    global_size: int = 0

    def __post_init__(self) -> None:
        size = len(self.cameras)
        for name in ("scene_index", "view_index"):
            index = getattr(self, name)
            if index.shape != (size,) or index.is_floating_point():
                raise ValueError(f"{name} must be [{size}] integers, got {list(index.shape)} {index.dtype}")
        if self.images is not None:
            expected = (size, 3, *self.images.shape[2:])
            if self.images.dim() != 4 or self.images.shape != expected or self.images.is_floating_point():
                raise ValueError(
                    f"images must be [{size}, 3, H, W] uint8, got {list(self.images.shape)} {self.images.dtype}"
                )
        if self.masks is not None:
            if self.masks.dim() != 3 or len(self.masks) != size or self.masks.is_floating_point():
                raise ValueError(f"masks must be [{size}, H, W] uint8, got {list(self.masks.shape)} {self.masks.dtype}")
            if self.masked is None or self.masked.shape != (size,):
                shape = None if self.masked is None else list(self.masked.shape)
                raise ValueError(f"masked must be [{size}] bool beside masks, got {shape}")

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, mask: Tensor) -> ViewBatch:
        """Some of the views, by a mask [B]."""
        return self._map(lambda values: values[mask])

    @property
    def view_ids(self) -> Tensor:
        """A number for each view [B], which no other has."""
        return view_ids(self.scene_index, self.view_index)

    def ray_ids(self, pixels: Tensor) -> Tensor:
        """A number for each of some pixels [B or 1, R] of the views, [B, R]."""
        return view_ids(self.scene_index, self.view_index << 20)[:, None] + pixels

    @property
    def pixels(self) -> Tensor:
        """Images [B, 3, H, W] as float in [-1, 1].

        Raises:
            ValueError: This batch carries no images.
        """
        return _unit(self._required_images())

    def pixels_at(self, places: Tensor) -> Tensor:
        """Some pixels [B, R, 3] as float in [-1, 1]; the others are not even converted.

        Args:
            places: [B, R] long, row · width + column.

        Raises:
            ValueError: This batch carries no images.
        """
        rows = self._required_images().permute(0, 2, 3, 1).flatten(1, 2)
        return _unit(rows.gather(1, places[..., None].expand(-1, -1, 3)))

    def _required_images(self) -> Tensor:
        if self.images is None:
            raise ValueError("this batch carries no images: the phase that asked for it must set needs_images")
        return self.images

    def to(self, *args, **kwargs) -> ViewBatch:
        return self._map(lambda values: values.to(*args, **kwargs))

    def pin_memory(self) -> ViewBatch:
        return self._map(lambda values: values.pin_memory())

    def _map(self, change: Callable[[Any], Any]) -> ViewBatch:
        """The cameras and every tensor that is there, changed."""
        values = {name: value for name, value in vars(self).items() if isinstance(value, Cameras | Tensor)}
        return replace(self, **{name: change(value) for name, value in values.items()})


def _unit(images: Tensor) -> Tensor:
    """uint8 → [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def to_unit_range(images: Tensor) -> Tensor:
    """[-1, 1] → [0, 1], clamped."""
    return (images * 0.5 + 0.5).clamp(0, 1)
