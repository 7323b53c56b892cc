"""G3: a step of latent supervision on a GPU against benchmarks/naive.py, and the renderer against the plain one.

Batches lie on the device. Ours is what a phase does: rows catch up, the loss with its gradients, the optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_contest import Bench, relative_difference
from benchmarks.naive import NaiveScenes, channels_first
from benchmarks.step_batches import SIZE, Batch, draw_batch, make_model
from benchmarks.step_contestants import RATE, SCENE_RATE, naive_loss, our_loss
from scaled_ig.optim import Clock, SceneAdam
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.kernels import choose_kernel, reference
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

VIEWS_PER_SCENE = 4
LEARNED, STEPS = 16, 400  # scenes and steps of the check of quality


def on_device(batch: Batch, device: torch.device) -> Batch:
    tensors = {name: getattr(batch, name).to(device) for name in ("cameras", "scene_index", "ray_ids", "target")}
    return Batch(**tensors)


def draw_batches(bench: Bench, num_scenes: int, count: int = 8) -> list[Batch]:
    return [on_device(draw_batch(seed, num_scenes, VIEWS_PER_SCENE), bench.device) for seed in range(count)]


class Naive:
    """Steps of the naive method: dense gradients, PyTorch's Adam over all scenes."""

    def __init__(self, model: SceneModel, batches: list[Batch]) -> None:
        self.scenes = NaiveScenes(model).to(model.background.device)
        self.adam = torch.optim.Adam(self.scenes.parameters(), lr=RATE)
        self.batches, self.count = batches, 0

    def __call__(self) -> None:
        self.adam.zero_grad()
        batch = self.batches[self.count % len(self.batches)]
        naive_loss(self.scenes, batch, CounterNoise(0, 0, self.count)).backward()
        self.adam.step()
        self.count += 1

    def loss(self, batch: Batch) -> float:
        with torch.no_grad():
            return float(naive_loss(self.scenes, batch, CounterNoise(1)))


class Ours:
    """Steps of ours."""

    def __init__(self, model: SceneModel, batches: list[Batch], clock: Clock) -> None:
        self.model, self.batches, self.count = model, batches, 0
        self.tables = model.representation.scene_tables()
        rate = RATE * (SCENE_RATE if clock == "per_scene" else 1)
        groups: list[dict[str, Any]] = [
            {"name": name, "params": [table.weight], "lr": rate, "rows": True} for name, table in self.tables.items()
        ]
        shared = [*model.representation.shared_parameters().values(), *model.renderer.head.parameters()]
        self.adam = SceneAdam([*groups, {"name": "shared", "params": shared, "lr": RATE}], clock)

    def begin_within_an_epoch(self) -> Ours:
        """As if every scene had been seen, each another number of steps ago, so that rows have to catch up."""
        for group in self.adam.param_groups:
            if group["rows"]:
                (table,) = group["params"]
                epoch = max(2, len(table) * VIEWS_PER_SCENE // 32)
                group["t"], group["rates"] = 2 * epoch, [RATE] * 2 * epoch
                state = self.adam.state[table]
                state["step"] += group["t"] - torch.randint(epoch, (len(table),), device=table.device)
                state["exp_avg"].fill_(1e-6)
                state["exp_avg_sq"].fill_(1e-10)
        return self

    def __call__(self) -> None:
        self.adam.zero_grad()
        batch = self.batches[self.count % len(self.batches)]
        scenes = batch.scene_index.unique()
        for table in self.tables.values():
            self.adam.catch_up(table.weight, table.row_of(scenes))
        our_loss(self.model, batch, CounterNoise(0, 0, self.count)).backward()
        self.adam.step()
        self.count += 1

    def loss(self, batch: Batch) -> float:
        self.adam.flush()
        with torch.no_grad():
            return float(our_loss(self.model, batch, CounterNoise(1)))


def gradient_difference(bench: Bench) -> float:
    """Largest difference of a gradient between ours and the naive method, at identical samples, in full float32."""
    model, (batch,) = make_model(32).to(bench.device), draw_batches(bench, 32, 1)
    naive, scenes, noise = NaiveScenes(model).to(bench.device), model.representation, CounterNoise(0)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    naive_loss(naive, batch, noise).backward()
    our_loss(model, batch, noise).backward()
    torch.set_float32_matmul_precision(precision)
    assert isinstance(scenes, MicroMacro)
    rows = {name: table.weight.grad.to_dense() for name, table in scenes.scene_tables().items()}
    pairs = [
        (channels_first(rows["micro"]), naive.micro),
        (rows["mixing"], naive.mixing),
        (channels_first(scenes.bases.grad), naive.bases),
        (model.renderer.head.hidden.weight.grad, naive.hidden.weight),
        (model.renderer.head.out.weight.grad, naive.out.weight),
    ]
    return max(relative_difference(ours, theirs.grad) for ours, theirs in pairs if theirs.grad is not None)


def see_balls(batch: Batch, num_scenes: int) -> Batch:
    """Latents of scenes that can be learned: each has three balls of flat values, 0 behind them."""
    generator = torch.Generator().manual_seed(2)
    device = batch.target.device
    centres = (0.5 * torch.rand(num_scenes, 3, 3, generator=generator) - 0.25).to(device)[batch.scene_index]
    values = (1.6 * torch.rand(num_scenes, 3, 4, generator=generator) - 0.8).to(device)[batch.scene_index]
    rays = batch.cameras.rays(SIZE)
    offset = rays.origins[:, :, None] - centres[:, None]  # [B, R, 3 balls, 3]
    along = (offset * rays.directions[:, :, None]).sum(-1)
    chord = along.square() - offset.square().sum(-1) + 0.2**2
    depth = torch.where(chord > 0, -along - chord.clamp(min=0).sqrt(), torch.inf)
    nearest = depth.argmin(-1, keepdim=True)
    seen = values.gather(1, nearest.expand(-1, -1, 4))
    return replace(batch, target=torch.where(depth.amin(-1, keepdim=True) < torch.inf, seen, 1.0))


def quality(bench: Bench) -> dict[str, float]:
    """PSNR of views that were not trained on, after as many steps of either, dB."""
    batches = [see_balls(batch, LEARNED) for batch in draw_batches(bench, LEARNED, 17)]
    *seen, unseen = batches
    contestants: dict[str, Naive | Ours] = {
        "naive": Naive(make_model(LEARNED).to(bench.device), seen),
        "ours": Ours(make_model(LEARNED, recommended=True).to(bench.device), seen, "per_scene"),
    }
    for contestant in contestants.values():
        for _ in range(bench.size(STEPS, 1)):
            contestant()
    return {name: -10 * math.log10(contestant.loss(unseen) / 4) for name, contestant in contestants.items()}


def steps(bench: Bench) -> dict[str, Any]:
    """The rows ``G3`` and ``G3_equal_psnr``."""
    num_scenes = bench.size(500, 40)
    batches = draw_batches(bench, num_scenes)
    contestants: dict[str, Callable[[], None]] = {
        "naive": Naive(make_model(num_scenes).to(bench.device), batches),
        "ours": Ours(make_model(num_scenes).to(bench.device), batches, "exact_dense").begin_within_an_epoch(),
        "ours, recommended": Ours(make_model(num_scenes, True).to(bench.device), batches, "per_scene"),
    }
    times = bench.milliseconds(contestants)
    launches = {name: bench.launches(contestant) for name, contestant in contestants.items()}
    difference, psnr = gradient_difference(bench), quality(bench)
    shared = {"milliseconds": times, "launches": launches}
    return {
        "G3": {
            "work": f"a step of latent supervision of 32 views, {num_scenes} scenes, identical samples 48 + 48",
            "ratio": times["naive"] / times["ours"],
            "check": f"gradients within {difference:.0e} of the largest, {launches['ours']} launches",
            "passed": difference <= 1e-4,
            **shared,
        },
        "G3_equal_psnr": {
            "work": "the same, with the recommended samples and clock",
            "ratio": times["naive"] / times["ours, recommended"],
            "check": f"unseen views after {bench.size(STEPS, 1)} steps {psnr['ours']:.2f} dB, naive "
            f"{psnr['naive']:.2f}; {launches['ours, recommended']} launches",
            "passed": psnr["ours"] >= psnr["naive"],
            **shared,
        },
    }


def renderer(bench: Bench) -> dict[str, Any]:
    """The row ``G3_renderer``: a squared error and its gradients, 32 views of 8 scenes, one pass of 24 samples."""
    (batch,) = draw_batches(bench, 8, 1)
    model = make_model(8, recommended=True).to(bench.device)
    scenes, head, plan = model.representation, model.renderer.head, InsideBall(24)
    assert isinstance(scenes, MicroMacro)
    planes = scenes.planes(torch.arange(8, device=bench.device)).detach().requires_grad_()
    order = batch.scene_index.argsort(stable=True)
    rays = batch.cameras[order].rays(SIZE).flatten()
    t_near, t_far = plan.limits(rays)
    hit = (t_far > t_near).nonzero()[:, 0]
    slot = batch.scene_index[order].repeat_interleave(SIZE**2)[hit]
    target = (batch.target[order].flatten(0, 1)[hit] + 1) / 2
    bins = (torch.arange(24, device=bench.device) + 0.5) / 24
    t = t_near[hit, None] + (t_far - t_near)[hit, None] * bins
    inside = replace(rays[hit], origins=rays.origins[hit] / 0.5, directions=rays.directions[hit] / 0.5)
    background, wanted = model.background, [planes, *head.parameters()]

    def gradients(kernel: Any, table: Tensor) -> tuple[Tensor, ...]:
        given = PlaneRays(table, slot, inside, head, background, scenes.axes)
        return torch.autograd.grad(kernel.squared_error(given, t, Target(target)), wanted)

    fast = choose_kernel("fast", planes, head)
    contestants = {"plain": lambda: gradients(reference, planes), "fast": lambda: gradients(fast, planes)}
    if fast.serves(planes.bfloat16(), head):
        contestants["fast, planes in bfloat16"] = lambda: gradients(fast, planes.bfloat16())
    differences = {
        name: max(relative_difference(*pair) for pair in zip(contestant(), gradients(reference, planes), strict=True))
        for name, contestant in contestants.items()
    }
    times = bench.milliseconds(contestants)  # type: ignore[arg-type]
    told = ", ".join(f"{name} {value:.0e}" for name, value in differences.items() if name != "plain")
    return {
        "G3_renderer": {
            "work": f"squared error and gradients of {len(t)} rays of 24 samples, planes of 8 scenes",
            "ratio": times["plain"] / times["fast"],
            "check": f"largest difference of a gradient at this precision of products: {told}",
            "passed": differences["fast"] <= 1e-2,
            "milliseconds": times,
            "launches": {name: bench.launches(contestant) for name, contestant in contestants.items()},
        }
    }
