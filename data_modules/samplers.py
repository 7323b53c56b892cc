"""Which views are trained, in which order: a function of seed and epoch, the same on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader

from data_modules.views import ViewKey
from scaled_ig.errors import UsageError
from scaled_ig.ownership import num_shards, shards_of_rank


class SceneBatches:
    """Batches in which each virtual shard of the scenes has an equal part, of which a rank takes those of its shards.

    An epoch has every (scene, view) once. Scenes take turns, so that the visits of a scene are spread evenly; short
    shards begin again until all have the same number of batches.

    Args:
        views: Training views of each scene.
        batch_size: Views of a global batch.
        views_per_scene: Views of a scene in a batch, so that its planes are mixed once for all of them.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seed of the order.

    Raises:
        UsageError: The batch cannot be dealt to the shards in whole scenes.
    """

    def __init__(
        self,
        views: Sequence[Sequence[int]],
        batch_size: int,
        views_per_scene: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
    ) -> None:
        self.views, self.views_per_scene, self.seed = views, views_per_scene, seed
        self.shards = num_shards(len(views))
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
        visits = [
            sum(-(-len(v) // self.views_per_scene) for v in self.views[s :: self.shards]) for s in range(self.shards)
        ]
        return -(-max(visits) * self.views_per_scene // self.per_shard)

    def __iter__(self) -> Iterator[list[ViewKey]]:
        size, batches = self.per_shard, len(self)
        orders = [self._order(shard, batches * size) for shard in self.mine]
        skip, self.skip = self.skip, 0
        for batch in range(skip, batches):
            yield [key for order in orders for key in order[batch * size : (batch + 1) * size]]

    def _order(self, shard: int, length: int) -> list[ViewKey]:
        scenes = range(shard, len(self.views), self.shards)
        rng = np.random.default_rng([self.seed, self.epoch, shard])
        order: list[ViewKey] = []
        while len(order) < length:
            shuffled = {scene: rng.permutation(self.views[scene]) for scene in scenes}
            rounds = -(-max(map(len, shuffled.values())) // self.views_per_scene)
            for turn in range(rounds):
                for scene in rng.permutation(scenes).tolist():
                    chosen = shuffled[scene][turn * self.views_per_scene :][: self.views_per_scene]
                    if len(chosen):  # a short last visit is filled up, so that visits stay aligned with batches
                        chosen = np.resize(chosen, self.views_per_scene)
                    order += [(scene, int(view)) for view in chosen]
        return order[:length]


class ResumableLoader(DataLoader):
    """A loader that goes on within an epoch where a checkpoint left it."""

    _done = 0

    def __iter__(self):
        self._done = getattr(self.batch_sampler, "skip", 0)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        assert isinstance(self.batch_sampler, SceneBatches)
        self.batch_sampler.skip = state["done"] % len(self.batch_sampler)
