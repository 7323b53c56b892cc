"""PSNR against seconds and bytes a scene: python -m benchmarks.quality [--vehicles PACK] [--faces PACK].

Runs of ``scaled-ig fit``, one after another on one thread, each to the end of its own schedule; what is finished is
kept, so that an interrupted call goes on. Steps are timed apart from that, all kinds in turns, in seconds of one
thread's processor time: ``--only costs`` times them again, ``--only plot`` draws. Without packs it draws cars and faces
of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality_contestants import (
    FIVE,
    Run,
    arguments,
    few_views,
    finer_rays,
    frontier,
    many_scenes,
    sampling,
    views_per_scene,
    whole_rays,
    wide_cube,
)
from benchmarks.quality_costs import measure_costs
from benchmarks.quality_plot import draw_frontier, draw_sampling, table
from benchmarks.quality_scenes import FEW_VIEWS, choose_scenes, leave_views, synthesize, training_views
from scaled_ig.commands.training_cli import run_training
from scaled_ig.run_folder import RunFolder

FOLDER, RESULTS = Path("runs/bench/quality"), Path("runs/bench/quality.json")


def all_runs(packs: dict[str, Path]) -> list[Run]:
    """What is to be run, the most telling first; a stage 1 stands before those who start from it."""
    few = leave_views(packs["vehicles"], FEW_VIEWS)
    groups: list[Iterator[Run]] = [
        frontier("vehicles", FIVE),
        few_views("vehicles", few),
        sampling("vehicles"),
        finer_rays("vehicles"),
        frontier("faces", FIVE[:4]),
        views_per_scene("vehicles"),
        wide_cube("vehicles"),
        frontier("faces", FIVE[4:]),
        many_scenes("vehicles", ("RGB Micro-Macro", "RGB F = 10")),
        sampling("faces"),
        whole_rays("vehicles"),
        frontier("vehicles", ("latent F = 32",)),
        many_scenes("vehicles", ("latent Micro-Macro",)),
        whole_rays("faces"),
    ]
    return list({run.name: run for group in groups for run in group}.values())


def perform(run: Run, given: list[str], views: int) -> dict[str, Any]:
    """Train; what was reached after each phase."""
    folder = FOLDER / "runs" / run.name
    start = [] if run.stage1 is None else [f"--init_from={FOLDER / 'runs' / run.stage1}"]
    quiet = ["--trainer.enable_progress_bar=false", f"--run_dir={folder}", "--resume=true"]
    run_training(["fit", *given, *start, *quiet])
    gc.collect()
    made = RunFolder(folder)
    costs = made.read_json("costs.json")
    phases: dict[str, dict[str, float]] = {}
    for row in made.read_training():
        if row["name"].startswith("test/"):
            phase = phases.setdefault(row["phase"], {"steps": int(row["step"])})
            phase[row["name"].removeprefix("test/")] = float(row["value"])
    stage = made.read_json("metrics.json")["s2" if run.stage1 else "s1"]
    return {
        "run": run.record(),
        "training_views": views,  # of a scene
        "phases": phases,
        "nearest_view_psnr": stage["nearest_view_psnr"],
        "bytes_per_scene": sum(costs["bytes_per_scene"].values()),
        "shared_bytes": costs["shared_bytes"],
    }


def keep(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(part, RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vehicles", type=Path, help="pack of vehicles; procedural cars unless given")
    parser.add_argument("--faces", type=Path, help="pack of faces; procedural ones unless given")
    parser.add_argument("--only", choices=("runs", "costs", "plot"), help="one part; all unless given")
    parser.add_argument("--minutes", type=float, default=60, help="no run is begun after that; the next call goes on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": {}}
    if options.only != "plot":
        packs = {"vehicles": options.vehicles or synthesize("cars", FOLDER / "packs")}
        packs["faces"] = options.faces or synthesize("faces", FOLDER / "packs")
        lists = {name: choose_scenes(pack, FOLDER / "scenes" / name) for name, pack in packs.items()}
        runs = all_runs(packs)
        given = {run.name: arguments(run, packs[run.pack], lists[run.pack]) for run in runs}
        if options.only != "costs":
            begun = time.monotonic()
            for run in runs:
                if results["runs"].get(run.name, {}).get("run") == run.record():
                    continue
                if time.monotonic() - begun > 60 * options.minutes:
                    print(f"{len(results['runs'])} of {len(runs)} runs are done: the same call goes on")
                    break
                print(f"\n== {run.name}", flush=True)
                started = time.process_time()
                views = FEW_VIEWS if run.group == "few views" else training_views(packs[run.pack])
                reached = perform(run, given[run.name], views)
                reached["process_seconds"] = time.process_time() - started  # with evaluation and all
                results["runs"][run.name] = reached
                keep(results)
        if options.only != "runs":
            done = [run for run in runs if run.name in results["runs"]]
            results["costs"] = measure_costs(done, packs["vehicles"], lists["vehicles"])
            keep(results)
    if options.only in (None, "plot"):
        print(table(results))
        draw_frontier(results, Path("docs/frontier.png"))
        draw_sampling(results, Path("docs/sampling.png"))


if __name__ == "__main__":
    main()
