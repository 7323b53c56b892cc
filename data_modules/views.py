"""Views of a pack as a dataset: one view a read, a file handle for each process, or everything decoded in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_modules.layout import VIEWS, PackIndex, read_cameras
from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras

ViewKey = tuple[int, int]
"""Scene index within the scene set, view index within the scene."""


class PackViews(Dataset[ViewBatch]):
    """Batches of views of some scenes of a pack.

    Args:
        index: The pack.
        scenes: [S] scene of the pack that each scene index stands for.
        with_images: Whether batches carry pixels.
    """

    def __init__(self, index: PackIndex, scenes: Sequence[int], with_images: bool = True) -> None:
        self.index, self.scenes, self.with_images = index, list(scenes), with_images
        poses, intrinsics = read_cameras(index)
        self._cameras = Cameras(torch.from_numpy(poses), torch.from_numpy(intrinsics))
        self._first_views = np.array([shard.first_view for shard in index.shards])
        self._files: dict[tuple[int, int], h5py.File] = {}
        self._memory: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return int(self.index.num_views[self.scenes].sum())

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_files": {}}  # handles cannot be pickled, and must not be shared over a fork

    def load(self, scene_indices: Sequence[int]) -> None:
        """Decode all views of scenes once and keep them in memory."""
        for scene in scene_indices:
            if scene not in self._memory:
                first, last = self._rows(scene)
                self._memory[scene] = torch.stack([self._read(row) for row in range(first, last)])

    def __getitems__(self, keys: Sequence[ViewKey]) -> ViewBatch:
        scene_index, view_index = torch.tensor(keys, dtype=torch.long).reshape(-1, 2).unbind(1)
        rows = [self._rows(scene)[0] + view for scene, view in keys]
        images = torch.stack([self._image(*key) for key in keys]) if self.with_images else None
        return ViewBatch(self._cameras[rows], scene_index, view_index, images)

    def __getitem__(self, key: ViewKey) -> ViewBatch:
        return self.__getitems__([key])

    def _rows(self, scene: int) -> tuple[int, int]:
        """First and last view of a scene within the pack."""
        own = self.scenes[scene]
        return int(self.index.offsets[own]), int(self.index.offsets[own + 1])

    def _image(self, scene: int, view: int) -> Tensor:
        if scene in self._memory:
            return self._memory[scene][view]
        return self._read(self._rows(scene)[0] + view)

    def _read(self, row: int) -> Tensor:
        shard = int(np.searchsorted(self._first_views, row, side="right")) - 1
        key = (os.getpid(), shard)
        if key not in self._files:
            # Without locking: locks fail on many network file systems, and nobody writes to a finished pack.
            self._files[key] = h5py.File(self.index.shards[shard].path, "r", locking=False)
        # A list of indices would be 200 times slower than one view a read (h5py/h5py#293).
        pixels = self._files[key][VIEWS][row - self._first_views[shard]]
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
