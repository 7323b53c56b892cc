"""What the data modules share: which scenes and views belong to which stage and split, and how they are streamed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from data_modules.layout import PackIndex, read_source_records, split_views
from data_modules.samplers import ResumableLoader, SceneBatches
from data_modules.views import PackViews, ViewKey
from scaled_ig.batch import ViewBatch
from scaled_ig.errors import UsageError
from scaled_ig.ownership import owned_scenes

Split = Literal["train", "val", "test"]

_AUTO_MEMORY_BYTES = 4 << 30


class MultiViewDataModule(LightningDataModule):
    """Posed views of a pack, dealt to two stages, three splits and any number of ranks.

    Args:
        path: Folder of the pack.
        stage1_scenes: N1, scenes of stage 1.
        stage2_scenes: N2, other scenes, of stage 2; all that are left where it is None.
        split_seed: Seed of the draw that deals shapes to stages; the pack's order is kept where it is None.
        batch_size: Views of a global batch.
        views_per_scene: Views of a scene in a batch.
        val_fraction: Part of the training views that is not trained on but watched.
        num_workers: Loader processes.
        in_memory: Decode all views once; ``auto`` does so where a stage's views fit into 4 GiB.
        seed: Seed of the order of views.
    """

    how_to_get: ClassVar[str]  # the commands that make such a pack

    def __init__(
        self,
        path: str,
        stage1_scenes: int = 500,
        stage2_scenes: int | None = None,
        split_seed: int | None = 0,
        batch_size: int = 32,
        views_per_scene: int = 1,
        val_fraction: float = 0.0,
        num_workers: int = 0,
        in_memory: bool | Literal["auto"] = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.path, self.stage1_scenes, self.stage2_scenes, self.split_seed = (
            path,
            stage1_scenes,
            stage2_scenes,
            split_seed,
        )
        self.batch_size, self.views_per_scene, self.val_fraction = batch_size, views_per_scene, val_fraction
        self.num_workers, self.in_memory, self.seed = num_workers, in_memory, seed
        self.stage = 1
        self._index: PackIndex | None = None
        self._views: dict[int, PackViews] = {}
        self._stages: dict[int, list[int]] = {}

    # -- scenes and views --------------------------------------------------------------------------------------------

    @property
    def index(self) -> PackIndex:
        """The pack.

        Raises:
            UsageError: There is none at ``path``; the message says how to make one.
        """
        if self._index is None:
            try:
                self._index = PackIndex.open(self.path)
            except UsageError as error:
                raise UsageError(f"{error}. To make one: {self.how_to_get}") from None
        return self._index

    def scenes(self, stage: int) -> list[int]:
        """Scenes of the pack that a stage trains. No shape is in both stages: variants stay with their shape.

        Raises:
            UsageError: The pack has too few scenes.
        """
        if not self._stages:
            self._stages = self._deal()
        stages = self._stages
        wanted = {1: self.stage1_scenes, 2: self.stage2_scenes or 1}
        if len(stages[stage]) < wanted[stage]:
            raise UsageError(
                f"{self.path} has {self.index.num_scenes} scenes, too few for stage1_scenes {self.stage1_scenes} and "
                f"stage2_scenes {self.stage2_scenes}: lower --data.stage{stage}_scenes or pack more"
            )
        return stages[stage]

    def _deal(self) -> dict[int, list[int]]:
        shapes: dict[str, list[int]] = {}
        for scene, record in enumerate(read_source_records(self.index)):
            shapes.setdefault(str(record.get("shape", self.index.scene_ids[scene])), []).append(scene)
        order = list(shapes)
        if self.split_seed is not None:
            order = np.random.default_rng(self.split_seed).permutation(sorted(shapes)).tolist()
        stages: dict[int, list[int]] = {1: [], 2: []}
        for shape in order:
            stages[1 if len(stages[1]) < self.stage1_scenes else 2] += shapes[shape]
        return {1: stages[1][: self.stage1_scenes], 2: stages[2][: self.stage2_scenes]}

    def scene_ids(self, stage: int) -> list[str]:
        """Ids of a stage's scenes."""
        return [self.index.scene_ids[scene] for scene in self.scenes(stage)]

    def split(self, stage: int, split: Split) -> list[list[int]]:
        """Views of each scene of a stage in a split."""
        return [self._split_scene(int(self.index.num_views[scene]), split) for scene in self.scenes(stage)]

    def _split_scene(self, num_views: int, split: Split) -> list[int]:
        train, test = split_views(num_views, self.index.split_rule)
        if split == "test":
            return test.tolist()
        watched = -(-len(train) * self.val_fraction // 1)
        every = len(train) / watched if watched else 0
        val = {int(train[int(i * every)]) for i in range(int(watched))}
        return [view for view in train.tolist() if (view in val) == (split == "val")]

    # -- streams -----------------------------------------------------------------------------------------------------

    def views(self, stage: int) -> PackViews:
        """All views of a stage."""
        if stage not in self._views:
            self._views.clear()
            views = self._views[stage] = PackViews(self.index, self.scenes(stage))
            height, width = self.index.image_size
            fits = len(views) * height * width * 3 <= _AUTO_MEMORY_BYTES
            if self.in_memory is True or (self.in_memory == "auto" and fits):
                views.load(self._owned(stage))
        return self._views[stage]

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _owned(self, stage: int) -> list[int]:
        return owned_scenes(len(self.scenes(stage)), *self._rank()).tolist()

    def batches(self, stage: int, keys: Iterable[ViewKey], batch_size: int = 32) -> Iterator[ViewBatch]:
        """Given views in order, with images."""
        views, keys = self.views(stage), list(keys)
        for start in range(0, len(keys), batch_size):
            yield views.__getitems__(keys[start : start + batch_size])

    def own_views(self, stage: int, split: Split, at_most: int | None = None) -> list[ViewKey]:
        """Views of this rank's scenes, out of all or of ``at_most`` that are spread evenly over all scenes."""
        keys = [(scene, view) for scene, views in enumerate(self.split(stage, split)) for view in views]
        owned = set(self._owned(stage))
        return [key for key in _spread(keys, at_most or len(keys)) if key[0] in owned]

    def own_training_views(self) -> Iterator[ViewBatch]:
        """All training views of this rank's scenes, once."""
        return self.batches(self.stage, self.own_views(self.stage, "train"))

    def some_training_views(self, count: int) -> Iterator[ViewBatch]:
        """About ``count`` training views of all scenes, spread evenly, the same on every rank."""
        keys = [(scene, view) for scene, views in enumerate(self.split(self.stage, "train")) for view in views]
        return self.batches(self.stage, _spread(keys, count))

    def sampler(self, stage: int, batch_size: int, views_per_scene: int) -> SceneBatches:
        """This rank's batches of a stage's training views.

        Raises:
            UsageError: The batch cannot be dealt to the shards of scenes, or those to the ranks.
        """
        rank, world = self._rank()
        return SceneBatches(self.split(stage, "train"), batch_size, views_per_scene, rank, world, self.seed)

    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self.sampler(self.stage, self.batch_size, self.views_per_scene))

    def train_dataloader(self) -> DataLoader:
        """Training batches of the present stage; without images where the phase trains from cached latents."""
        views = copy.copy(self.views(self.stage))
        phase = self.trainer.lightning_module if self.trainer else None
        views.with_images = getattr(phase, "needs_images", True)
        return ResumableLoader(
            views,
            batch_sampler=self.sampler(self.stage, self.batch_size, self.views_per_scene),
            collate_fn=_as_is,
            num_workers=self.num_workers if views.with_images else 0,
            persistent_workers=self.num_workers > 0 and views.with_images,
            pin_memory=bool(self.trainer and self.trainer.strategy.root_device.type == "cuda"),
        )


def _spread(keys: list[ViewKey], count: int) -> list[ViewKey]:
    count = min(count, len(keys))
    return [keys[i * len(keys) // count] for i in range(count)]


def _as_is(batch):
    return batch
