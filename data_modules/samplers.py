"""Which views are trained, in which order: a function of seed and epoch, whatever the number of ranks and workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from data_modules.views import ViewKey
from scaled_ig.errors import UsageError
from scaled_ig.ownership import num_shards, scenes_of_shard, shards_of_rank


class SceneBatches:
    """Batches in which each virtual shard of the scenes has an equal part, of which a rank takes those of its shards.

    An epoch has every (scene, view) once. Scenes take turns, so that the visits of a scene are spread evenly; short
    shards begin again until all have the same number of batches: ``padding`` counts the views seen again.

    Args:
        views: Training views of each scene.
        batch_size: Views of a global batch.
        views_per_scene: Views of a scene in a batch, so that its planes are mixed once for all of them.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seed of the order, one number or several.

    Raises:
        UsageError: The batch cannot be dealt to the shards in whole scenes, or those to the ranks.
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
        self.shards = num_shards(len(views))
        if batch_size < 1 or views_per_scene < 1:
            raise UsageError(f"batch_size {batch_size} and views_per_scene {views_per_scene} must be positive")
        if not all(map(len, views)):
            raise UsageError("a scene has no view to train on: pack more views of it, or leave it out")
        if batch_size % (self.shards * views_per_scene):
            raise UsageError(
                f"batch_size {batch_size} must be a multiple of {self.shards * views_per_scene}: "
                f"{self.shards} shards of scenes × views_per_scene {views_per_scene}"
            )
        self.per_shard = batch_size // self.shards
        self.mine = shards_of_rank(len(views), rank, world_size)
        self.epoch = self.skip = 0
        self.sampler = self  # Lightning calls batch_sampler.sampler.set_epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        k = self.views_per_scene
        visits = [sum(-(-len(self.views[s]) // k) for s in self._scenes(shard)) for shard in range(self.shards)]
        return -(-max(visits) * k // self.per_shard)

    @property
    def padding(self) -> int:
        """Views that an epoch shows once more, over all ranks, so that all batches are whole."""
        return len(self) * self.per_shard * self.shards - sum(map(len, self.views))

    def __iter__(self) -> Iterator[list[ViewKey]]:
        size, batches = self.per_shard, len(self)
        orders = [self._order(shard, batches * size) for shard in self.mine]
        skip, self.skip = self.skip, 0
        for batch in range(skip, batches):
            own = np.concatenate([order[batch * size : (batch + 1) * size] for order in orders])
            yield [(scene, view) for scene, view in own.tolist()]

    def _scenes(self, shard: int) -> range:
        return scenes_of_shard(len(self.views), shard)

    def _order(self, shard: int, length: int) -> NDArray[np.int64]:
        """[length, 2] scene and view of each place; whole rounds over the shard, the last one cut."""
        scenes = self._scenes(shard)
        scene = np.repeat(scenes, [len(self.views[s]) for s in scenes])
        view = np.concatenate([np.asarray(self.views[s], dtype=np.int64) for s in scenes])
        rng = np.random.default_rng([*self.seed, self.epoch, shard])
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

    def state_dict(self) -> dict[str, int]:
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        assert isinstance(self.batch_sampler, SceneBatches)
        self.batch_sampler.skip = state["done"] % len(self.batch_sampler)
