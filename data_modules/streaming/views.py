"""Views of a pack as a dataset: read from its files by any number of processes, or decoded once into memory.

Letters: S scenes, B views of a batch, H rows and W columns of pixels.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Sequence

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from data_modules.layout import CAMERA_TO_WORLD, INTRINSICS, MASKS, NEAR_FAR, VIEWS, PackIndex
from scaled_ig.batch import ViewBatch, ViewKey
from scaled_ig.cameras import Cameras
from scaled_ig.errors import UsageError
from scaled_ig.progress import Progress

OPEN_FILES = 32  # of a process at a time; the usual limit of a process is 1024


class PackViews(Dataset[ViewBatch]):
    """Batches of views of some scenes of a pack. A file is verified and opened when one of its views is asked for.

    Args:
        index: The pack.
        scenes: [S] scene of the pack that each scene index stands for.
        with_images: Whether batches carry pixels.
        with_masks: Whether batches carry masks.

    Attributes:
        global_size: Of the batches over all ranks; 0 where a batch is whole.
    """

    def __init__(
        self, index: PackIndex, scenes: Sequence[int], with_images: bool = True, with_masks: bool = False
    ) -> None:
        self.index, self.scenes, self.with_images, self.with_masks = index, list(scenes), with_images, with_masks
        self.global_size = 0
        self._masked = index.masked[self.scenes]
        self._pack_row = index.offsets[self.scenes]  # first view of each scene within the pack
        self._row = np.cumsum([0, *index.num_views[self.scenes]])  # and within this set
        self._shard = np.array([index.shard_of(scene) for scene in self.scenes], dtype=np.int64)
        self._verified: set[int] = set()
        rows = len(self)
        self._cameras = Cameras(torch.empty(rows, 4, 4), torch.empty(rows, 4), torch.empty(rows, 2))
        self._has_cameras = np.zeros(len(self.scenes), dtype=bool)
        self._open: OrderedDict[tuple[int, int], dict[str, h5py.Dataset]] = OrderedDict()  # by process and shard
        # Of VIEWS and MASKS what is decoded, and its first row of each scene, -1 for those that are not there.
        self._memory: dict[str, tuple[Tensor, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return int(self._row[-1])

    def __getstate__(self) -> dict:
        # Handles cannot be pickled, and must not be shared over a fork.
        return self.__dict__ | {"_open": OrderedDict()}

    @property
    def is_in_memory(self) -> bool:
        """Whether all that batches carry has been decoded."""
        return self._carried() <= self._memory.keys()

    def _carried(self) -> set[str]:
        return {name for name, carried in ((VIEWS, self.with_images), (MASKS, self.with_masks)) if carried}

    def _shape(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, *self.index.image_size, *((3,) if name == VIEWS else ()))

    def bytes_of(self, scene_indices: Sequence[int]) -> int:
        """Bytes that ``load`` would take: all views of scenes, and their masks where batches carry them."""
        rows = int(np.diff(self._row)[list(scene_indices)].sum())
        return sum(math.prod(self._shape(name, rows)) for name in self._carried() - self._memory.keys())

    def verify(self, scene_indices: Sequence[int], quiet: bool = True) -> None:
        """Compare the files that hold scenes with their digests, each once.

        Raises:
            UsageError: A file is missing or damaged.
        """
        shards = sorted({int(self._shard[scene]) for scene in scene_indices} - self._verified)
        for shard in Progress(shards, desc="verifying", unit="file", disable=quiet or len(shards) < 2, leave=False):
            self._verify(shard)

    def load(self, scene_indices: Sequence[int], shared: bool = False, quiet: bool = True) -> None:
        """Decode once what batches carry of scenes, and keep it in memory; what is there already stays.

        Args:
            scene_indices: The scenes.
            shared: Keep them where loader processes can read them without a copy.
            quiet: Show no progress.
        """
        counts = np.diff(self._row)[list(scene_indices)].tolist()
        for name in sorted(self._carried() - self._memory.keys()):
            memory = torch.empty(self._shape(name, sum(counts)), dtype=torch.uint8)
            memory = memory.share_memory_() if shared else memory
            first_rows, values, row = np.full(len(self.scenes), -1), memory.numpy(), 0
            with Progress(total=len(memory), desc=f"decoding {name}", unit="view", disable=quiet, leave=False) as bar:
                for scene, count in zip(scene_indices, counts, strict=True):
                    self._read(name, np.full(count, scene), np.arange(count), values[row : row + count])
                    first_rows[scene] = row
                    row += count
                    bar.update(count)
            self._memory[name] = memory, first_rows

    def __getitems__(self, keys: Sequence[ViewKey]) -> ViewBatch:
        scene, view = np.ascontiguousarray(np.asarray(keys, dtype=np.int64).reshape(-1, 2).T)
        images = self._values(VIEWS, scene, view).permute(0, 3, 1, 2) if self.with_images else None
        masks = self._values(MASKS, scene, view) if self.with_masks else None
        masked = torch.from_numpy(self._masked[scene]) if self.with_masks else None
        places = torch.from_numpy(scene), torch.from_numpy(view)
        return ViewBatch(self._cameras_of(scene, view), *places, images, masks, masked, self.global_size)

    def __getitem__(self, key: ViewKey) -> ViewBatch:
        return self.__getitems__([key])

    # -- pixels and masks --------------------------------------------------------------------------------------------

    def _values(self, name: str, scene: NDArray[np.int64], view: NDArray[np.int64]) -> Tensor:
        """Views [B, H, W, 3] or masks [B, H, W], uint8."""
        if name in self._memory:
            memory, first_rows = self._memory[name]
            if (first_rows[scene] >= 0).all():
                return memory[torch.from_numpy(first_rows[scene] + view)]
        values = np.empty(self._shape(name, len(scene)), np.uint8)
        self._read(name, scene, view, values)
        return torch.from_numpy(values)

    def _read(self, name: str, scene: NDArray[np.int64], view: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fills ``out``, views or masks, file by file and from front to back; scenes without masks get zeros."""
        rows = self._pack_row[scene] + view
        for place in np.argsort(rows).tolist():
            shard = int(self._shard[scene[place]])
            if name == MASKS and not self._masked[scene[place]]:
                out[place] = 0
                continue
            try:
                # A list of indices would be 200 times slower than one view a read (h5py/h5py#293).
                out[place] = self._file(shard)[name][int(rows[place]) - self.index.shards[shard].first_view]
            except (OSError, KeyError) as error:
                scene_id = self.index.scene_ids[self.scenes[scene[place]]]
                raise UsageError(
                    f"{self.index.shards[shard].path}: view {view[place]} of scene {scene_id} cannot be read "
                    f"({error}): run scaled-ig check"
                ) from None

    def _file(self, shard: int) -> dict[str, h5py.Dataset]:
        """Views of a file, and masks where it has some, opened for this process."""
        key = (os.getpid(), shard)
        if key not in self._open:
            self._verify(shard)
            while len(self._open) >= OPEN_FILES:
                (owner, _), oldest = self._open.popitem(last=False)
                if owner == os.getpid():
                    oldest[VIEWS].file.close()
            file = self.index.shards[shard].open()
            names = (VIEWS, MASKS) if self.index.shards[shard].has_masks else (VIEWS,)
            self._open[key] = {name: file[name] for name in names}
        self._open.move_to_end(key)
        return self._open[key]

    def _verify(self, shard: int) -> None:
        if shard not in self._verified:
            self.index.shards[shard].verify()
            self._verified.add(shard)

    # -- cameras -----------------------------------------------------------------------------------------------------

    def same_camera(self, scene: int, views: Sequence[int], other_views: Sequence[int]) -> tuple[int, int] | None:
        """A view of a scene and one of ``other_views`` with the same pose and intrinsics, if there are such two."""
        every = np.array([*views, *other_views], dtype=np.int64)
        cameras = self._cameras_of(np.full(len(every), scene), every)
        rows = torch.cat([cameras.camera_to_world.flatten(1), cameras.intrinsics], 1).numpy()
        view_of_camera = {row.tobytes(): view for row, view in zip(rows, views, strict=False)}
        pairs = (
            (view_of_camera.get(row.tobytes()), view) for row, view in zip(rows[len(views) :], other_views, strict=True)
        )
        return next(((view, other_view) for view, other_view in pairs if view is not None), None)

    def _cameras_of(self, scene: NDArray[np.int64], view: NDArray[np.int64]) -> Cameras:
        if not self._has_cameras[scene].all():
            for shard in np.unique(self._shard[scene[~self._has_cameras[scene]]]).tolist():
                self._read_cameras(shard)
        return self._cameras[torch.from_numpy(self._row[scene] + view)]

    def _read_cameras(self, shard: int) -> None:
        """Keeps the cameras of all scenes of this set that lie in a shard."""
        first_view = self.index.shards[shard].first_view
        tables = [
            torch.from_numpy(self._file(shard)[VIEWS].file[name][:]) for name in (CAMERA_TO_WORLD, INTRINSICS, NEAR_FAR)
        ]
        for scene in np.flatnonzero(self._shard == shard).tolist():
            rows = slice(int(self._row[scene]), int(self._row[scene + 1]))
            start = int(self._pack_row[scene]) - first_view
            for values, table in zip(vars(self._cameras).values(), tables, strict=True):
                values[rows] = table[start : start + rows.stop - rows.start]
            self._has_cameras[scene] = True
