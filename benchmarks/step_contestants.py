"""Contestants of benchmarks of a step on the CPU."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.naive import NaiveScenes
from benchmarks.step_batches import SIZE, Batch, draw_batch
from scaled_ig.optim import Clock, SceneAdam
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.renderer import Jitter
from scaled_ig.scene_model import SceneModel

RATE, SCENE_RATE = 1e-2, 6.0  # of Adam; factor for scenes with a clock of their own (docs/method.md 5)
PARTS = ("catch up", "mix and render", "unmix", "optimiser")


def naive_loss(naive: NaiveScenes, batch: Batch, noise: CounterNoise) -> Tensor:
    """Its loss at the samples that ours takes."""
    u = noise.uniform(batch.ray_ids, 48, 0), noise.uniform(batch.ray_ids, 48, 1)
    return naive.loss(batch.scene_index, batch.cameras.rays(SIZE), u, batch.target)


def our_loss(model: SceneModel, batch: Batch, noise: CounterNoise) -> Tensor:
    return model.rendering_loss(batch.cameras, batch.scene_index, batch.target, Jitter(noise, batch.ray_ids))


class NaiveSteps:
    """Steps of the naive method.

    Args:
        model: Where it starts.
        num_scenes: Of which batches are drawn.
        optimise: Step all parameters with dense Adam; else stop at the gradients.
    """

    def __init__(self, model: SceneModel, num_scenes: int, optimise: bool) -> None:
        self.naive, self.num_scenes = NaiveScenes(model), num_scenes
        self.adam = torch.optim.Adam(self.naive.parameters(), lr=RATE) if optimise else None
        self.count = 0

    def __call__(self, views_per_scene: int) -> None:
        batch = draw_batch(self.count, self.num_scenes, views_per_scene)
        self.naive.zero_grad()
        naive_loss(self.naive, batch, CounterNoise(0, 0, self.count)).backward()
        if self.adam is not None:
            self.adam.step()
        self.count += 1


class OurSteps:
    """Steps of ours, as a phase takes them; keeps the seconds of their parts.

    Args:
        model: Where it starts.
        num_scenes: Of which batches are drawn.
        clock: Of the optimiser; None stops at the gradients.
    """

    def __init__(self, model: SceneModel, num_scenes: int, clock: Clock | None, rate: float = RATE) -> None:
        self.model, self.num_scenes, self.count = model, num_scenes, 0
        self.parts: dict[str, list[float]] = {}
        tables = model.representation.scene_tables()
        groups = [{"name": name, "params": [table.weight], "lr": rate, "rows": True} for name, table in tables.items()]
        shared = [*model.representation.shared_parameters().values(), *model.renderer.head.parameters()]
        self.adam = SceneAdam([*groups, {"name": "shared", "params": shared, "lr": RATE}], clock or "per_scene")
        self.optimise = clock is not None

    def begin_within_an_epoch(self, scenes_per_step: int) -> None:
        """As if every scene had been seen, each another number of steps ago, so that rows have to catch up."""
        generator, epoch = torch.Generator().manual_seed(0), max(2, self.num_scenes // scenes_per_step)
        for group in self.adam.param_groups:
            if group["rows"]:
                group["t"], group["rates"] = 2 * epoch, [RATE] * 2 * epoch
                state = self.adam.state[group["params"][0]]
                state["step"] += group["t"] - torch.randint(epoch, (self.num_scenes,), generator=generator)
                state["exp_avg"].fill_(1e-6)
                state["exp_avg_sq"].fill_(1e-10)

    def __call__(self, views_per_scene: int) -> None:
        self.step(draw_batch(self.count, self.num_scenes, views_per_scene))

    def step(self, batch: Batch) -> float:
        """Loss before the step."""
        laps = [time.process_time()]
        self.adam.zero_grad()
        if self.optimise:
            scenes = batch.scene_index.unique()
            for table in self.model.representation.scene_tables().values():
                self.adam.catch_up(table.weight, table.row_of(scenes))
        laps.append(time.process_time())
        loss = our_loss(self.model, batch, CounterNoise(0, 0, self.count))
        laps.append(time.process_time())
        loss.backward()
        laps.append(time.process_time())
        if self.optimise:
            self.adam.step()
        laps.append(time.process_time())
        self.count += 1
        for name, (first, last) in zip(PARTS, pairwise(laps), strict=True):
            self.parts.setdefault(name, []).append(last - first)
        return float(loss.detach())

    def milliseconds(self) -> dict[str, float]:
        """Median of each part."""
        return {name: 1e3 * statistics.median(laps) for name, laps in self.parts.items()}
