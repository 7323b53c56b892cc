"""What the data modules share: which scenes and views belong to which stage and split, and how they are streamed."""

from __future__ import annotations

import copy
import gc
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.layout import PackIndex
from data_modules.streaming.choice import SceneChoice
from data_modules.streaming.memory import available_bytes, available_shared_bytes
from data_modules.streaming.samplers import ResumableLoader, SceneBatches
from data_modules.streaming.stages import both_stages, deal_stages
from data_modules.streaming.views import PackViews
from scaled_ig.batch import ViewBatch, ViewKey
from scaled_ig.cameras import Cameras
from scaled_ig.distributed.agreement import together
from scaled_ig.distributed.cores import usable_cpus
from scaled_ig.distributed.ownership import owned_scenes, scenes_of_shard, shards_of_rank
from scaled_ig.errors import UsageError
from scaled_ig.progress import Progress
from scaled_ig.ranges import Count, PartBelowAll, Range, Seed, checked

READ_AHEAD = 2
"""Batches of each loader process that wait to be trained on."""
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class PhaseData:
    """What a phase trains on.

    Args:
        stage: 1 or 2: whose scenes.
        batch_size: Views of a global batch; as the data module has it where it is None.
        views_per_scene: Views of a scene in a batch; likewise.
        wave: Of stage 2, these scenes alone; all of them where it is None.
        order: Of the phase, a part of the seed of the order of views.
        with_images: Whether batches carry pixels.
        with_masks: Whether batches carry silhouettes.
    """

    stage: int = 1
    batch_size: int | None = None
    views_per_scene: int | None = None
    wave: range | None = None
    order: int = 0
    with_images: bool = True
    with_masks: bool = False


@checked
class MultiViewDataModule(LightningDataModule):
    """Posed views of a pack, dealt to two stages, three splits and any number of ranks.

    Args:
        path: Folder of the pack.
        stage1_scenes: N1, scenes of stage 1, or which; 0 where stage 1 was trained elsewhere.
        stage2_scenes: N2, other scenes, of stage 2, or which; all that are left where it is None.
        scenes: Part of the pack that the stages are dealt from; all of it where it is None.
        split_seed: Seed of the draw that deals shapes to stages; the pack's order is kept where it is None.
        batch_size: Views of a global batch.
        views_per_scene: Views of a scene in a batch.
        train_views: Most training views of a scene, spread evenly over those in the pack; all of them where it is None.
        val_fraction: Part of the training views that is not trained on but watched, where the scene's files name none.
        num_workers: Loader processes that read ahead; where it is None, none for views in memory, else up to 4.
        in_memory: Decode a stage's views once; ``auto`` does so where they fit into half of the free memory.
        seed: Seed of the order of views.
    """

    how_to_get: ClassVar[str]  # the commands that make such a pack

    def __init__(
        self,
        path: str,
        stage1_scenes: Annotated[int, Range(0, 1_000_000)] | SceneChoice = 500,
        stage2_scenes: Count | SceneChoice | None = None,
        scenes: SceneChoice | None = None,
        split_seed: Seed | None = 0,
        batch_size: Count = 32,
        views_per_scene: Count = 1,
        train_views: Count | None = None,
        val_fraction: PartBelowAll = 0.0,
        num_workers: Annotated[int, Range(0, 256)] | None = None,
        in_memory: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.path, self.choice, self.split_seed = path, scenes, split_seed
        self.stage1_scenes, self.stage2_scenes = stage1_scenes, stage2_scenes
        self.batch_size, self.views_per_scene = batch_size, views_per_scene
        self.train_views, self.val_fraction = train_views, val_fraction
        self.num_workers, self.in_memory, self.seed = num_workers, in_memory, seed
        self.phase = PhaseData()
        self._index: PackIndex | None = None
        self._views: dict[tuple[int, range | None], PackViews] = {}  # of a stage, or of a wave of stage 2
        self._stages: dict[int, list[int]] = {}

    def for_phase(self, phase: PhaseData) -> Self:
        """A data module that yields what a phase trains on; this one stays as it is. Both share what is in memory."""
        clone = copy.copy(self)
        clone.phase = phase
        clone.batch_size = phase.batch_size or self.batch_size
        clone.views_per_scene = phase.views_per_scene or self.views_per_scene
        return clone

    def of(self, choice: SceneChoice) -> Self:
        """A data module of other scenes of the pack; this one stays as it is."""
        clone = copy.copy(self)
        clone.choice, clone._views, clone._stages = choice, {}, {}
        return clone

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
            UsageError: The pack has too few scenes, or the stages would share some.
        """
        if not self._stages:
            everything = list(range(self.index.num_scenes))
            pool = everything if self.choice is None else self.choice.scenes(self.index, everything)
            self._stages = deal_stages(self.index, pool, self.stage1_scenes, self.stage2_scenes, self.split_seed)
        least = {1: self.stage1_scenes, 2: self.stage2_scenes or 1}[stage]
        if isinstance(least, int) and len(self._stages[stage]) < least:
            raise UsageError(
                f"{self.path} has {self.index.num_scenes} scenes, too few for stage1_scenes {self.stage1_scenes} and "
                f"stage2_scenes {self.stage2_scenes}: lower --data.stage{stage}_scenes, such as "
                f"{both_stages(self.index)}, or pack more"
            )
        scenes = self._stages[stage]
        if not scenes:
            raise UsageError(f"{self.path}: data.stage{stage}_scenes leaves stage {stage} without a scene: raise it")
        wave = self.phase.wave
        return scenes if wave is None or stage == 1 else scenes[wave.start : wave.stop]

    def scene_ids(self, stage: int) -> list[str]:
        """Ids of a stage's scenes."""
        return [self.index.scene_ids[scene] for scene in self.scenes(stage)]

    def scene_digests(self, stage: int) -> list[str]:
        """Digests of the content of a stage's scenes."""
        return [self.index.digests[scene] for scene in self.scenes(stage)]

    def scene_categories(self, stage: int) -> list[str]:
        """Categories of a stage's scenes."""
        return [self.index.categories[scene] for scene in self.scenes(stage)]

    def scene_licences(self, stage: int) -> list[str]:
        """Licences of a stage's scenes as their sources name them; empty where they do not.

        Raises:
            UsageError: A shard cannot be read.
        """
        return self.index.licences(self.scenes(stage))

    def split(self, stage: int, split: Split) -> list[list[int]]:
        """Views of each scene of a stage in a split. Scenes that are split alike share a list."""
        scenes, shared = self.scenes(stage), {}
        alike = [(int(self.index.num_views[scene]), self.index.held_out[scene]) for scene in scenes]
        for scene, key in zip(scenes, alike, strict=True):
            if key not in shared:
                shared[key] = self._split_scene(scene, split)
        return [shared[key] for key in alike]

    def _split_scene(self, scene: int, split: Split) -> list[int]:
        """Views of a scene of the pack in a split."""
        train, test = self.index.split(scene)
        if split == "test":
            return test.tolist()
        named = self.index.held_out[scene][1]
        val, train = train[:named], train[named:]
        if self.train_views is not None and self.train_views < len(train):
            train = train[np.arange(self.train_views) * len(train) // self.train_views]
        if not named and (watched := int(-(-len(train) * self.val_fraction // 1))):
            every = len(train) / watched
            val = train[[int(i * every) for i in range(watched)]]
            train = np.setdiff1d(train, val)
        return (val if split == "val" else train).tolist()

    # -- streams -----------------------------------------------------------------------------------------------------

    def views(self, stage: int) -> PackViews:
        """All views of a stage; those of this rank's scenes are verified, and in memory where they fit."""
        key = stage, self.phase.wave if stage == 2 else None
        if key not in self._views:
            if self._views:
                self._views.clear()
                gc.collect()  # the last Trainer is a cycle that holds the other stage's memory
            views, owned = PackViews(self.index, self.scenes(stage)), self.own_scenes(stage)
            views.verify(owned, quiet=not self._shows_progress())
            self._load(views, owned)
            self._views[key] = views
        return self._views[key]

    def _load(self, views: PackViews, owned: range) -> None:
        """Decodes what batches carry, where it fits."""
        needed = views.bytes_of(owned)
        if self.in_memory is True and self.num_workers and needed > available_shared_bytes():
            raise UsageError(
                f"views of {needed:,} bytes have no room in shared memory (/dev/shm): enlarge it (docker --shm-size), "
                "or give --data.num_workers 0 or --data.in_memory false"
            )
        if self.in_memory is True or (self.in_memory == "auto" and self._fits(needed)):
            views.load(owned, shared=bool(self.num_workers), quiet=not self._shows_progress())

    def _fits(self, needed: int) -> bool:
        needed *= self.trainer.num_devices if self.trainer else 1  # other ranks on this machine need as much
        shared = available_shared_bytes() if self.num_workers else needed
        return 2 * needed <= available_bytes() and needed <= shared

    def _shows_progress(self) -> bool:
        return bool(self.trainer and self.trainer.is_global_zero and self.trainer.progress_bar_callback)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def own_scenes(self, stage: int) -> range:
        """Scene indices of a stage that this rank owns."""
        return owned_scenes(len(self.scenes(stage)), *self._rank())

    def batches(
        self, stage: int, keys: Iterable[ViewKey], batch_size: int = 32, title: str | None = None
    ) -> Iterator[ViewBatch]:
        """Given views in order, with images; a progress bar of this title, if any, on the first rank."""
        views, keys = self.views(stage), list(keys)
        quiet = title is None or not self._shows_progress()
        with Progress(total=len(keys), desc=title, unit="view", disable=quiet, leave=False) as bar:
            for start in range(0, len(keys), batch_size):
                yield views.__getitems__(keys[start : start + batch_size])
                bar.update(min(batch_size, len(keys) - start))

    def views_of(self, stage: int, ids: Sequence[str], split: Split, batch_size: int = 32) -> Iterator[ViewBatch]:
        """Views of some scenes of a stage, which are numbered as they are given.

        Raises:
            UsageError: The stage has no such scene.
        """
        place = {name: scene for scene, name in enumerate(self.scene_ids(stage))}
        missing = next((name for name in ids if name not in place), None)
        if missing is not None:
            raise UsageError(f"{self.path}: stage {stage} has no scene {missing!r}: restore the pack")
        views, row = self.split(stage, split), torch.full((len(place),), -1)
        row[[place[name] for name in ids]] = torch.arange(len(ids))
        keys = [(place[name], view) for name in ids for view in views[place[name]]]
        for batch in self.batches(stage, keys, batch_size):
            yield replace(batch, scene_index=row[batch.scene_index])

    def has_masks(self, stage: int) -> bool:
        """Whether any scene of a stage has masks."""
        return any(self.index.masked[row] for row in self.scenes(stage))

    def masks_of(self, stage: int, scene: int) -> tuple[Tensor, Cameras] | None:
        """Masks of a scene's training views, uint8 [V, H, W], and their cameras; None where the scene has no masks.

        Args:
            stage: 1 or 2.
            scene: Index of the scene within the stage.
        """
        batch = self._masked_views(stage, scene, with_images=False)
        if batch is None:
            return None
        assert batch.masks is not None
        return batch.masks, batch.cameras

    def _masked_views(self, stage: int, scene: int, with_images: bool) -> ViewBatch | None:
        """Training views of a scene with masks; None where it has none."""
        row = self.scenes(stage)[scene]
        if not self.index.masked[row]:
            return None
        views = copy.copy(self.views(stage))
        views.with_images, views.with_masks = with_images, True
        return views.__getitems__([(scene, view) for view in self._split_scene(row, "train")])

    def silhouettes(
        self, stage: int, scenes: Sequence[int], title: str
    ) -> Iterator[tuple[int, tuple[Tensor, Cameras] | None]]:
        """Scenes of a stage, each with what ``masks_of`` says of it; a progress bar on the first rank."""
        for scene in Progress(scenes, title, unit="scene", disable=not self._shows_progress(), leave=False):
            yield scene, self.masks_of(stage, scene)

    def masked_views(self, stage: int, title: str) -> Iterator[tuple[int, ViewBatch | None]]:
        """This rank's scenes of a stage, each with its training views, which have images and masks, or None.

        A scene without masks has None; a progress bar of this title on the first rank.
        """
        for scene in Progress(
            self.own_scenes(stage), title, unit="scene", disable=not self._shows_progress(), leave=False
        ):
            yield scene, self._masked_views(stage, scene, with_images=True)

    def own_views(self, stage: int, split: Split, at_most: int | None = None) -> list[ViewKey]:
        """Views of this rank's scenes, out of all or of ``at_most`` that are spread evenly over all scenes."""
        views, owned = self.split(stage, split), self.own_scenes(stage)
        if at_most is None:
            return [(scene, view) for scene in owned for view in views[scene]]
        return [key for key in _spread(views, at_most) if key[0] in owned]

    def own_training_shards(self) -> dict[int, list[ViewKey]]:
        """Training views of the phase in each virtual shard of scenes that this rank owns."""
        views = self.split(self.phase.stage, "train")
        shards = shards_of_rank(len(views), *self._rank())
        return {s: [(scene, v) for scene in scenes_of_shard(len(views), s) for v in views[scene]] for s in shards}

    def some_training_views(self, count: int) -> Iterator[ViewBatch]:
        """About ``count`` training views of all scenes, spread evenly, the same on every rank."""
        return self.batches(self.phase.stage, _spread(self.split(self.phase.stage, "train"), count))

    def sampler(self) -> SceneBatches:
        """This rank's batches of the phase's training views.

        Raises:
            UsageError: The batch cannot be dealt to the shards of scenes, or those to the ranks.
        """
        views = self.split(self.phase.stage, "train")
        return SceneBatches(
            views, self.batch_size, self.views_per_scene, *self._rank(), seed=(self.seed, self.phase.order)
        )

    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self.sampler())

    def train_dataloader(self) -> DataLoader:
        """Training batches of the phase."""
        views = together(self._wanted_views)
        workers = self._workers(views) if views.with_images or views.with_masks else 0
        workers = together(lambda: self._require_room(views, workers))
        return ResumableLoader(
            views,
            batch_sampler=self.sampler(),
            collate_fn=_as_is,
            num_workers=workers,
            worker_init_fn=_begin_worker,
            prefetch_factor=READ_AHEAD if workers else None,
            persistent_workers=workers > 0,
            pin_memory=bool(self.trainer and self.trainer.strategy.root_device.type == "cuda"),
        )

    def _wanted_views(self) -> PackViews:
        """The phase's views without leaks."""
        views = copy.copy(self.views(self.phase.stage))
        self._refuse_leaks(views)
        views.with_images, views.with_masks = self.phase.with_images, self.phase.with_masks
        views.global_size = self.batch_size
        self._load(views, self.own_scenes(self.phase.stage))  # the masks; images are there by now, if they fit
        return views

    def _workers(self, views: PackViews) -> int:
        if self.num_workers is not None:
            return self.num_workers
        ranks = self.trainer.num_devices if self.trainer else 1
        return 0 if views.is_in_memory else min(4, usable_cpus() // ranks)

    def _require_room(self, views: PackViews, workers: int) -> int:
        """So many loader processes, or none where what they read ahead has no room and nobody has asked for them.

        Raises:
            UsageError: They were asked for.
        """
        size = self.index.image_size
        view_bytes = size[0] * size[1] * (3 * 4 * views.with_images + views.with_masks)
        needed = workers * (READ_AHEAD + 1) * self.batch_size // self._rank()[1] * view_bytes
        room = available_shared_bytes() // (self.trainer.num_devices if self.trainer else 1)
        if not workers or needed <= room:
            return workers
        if self.num_workers is None:
            return 0
        raise UsageError(
            f"{workers} loader processes read {needed:,} bytes ahead, and shared memory (/dev/shm) has {room:,}: "
            "enlarge it (docker --shm-size), or give --data.num_workers 0"
        )

    def _refuse_leaks(self, views: PackViews) -> None:
        """No view may be trained on whose camera is that of a test view: it is the same picture."""
        train, test = (self.split(self.phase.stage, split) for split in ("train", "test"))
        for scene in self.own_scenes(self.phase.stage):
            same = views.same_camera(scene, train[scene], test[scene])
            if same:
                name = self.scene_ids(self.phase.stage)[scene]
                raise UsageError(
                    f"scene {name}: test view {same[1]} and training view {same[0]} have "
                    "the same camera: pack it without one of them, or leave it out with scaled-ig check --fix-drop"
                )


def _spread(views: list[list[int]], count: int) -> list[ViewKey]:
    """``count`` views, spread evenly over those of all scenes."""
    first = np.cumsum([0, *map(len, views)])
    count = min(count, int(first[-1]))
    places = np.arange(count) * first[-1] // count
    scenes = np.searchsorted(first, places, side="right") - 1
    return [(s, views[s][p]) for s, p in zip(scenes.tolist(), (places - first[scenes]).tolist(), strict=True)]


def _as_is(batch):
    return batch


def _begin_worker(worker: int) -> None:
    """A worker that cannot hand over a batch ends, which its trainer notices: it would wait for ever otherwise.

    Workers load on for a while: a signal to all processes of a job is its trainer's, which finishes its step.
    """
    Queue._on_queue_feeder_error = staticmethod(lambda error, batch: os._exit(1))  # type: ignore[attr-defined]
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(30))
