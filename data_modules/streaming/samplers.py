"""Which views are trained, in which order: a function of seed and epoch, whatever the number of ranks and workers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from scaled_ig.batch import ViewKey
from scaled_ig.distributed.ownership import num_shards, owned_scenes, scenes_of_shard, shards_of_rank
from scaled_ig.errors import LOADER_ENDED, UsageError


class SceneBatches:
    """Batches in which every group of neighbouring scenes has an equal part; a rank takes the views of its own scenes.

    A group is one virtual shard of scenes, or several where a batch has fewer visits than there are shards. An epoch
    has every (scene, view) once. Scenes take turns, so that the visits of a scene are spread evenly; short groups begin
    again until all have the same number of batches: ``padding`` counts the views seen again.

    Args:
        views: Training views of each scene.
        batch_size: Views of a global batch.
        views_per_scene: Views of a scene in a batch, so that its planes are mixed once for all of them.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seed of the order, one number or several.

    Raises:
        UsageError: The batch is not whole visits, or so small that a rank would have no part in it.
    """

    def __init__(
        self,
        views: Sequence[Sequence[int]],
        batch_size: int,
        views_per_scene: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int | tuple[int, ...] = 0,
    ) -> None:
        self.views, self.views_per_scene = views, views_per_scene
        self.seed = (seed,) if isinstance(seed, int) else seed
        if batch_size < 1 or views_per_scene < 1:
            raise UsageError(f"batch_size {batch_size} and views_per_scene {views_per_scene} must be positive")
        if batch_size % views_per_scene:
            raise UsageError(f"batch_size {batch_size} must be a multiple of views_per_scene {views_per_scene}")
        self._counts = np.array([len(scene_views) for scene_views in views])
        if not self._counts.all():
            raise UsageError(
                "a scene has no view to train on: lower --data.val_fraction, raise --data.train_views, pack more "
                "views of it, or leave it out"
            )
        self.owned = owned_scenes(len(views), rank, world_size)
        self.groups = _groups(len(views), batch_size // views_per_scene)
        self._require_a_part_for_all(batch_size, world_size)
        self.per_group = batch_size // self.groups
        self.epoch = self.skip = 0
        self.sampler = self  # Lightning calls batch_sampler.sampler.set_epoch

    def _require_a_part_for_all(self, batch_size: int, world_size: int) -> None:
        """Every rank needs one group that is wholly its own: else a batch could leave it without a view."""
        num_scenes = len(self.views)

        def suffice(groups: int) -> bool:
            shards = num_shards(num_scenes) // groups  # of a group
            shards_of_ranks = (shards_of_rank(num_scenes, rank, world_size) for rank in range(world_size))
            return all(-(-rank_shards.start // shards) < rank_shards.stop // shards for rank_shards in shards_of_ranks)

        if not suffice(self.groups):
            enough = self.groups
            while not suffice(enough):  # each shard a group is enough
                enough *= 2
            raise UsageError(
                f"batch_size {batch_size} with views_per_scene {self.views_per_scene} is too small for {world_size} "
                f"ranks to have a part in every batch: give a multiple of {enough * self.views_per_scene}"
            )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        k = self.views_per_scene
        visits = -(-self._counts // k)
        most = max(int(visits[self._scenes(group)].sum()) for group in range(self.groups))
        return -(-most * k // self.per_group)

    @property
    def padding(self) -> int:
        """Views that an epoch shows once more, over all ranks, so that all batches are whole."""
        return len(self) * self.per_group * self.groups - int(self._counts.sum())

    def __iter__(self) -> Iterator[list[ViewKey]]:
        size, batches = self.per_group, len(self)
        spans = [(group, self._scenes(group)) for group in range(self.groups)]
        mine = [group for group, s in spans if s.start < self.owned.stop and self.owned.start < s.stop]
        orders = [self._order(group, batches * size) for group in mine]
        skip, self.skip = self.skip, 0
        for batch in range(skip, batches):
            part = np.concatenate([order[batch * size : (batch + 1) * size] for order in orders])
            owned_views = part[(part[:, 0] >= self.owned.start) & (part[:, 0] < self.owned.stop)]
            yield [(scene, view) for scene, view in owned_views.tolist()]

    def _scenes(self, group: int) -> slice:
        """Scenes of a group: neighbouring shards."""
        num_scenes, shards = len(self.views), num_shards(len(self.views)) // self.groups
        first, last = (scenes_of_shard(num_scenes, shard) for shard in (group * shards, (group + 1) * shards - 1))
        return slice(first.start, last.stop)

    def _order(self, group: int, length: int) -> NDArray[np.int64]:
        """[length, 2] scene and view of each place; whole rounds over the group, the last one cut."""
        scenes = range(len(self.views))[self._scenes(group)]
        scene = np.repeat(scenes, self._counts[scenes])
        view = np.concatenate([np.asarray(self.views[s], dtype=np.int64) for s in scenes])
        rng = np.random.default_rng([*self.seed, self.epoch, group])
        rounds = -(-length // (self._visits(scene) * self.views_per_scene))
        return np.concatenate([self._round(scene, view, rng) for _ in range(rounds)])[:length]

    def _visits(self, scene: NDArray[np.int64]) -> int:
        return int((-(-np.unique(scene, return_counts=True)[1] // self.views_per_scene)).sum())

    def _round(self, scene: NDArray[np.int64], view: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Every view once, in visits of ``views_per_scene`` views of a scene; no scene comes again before its turn."""
        k = self.views_per_scene
        view = view[np.lexsort((rng.random(len(scene)), scene))]  # scene is ascending: views change places within it
        _, first, count = np.unique(scene, return_index=True, return_counts=True)
        visits = -(-count // k)
        turn = np.arange(visits.sum()) - np.repeat(np.cumsum(visits) - visits, visits)
        start = np.repeat(first, visits) + turn * k
        # A short last visit is filled up with its own views, so that visits stay aligned with batches.
        present = np.minimum(k, np.repeat(first + count, visits) - start)
        rows = start[:, None] + np.arange(k) % present[:, None]
        rows = rows[np.lexsort((rng.random(len(turn)), turn))].reshape(-1)
        return np.stack([scene[rows], view[rows]], axis=1)


def _groups(num_scenes: int, visits: int) -> int:
    """Groups of scenes that a batch of so many visits is dealt to: the largest power of two that divides both."""
    return math.gcd(num_shards(num_scenes), visits)


class ResumableLoader(DataLoader):
    """A loader that goes on within an epoch where a checkpoint left it."""

    _done = 0

    def __iter__(self):
        self._done = getattr(self.batch_sampler, "skip", 0)
        try:
            for batch in super().__iter__():
                self._done += 1
                yield batch
        except UsageError as error:  # a worker process wraps its traceback into the message
            raise UsageError(str(error).strip().rpartition("UsageError: ")[2]) from None
        except (ConnectionError, EOFError):  # while it handed over a batch
            if not self.num_workers:
                raise
            raise UsageError(LOADER_ENDED) from None

    def state_dict(self) -> dict[str, int]:
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        assert isinstance(self.batch_sampler, SceneBatches)
        self.batch_sampler.skip = state["done"] % len(self.batch_sampler)
