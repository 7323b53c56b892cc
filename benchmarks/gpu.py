"""G3, G5 and G6 on a GPU, in one call of minutes: python -m benchmarks.gpu [--dry-run].

Contestants take turns in one process; times are medians of CUDA events. Products of float32 are TF32 for all of them,
as ``torch.set_float32_matmul_precision("high")`` has it. Rows are printed and written to runs/bench/gpu.json as they
come. ``--dry-run`` runs every row on the CPU at toy sizes and writes nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import gpu_decoder, gpu_step
from benchmarks.gpu_contest import Bench
from benchmarks.optimizer import PAPERS_ROW, VISITED, largest_difference, sparse
from scaled_ig.optim import Clock, SceneAdam

MANY = 50_000  # scenes


def dense(bench: Bench, num_scenes: int, gradient: Tensor, **kind: Any) -> Callable[[], None]:
    """A step of torch's Adam over the whole table, and the dense gradient that it asks for."""
    table = nn.Parameter(torch.ones(num_scenes, *gradient.shape[1:], device=bench.device))
    adam = torch.optim.Adam([table], lr=1e-2, **kind)

    def step() -> None:
        visited = torch.randperm(num_scenes, device=bench.device)[:VISITED]
        table.grad = torch.zeros_like(table).index_add_(0, visited, gradient)
        adam.step()

    return step


def by_rows(bench: Bench, num_scenes: int, gradient: Tensor, clock: Clock) -> Callable[[], None]:
    """A step of ours, with the catching up before; every scene was seen, each a different number of steps ago."""
    table = nn.Parameter(torch.ones(num_scenes, *gradient.shape[1:], device=bench.device))
    adam = SceneAdam([{"name": "micro", "params": [table], "lr": 1e-2, "rows": True}], clock)
    (group,), state, epoch = adam.param_groups, adam.state[table], max(2, num_scenes // VISITED)
    group["t"], group["rates"] = 2 * epoch, [1e-2] * 2 * epoch
    state["step"] += group["t"] - torch.randint(epoch, (num_scenes,), device=bench.device)
    state["exp_avg"].fill_(1e-3)
    state["exp_avg_sq"].fill_(1e-6)

    def step() -> None:
        visited = torch.randperm(num_scenes, device=bench.device)[:VISITED].sort().values
        adam.catch_up(table, visited)
        table.grad = sparse(visited, gradient, table)
        adam.step()

    return step


def scenes_that_fit(bench: Bench, tensors: int) -> int:
    """Scenes of which so many tensors of the papers' planes fit into what memory is free, 50,000 at most."""
    if bench.device.type != "cuda":
        return 100
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(bench.device)
    return min(MANY, int(0.9 * free / (4 * torch.Size(PAPERS_ROW).numel() * tensors)))


def optimiser(bench: Bench) -> dict[str, Any]:
    """The rows ``G5_gpu`` at 500 scenes and ``G5_gpu_flat`` at as many as fit, up to 50,000."""
    few = bench.size(500, 50)
    gradient = torch.randn(VISITED, *PAPERS_ROW, device=bench.device)
    times = bench.milliseconds(
        {
            "foreach": dense(bench, few, gradient, foreach=True),
            "fused": dense(bench, few, gradient, fused=True),
            "exact_dense": by_rows(bench, few, gradient, "exact_dense"),
            "per_scene": by_rows(bench, few, gradient, "per_scene"),
        }
    )
    many, flat = scenes_that_fit(bench, 3), {}
    clocks: tuple[Clock, ...] = ("exact_dense", "per_scene")
    for clock in clocks:
        sizes = {f"{clock} {size}": by_rows(bench, size, gradient, clock) for size in (few, many)}
        flat |= bench.milliseconds(sizes)
        del sizes
        gc.collect()  # the next ones need their memory
    fitting = scenes_that_fit(bench, 5)  # with a dense gradient and what its step needs beside
    fused = bench.milliseconds({"fused": dense(bench, fitting, gradient, fused=True)}, rounds=3)["fused"]
    worst = max(largest_difference(size) for size in (1.0, 1e-4, 1e-8))
    return {
        "G5_gpu": {
            "work": f"the optimiser of a step of {VISITED} scenes out of {few}, papers' planes",
            "ratio": times["foreach"] / times["exact_dense"],
            "ratio_to_fused": times["fused"] / times["exact_dense"],
            "ratio_of_per_scene": times["foreach"] / times["per_scene"],
            "check": f"largest difference from float64 dense Adam {worst:.0e} of the largest movement",
            "passed": worst <= 1e-5,
            "milliseconds": times,
        },
        "G5_gpu_flat": {
            "work": f"the same, {many} scenes against {few}",
            "ratio": flat[f"exact_dense {many}"] / flat[f"exact_dense {few}"],
            "ratio_of_per_scene": flat[f"per_scene {many}"] / flat[f"per_scene {few}"],
            "check": f"the same number of rows is touched; fused Adam takes {fused:.1f} ms at {fitting} scenes",
            "passed": True,
            "milliseconds": flat | {f"fused at {fitting}": fused},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="every row on the CPU at toy sizes; nothing is written")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu.json"))
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print(
            "error: no CUDA GPU on this machine: run it where there is one, or try it out with --dry-run",
            file=sys.stderr,
        )
        sys.exit(2)
    bench = Bench(torch.device("cpu" if options.dry_run else "cuda"), options.dry_run)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    print(json.dumps(bench.machine()), flush=True)
    rows: dict[str, Any] = {}
    for part in (gpu_step.renderer, gpu_step.steps, optimiser, gpu_decoder.decoder):
        for name, row in part(bench).items():
            rows[name] = row | {"measured": bench.machine()}
            verdict = "" if row["passed"] else "  FAILED"
            print(f"{name:16s} {row['ratio']:8.2f} x  {row['work']}; {row['check']}{verdict}", flush=True)
        if not options.dry_run:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
