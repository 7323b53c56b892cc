"""G1 and G2: a step of latent supervision on the CPU, against benchmarks/naive.py: python -m benchmarks.step.

CPU time of one thread, contestants in turns, medians. The naive method has a process of its own, so that it gets
memory as PyTorch does by default; ours tells glibc to keep freed memory, and what the naive method gains from that
stands beside as ``ratio_same_allocator``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.contest import Elsewhere, in_turns, seconds
from benchmarks.naive import NaiveScenes, channels_first
from benchmarks.step_batches import CHANNELS, SIZE, VIEWS, Batch, draw_batch, learnable, make_model
from benchmarks.step_contestants import RATE, SCENE_RATE, NaiveSteps, OurSteps, naive_loss, our_loss
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.kernels import describe_kernel
from scaled_ig.representations import MicroMacro


def quality(steps: int, num_scenes: int = 16, rates: tuple[float, ...] = (1e-2, 6e-2)) -> dict[str, float]:
    """PSNR of unseen views after as many steps, dB: as recommended, and as in the papers at the best of some rates.

    The papers' way is computed by the fast kernel and the optimiser that the other checks find equal to the naive one.
    """
    batch, unseen = learnable(num_scenes)
    contestants = {"recommended": _recommended(num_scenes)} | {
        f"papers, rate {rate}": OurSteps(make_model(num_scenes), num_scenes, "exact_dense", rate) for rate in rates
    }
    psnr = {}
    for name, contestant in contestants.items():
        for step in range(steps):
            contestant.step(batch(step))
        psnr[name] = _psnr(contestant, unseen)
    return psnr | {"papers": max(value for name, value in psnr.items() if name != "recommended")}


@torch.no_grad()
def _psnr(contestant: OurSteps, views: Batch) -> float:
    contestant.adam.flush()
    loss = contestant.model.rendering_loss(views.cameras, views.scene_index, views.target)
    return -10 * math.log10(float(loss) / 4)


def _relative(ours: Tensor, theirs: Tensor | None) -> float:
    assert theirs is not None
    return float((ours - theirs).abs().max() / theirs.abs().max())


def worst_gradient(views_per_scene: int) -> float:
    """Largest difference of a gradient between ours and the naive method, relative to its largest value."""
    model, batch, noise = make_model(VIEWS), draw_batch(0, VIEWS, views_per_scene), CounterNoise(0)
    naive, scenes, head = NaiveScenes(model), model.representation, model.renderer.head
    naive_loss(naive, batch, noise).backward()
    our_loss(model, batch, noise).backward()
    assert isinstance(scenes, MicroMacro)
    rows = {name: table.weight.grad.to_dense() for name, table in scenes.scene_tables().items()}
    pairs = [
        (channels_first(rows["micro"]), naive.micro),
        (rows["mixing"], naive.mixing),
        (channels_first(scenes.bases.grad), naive.bases),
        *((own.grad, other) for own, other in zip(head.hidden.parameters(), naive.hidden.parameters(), strict=True)),
        *((own.grad, other) for own, other in zip(head.out.parameters(), naive.out.parameters(), strict=True)),
    ]
    return max(_relative(ours, other.grad) for ours, other in pairs)


def _naive_gradients() -> NaiveSteps:
    return NaiveSteps(make_model(VIEWS), VIEWS, optimise=False)


def g1(repeats: int = 5, views_per_scene: tuple[int, ...] = (1, 4, 16)) -> dict[str, Any]:
    """Render and backward of 32 views, all gradients, at identical samples; the ratio is the least of all rows."""
    elsewhere, rows = Elsewhere(_naive_gradients), []
    for views in views_per_scene:
        contestants = {
            "naive": partial(elsewhere, views),
            "naive, same allocator": partial(seconds, _naive_gradients(), views),
            "ours": partial(seconds, OurSteps(make_model(VIEWS), VIEWS, None), views),
        }
        times = in_turns(contestants, repeats, f"G1, {views} views a scene")
        rows.append({"views_per_scene": views, "worst_gradient": worst_gradient(views)} | _ratios(times))
    elsewhere.close()
    worst = max(row["worst_gradient"] for row in rows)
    ratios = ", ".join(f"{row['ratio']:.1f} at {row['views_per_scene']} views a scene" for row in rows)
    return {
        "work": f"render and backward of {VIEWS} views {SIZE}x{SIZE}x{CHANNELS}, identical samples 48 + 48",
        "ratio": min(row["ratio"] for row in rows),
        "check": f"gradients within {worst:.0e} of the largest; {ratios}",
        "passed": worst <= 1e-4,
        "rows": rows,
    }


def _ratios(times: dict[str, float]) -> dict[str, float]:
    return {
        "ratio": times["naive"] / times["ours"],
        "ratio_same_allocator": times["naive, same allocator"] / times["ours"],
        "naive_milliseconds": 1e3 * times["naive"],
        "our_milliseconds": 1e3 * times["ours"],
    }


def largest_loss_difference(steps: int = 5, num_scenes: int = 40) -> float:
    """Between steps of ours and of dense Adam from one start, at identical samples, relative to the loss."""
    ours = OurSteps(make_model(num_scenes), num_scenes, "exact_dense")
    naive, worst = NaiveSteps(make_model(num_scenes), num_scenes, optimise=True), 0.0
    for step in range(steps):
        batch = draw_batch(step, num_scenes, 4)
        with torch.no_grad():
            expected = float(naive_loss(naive.naive, batch, CounterNoise(0, 0, step)))
        naive(4)
        worst = max(worst, abs(ours.step(batch) - expected) / expected)
    return worst


def _naive_steps(num_scenes: int) -> NaiveSteps:
    return NaiveSteps(make_model(num_scenes), num_scenes, optimise=True)


def g2(repeats: int = 5, num_scenes: int = 500, learning_steps: int = 200) -> dict[str, Any]:
    """A whole step of latent supervision: at identical samples by the papers' clock, and as recommended."""
    elsewhere, same_allocator = Elsewhere(partial(_naive_steps, num_scenes)), _naive_steps(num_scenes)
    ours = {
        "48 + 48, 1 view a scene": (OurSteps(make_model(num_scenes), num_scenes, "exact_dense"), 1),
        "48 + 48, 4 views a scene": (OurSteps(make_model(num_scenes), num_scenes, "exact_dense"), 4),
        "recommended, 4 views a scene": (_recommended(num_scenes), 4),
    }
    contestants: dict[str, Callable[[], float]] = {
        "naive": partial(elsewhere, 4),
        "naive, same allocator": partial(seconds, same_allocator, 4),
    }
    for name, (steps, views) in ours.items():
        if steps.adam.clock == "exact_dense":
            steps.begin_within_an_epoch(VIEWS // views)
        contestants[name] = partial(seconds, steps, views)
    times = in_turns(contestants, repeats, "G2")
    elsewhere.close()
    parts = {
        name: _ratios(times | {"ours": times[name]}) | {"parts_milliseconds": steps.milliseconds()}
        for name, (steps, _) in ours.items()
    }
    difference, psnr = largest_loss_difference(), quality(learning_steps)
    one, four, recommended = parts.values()
    work = f"a step of latent supervision of {VIEWS} views, {num_scenes} scenes"
    return {
        "G2": {
            "work": f"{work}, identical samples 48 + 48",
            "ratio": four["ratio"],
            "check": f"loss of 5 steps within {difference:.0e}; {one['ratio']:.1f} at 1 view a scene",
            "passed": difference <= 1e-4,
            "rows": parts,
        },
        "G2_equal_psnr": {
            "work": f"{work}, the recommended samples and clock against 48 + 48",
            "ratio": recommended["ratio"],
            "check": f"after {learning_steps} steps {psnr['recommended']:.2f} dB on unseen views, "
            f"48 + 48 {psnr['papers']:.2f} dB",
            "passed": psnr["recommended"] >= psnr["papers"],
            "psnr": psnr,
        },
    }


def _recommended(num_scenes: int) -> OurSteps:
    return OurSteps(make_model(num_scenes, recommended=True), num_scenes, "per_scene", SCENE_RATE * RATE)


def measure() -> dict[str, Any]:
    """The rows ``G1``, ``G2`` and ``G2_equal_psnr``; some ten minutes."""
    return {"G1": g1()} | g2()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(describe_kernel("fast", make_model(1).renderer.head))
    print(json.dumps(measure(), indent=1))
