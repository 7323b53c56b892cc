"""G5: the scenes' optimiser against dense Adam, and against itself with more scenes.

Every scene was seen before, each a different number of steps ago, as within an epoch: rows that were never seen would
have nothing to catch up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contest import Elsewhere, cpu_seconds, in_turns, seconds
from scaled_ig.optim import Clock, SceneAdam

VISITED = 32  # scenes of a step
PAPERS_ROW = (3, 64, 64, 10)
SMALL_ROW = (3, 16, 16, 10)  # of which 50,000 with their moments fit into 5 GB


def dense(num_scenes: int, row: tuple[int, ...], gradient: Tensor, **kind: bool) -> Callable[[], None]:
    """A step of torch's Adam over the whole table, and the dense gradient that it asks for."""
    table = nn.Parameter(torch.ones(num_scenes, *row))
    adam = torch.optim.Adam([table], lr=1e-2, **kind)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        visited = torch.randperm(num_scenes, generator=generator)[:VISITED]
        table.grad = torch.zeros_like(table).index_add_(0, visited, gradient)
        adam.step()

    return step


def by_rows(num_scenes: int, row: tuple[int, ...], gradient: Tensor, clock: Clock) -> Callable[[], None]:
    """A step of ours, with the catching up that comes before its scenes are read."""
    table = nn.Parameter(torch.ones(num_scenes, *row))  # zeros would lie in pages that do not exist yet
    adam = SceneAdam([{"name": "micro", "params": [table], "lr": 1e-2, "rows": True}], clock)
    (group,), state = adam.param_groups, adam.state[table]
    epoch = max(2, num_scenes // VISITED)
    generator = torch.Generator().manual_seed(0)
    group["t"], group["rates"] = 2 * epoch, [1e-2] * 2 * epoch
    state["step"] += group["t"] - torch.randint(epoch, (num_scenes,), generator=generator)
    state["exp_avg"].fill_(1e-3)
    state["exp_avg_sq"].fill_(1e-6)

    def step() -> None:
        visited = torch.randperm(num_scenes, generator=generator)[:VISITED].sort().values
        adam.catch_up(table, visited)
        table.grad = sparse(visited, gradient, table)
        adam.step()

    return step


def sparse(rows: Tensor, gradient: Tensor, table: nn.Parameter) -> Tensor:
    """The gradient that reading rows in ascending order leaves in a table."""
    return torch.sparse_coo_tensor(rows[None], gradient, table.shape, check_invariants=False, is_coalesced=True)


def largest_difference(size: float, num_scenes: int = 100, steps: int = 120) -> float:
    """How far rows end, after a flush, from dense Adam in float64, as part of the largest movement.

    Dense Adam in float32 itself ends up to four times as far from it.

    Args:
        size: Of the gradients.
        num_scenes: Scenes, of which 4 are visited in a step.
        steps: Steps.
    """
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(num_scenes, 64, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.double())
    rows = SceneAdam([{"name": "micro", "params": [ours], "lr": 1e-2, "rows": True}], "exact_dense")
    adam = torch.optim.Adam([theirs], lr=1e-2)
    for _ in range(steps):
        visited = torch.randperm(num_scenes, generator=generator)[:4].sort().values
        gradient = size * torch.randn(4, 64, generator=generator)
        rows.catch_up(ours, visited)
        ours.grad = sparse(visited, gradient, ours)
        theirs.grad = torch.zeros_like(theirs).index_add_(0, visited, gradient.double())
        rows.step()
        adam.step()
    rows.flush()
    end = theirs.detach()
    return float((ours.detach() - end).abs().max() / (end - start).abs().max())


def error_after_visits(num_scenes: int, clock: Clock, rate: float, visits: int = 40, visited: int = 8) -> float:
    """Mean squared distance from the optima of noisy quadratics, one a scene, after as many visits of each.

    Args:
        num_scenes: Scenes, seen in rounds.
        clock: Of the optimiser.
        rate: Learning rate.
        visits: Of each scene.
        visited: Scenes of a step.
    """
    generator = torch.Generator().manual_seed(0)
    optimum = torch.randn(num_scenes, 16, generator=generator)
    table = nn.Parameter(torch.zeros(num_scenes, 16))
    adam = SceneAdam([{"name": "micro", "params": [table], "lr": rate, "rows": True}], clock)
    for _ in range(visits):
        for some in torch.randperm(num_scenes, generator=generator).split(visited):
            rows = some.sort().values
            adam.catch_up(table, rows)
            noise = 0.5 * torch.randn(len(rows), 16, generator=generator)
            table.grad = sparse(rows, table.detach()[rows] - optimum[rows] + noise, table)
            adam.step()
    adam.flush()
    return float((table.detach() - optimum).square().mean())


def clocks() -> dict[str, list[float]]:
    """What each clock reaches with 8, 64 and 512 scenes, by clock and rate."""
    settings: tuple[tuple[Clock, float], ...] = (("exact_dense", 0.01), ("exact_dense", 0.03), ("per_scene", 0.1))
    return {
        f"{clock} {rate}": [error_after_visits(num_scenes, clock, rate) for num_scenes in (8, 64, 512)]
        for clock, rate in settings
    }


def measure() -> dict[str, Any]:
    """The rows of the table: ``G5`` at 500 scenes of the papers' size, ``G5_flat`` up to 50,000 smaller ones."""
    gradient = torch.randn(VISITED, *PAPERS_ROW, generator=torch.Generator().manual_seed(2))
    foreach = partial(dense, 500, PAPERS_ROW, gradient, foreach=True)
    fused = partial(dense, 500, PAPERS_ROW, gradient, fused=True)
    elsewhere = {"foreach": Elsewhere(foreach), "fused": Elsewhere(fused)}
    times = in_turns(
        elsewhere
        | {
            "foreach, same allocator": partial(seconds, foreach()),
            "fused, same allocator": partial(seconds, fused()),
            "exact_dense": partial(seconds, by_rows(500, PAPERS_ROW, gradient, "exact_dense")),
            "per_scene": partial(seconds, by_rows(500, PAPERS_ROW, gradient, "per_scene")),
        },
        rounds=7,
        title="optimiser, 500 scenes",
    )
    for process in elsewhere.values():
        process.close()
    worst = {f"{size:g}": largest_difference(size) for size in (1.0, 1e-4, 1e-8)}
    small = gradient[:, :, :16, :16].contiguous()
    sizes = (500, 5_000, 50_000)
    flat = cpu_seconds(
        {
            f"{clock} {size}": by_rows(size, SMALL_ROW, small, clock)
            for size in sizes
            for clock in ("exact_dense", "per_scene")
        },  # type: ignore[arg-type]
        rounds=40,
        title="optimiser, up to 50,000 scenes",
    )
    return {
        "G5": {
            "work": "a step of 32 scenes out of 500, papers' planes",
            "ratio": times["foreach"] / times["exact_dense"],
            "ratio_to_fused": times["fused"] / times["exact_dense"],
            "ratio_same_allocator": times["foreach, same allocator"] / times["exact_dense"],
            "ratio_of_per_scene": times["foreach"] / times["per_scene"],
            "check": "largest difference from float64 dense Adam, part of the largest movement, at gradients of "
            + ", ".join(f"{size}: {value:.0e}" for size, value in worst.items()),
            "passed": max(worst.values()) <= 1e-5,
            "milliseconds": {name: 1e3 * value for name, value in times.items()},
        },
        "G5_flat": {
            "work": f"a step of 32 scenes of {' × '.join(map(str, SMALL_ROW))} values, 50,000 against 500 of them",
            "ratio": flat["exact_dense 50000"] / flat["exact_dense 500"],
            "ratio_of_per_scene": flat["per_scene 50000"] / flat["per_scene 500"],
            "check": "the same number of rows is touched",
            "passed": True,
            "milliseconds": {name: 1e3 * value for name, value in flat.items()},
            "error_with_8_64_512_scenes": clocks(),
        },
    }
