"""Latents of views, encoded once while the encoder is frozen (method 4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from scaled_ig.batch import ViewBatch
from scaled_ig.scene_model import SceneModel


class LatentCache:
    """Normalised latents by (scene, view), in memory.

    Args:
        scene: The model that encodes.
        batches: Every view that will be asked for, with images.
        dtype: Precision that latents are kept in.
    """

    def __init__(self, scene: SceneModel, batches: Iterable[ViewBatch], dtype: torch.dtype = torch.float32) -> None:
        self._row: dict[tuple[int, int], int] = {}
        parts = []
        with torch.no_grad():
            for batch in batches:
                batch = batch.to(scene.background.device)
                parts.append(scene.encode(batch.pixels).to(dtype))
                for key in zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True):
                    self._row[key] = len(self._row)
        self._latents = torch.cat(parts)

    def __len__(self) -> int:
        return len(self._row)

    def __call__(self, batch: ViewBatch) -> Tensor:
        """Latents [B, C, h, w] of a batch, float32.

        Raises:
            KeyError: A view was not among those encoded.
        """
        rows = [self._row[key] for key in zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True)]
        return self._latents[rows].float()
