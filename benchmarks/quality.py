"""The frontier: PSNR against seconds and bytes a scene. python -m benchmarks.quality [--vehicles PACK] [--faces PACK].

Every recipe learns stage 1 once and stage 2 once a seed, by ``scaled-ig fit`` on one thread. What is finished is kept,
so that an interrupted call goes on; remove the folder of a run, or costs.json, to have it measured again. Steps are
timed apart from that, all recipes in turns, on the cars. Result: runs/bench/frontier.json and docs/frontier.png.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: one thread's time does not depend on who else computes

import torch

from benchmarks.quality_costs import measure_costs
from benchmarks.quality_plot import draw, table
from benchmarks.quality_scenes import choose_scenes, synthesize
from data_modules.layout import PackIndex
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.commands.fit import fit
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES
from scaled_ig.runs.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
DEMO = Path("data/demo/pack")  # of make demo
SETS = ("cars", "vehicles", "faces")
UNIT = "whole ball"  # recipe whose cost is the unit


@dataclass(frozen=True)
class Recipe:
    """A contestant.

    Args:
        configs: Files in ``experiments``, each over those before it.
        options: Further settings of ``scaled-ig fit``.
        has_stage1: Whether its stage 2 starts from a stage 1.
    """

    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    has_stage1: bool = True

    def arguments(self) -> list[str]:
        """Of ``scaled-ig fit``, both stages, but for data and folders."""
        quiet = ["--trainer.enable_progress_bar=false", "--eval_every_n_steps=0", "--lpips=off"]
        return [*(f"--config={ROOT / 'experiments' / name}" for name in self.configs), *self.options, *quiet]


MICRO_MACRO = ("recipes/latent.yaml", "ablations/rgb.yaml", "ablations/demo/rgb_rays.yaml")  # Ours-RGB of Table 3
TEXELS = ("--scene.representation.init_args.plane_resolution=32",)  # what the unit has always had
RECIPES = {
    "fast": Recipe(("recipes/fast.yaml",)),
    "sharp": Recipe(("recipes/fast.yaml", "presets/sharp.yaml")),
    "small": Recipe(("recipes/fast.yaml", "presets/small.yaml")),
    "plain tri-planes": Recipe(("recipes/fast.yaml", "ablations/no_prior.yaml"), has_stage1=False),
    "Micro-Macro": Recipe(MICRO_MACRO, TEXELS),
    UNIT: Recipe(
        MICRO_MACRO,
        (
            *TEXELS,
            "--scene.sampling.class_path=InsideBall",
            "--scene.sampling.init_args.num_samples=32",
            "--phases.warm_up.max_steps=1000",
            "--phases.latent_supervision.max_steps=2100",
        ),
    ),
    "latent": Recipe(("recipes/latent.yaml",)),
}


def perform(recipe: Recipe, folder: Path, seed: int | None, data: list[str]) -> None:
    """A run, or what is left of it.

    Args:
        recipe: What is trained.
        folder: Of all of its runs on these scenes.
        seed: Of stage 2; stage 1 where it is None.
        data: Arguments of ``scaled-ig fit`` that choose the scenes.
    """
    run = folder / run_name(seed)
    if (run / "finished").is_file():
        return
    print(f"\n== {run}", flush=True)
    others = [name for name in PHASES if (name in STAGE1_PHASES) != (seed is None)]
    own = [f"--phases.{name}=null" for name in others] + [f"--run_dir={run}", "--resume=true"]
    if seed is not None:
        own.append(f"--seed_everything={seed}")
    if seed is not None and recipe.has_stage1:
        own.append(f"--init_from={folder / run_name(None)}")
    TrainingCLI([*recipe.arguments(), *data, *own], fit).train()
    (run / "finished").touch()
    gc.collect()


def run_name(seed: int | None) -> str:
    """Folder of a run of stage 2, or of stage 1 where there is no seed."""
    return "stage1" if seed is None else f"seed{seed}"


def collect(folder: Path, costs: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """A row for each recipe and set of which something is finished.

    Args:
        folder: Of all runs.
        costs: Of each recipe, by :func:`benchmarks.quality_costs.measure_costs`.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for scenes in SETS:
        for name in RECIPES:
            runs = [file.parent for file in sorted((folder / scenes / folder_name(name)).glob("seed*/finished"))]
            if runs and name in costs:
                seconds = costs[name]["seconds_per_scene"]
                rows.setdefault(scenes, {})[name] = _reached(runs) | {
                    "seconds_per_scene": seconds,
                    "ratio_to_unit": seconds / costs[UNIT]["seconds_per_scene"],
                    "steps": sum(costs[name]["steps"].values()),
                }
    return rows


def _reached(runs: list[Path]) -> dict[str, Any]:
    """Quality, dB, over seeds, and size, bytes, of scenes of stage 2."""
    psnr = [RunFolder(run).read_json("metrics.json")["s2"]["psnr"] for run in runs]
    bank = SceneBank.open(RunFolder(runs[0]).bank)
    return {
        "psnr": statistics.mean(psnr),
        "psnr_sd": statistics.stdev(psnr) if len(psnr) > 1 else None,
        "seeds": len(psnr),
        "bytes_per_scene": sum(RunFolder(runs[0]).read_json("costs.json")["bytes_per_scene"].values()),
        "stored_bytes_per_scene": bank.record_bytes("stage2") / bank.versions["stage2"].num_scenes,
    }


def folder_name(recipe: str) -> str:
    """Without blanks."""
    return recipe.replace(" ", "_")


def commit() -> dict[str, str]:
    """Version of the code: its hash and its date."""
    said = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%H %cI"], capture_output=True, text=True)
    return dict(zip(("commit", "commit_date"), said.stdout.split(), strict=False))


def find_packs(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The pack of each set that is asked for; procedural cars and faces where none is given."""
    packs = {"cars": options.cars or (DEMO if (DEMO / "pack.json").is_file() else synthesize("cars", folder))}
    for name in options.sets or SETS[1:]:
        pack = getattr(options, name)
        if pack is None and name == "faces" and options.sets:
            pack = synthesize("faces", folder)
        if pack is not None:
            packs[name] = pack
        elif name != "cars":
            print(f"{name} are left out: give --{name} PACK{' or --sets faces' if name == 'faces' else ''}")
    for pack in packs.values():
        if not PackIndex.open(pack).masked.all():
            raise SystemExit(f"{pack} has no masks, within whose hulls scenes are trained: pack it again")
    return packs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cars", type=Path, help="pack of make demo; found or made unless given")
    parser.add_argument("--vehicles", type=Path, help="pack with 24 shapes or more")
    parser.add_argument("--faces", type=Path, help="likewise; procedural ones with --sets faces")
    parser.add_argument("--sets", nargs="+", choices=SETS, help="scenes; all that there are unless given")
    parser.add_argument("--only", nargs="+", choices=tuple(RECIPES), default=list(RECIPES), help="recipes")
    parser.add_argument("--seeds", type=int, default=3, help="of stage 2")
    parser.add_argument("--minutes", type=float, default=60, help="no run is begun after that; the next call goes on")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of quality/ and frontier.json")
    parser.add_argument("--picture", type=Path, default=Path("docs/frontier.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder, begun = options.out / "quality", time.monotonic()
    packs = find_packs(options, folder / "packs")
    data = {name: [f"--data.path={pack}"] for name, pack in packs.items()}
    for name in set(packs) - {"cars"}:
        lists = choose_scenes(packs[name], folder / "scenes" / name)
        data[name] += [f"--data.{stage}_scenes={json.dumps({'file': str(ids)})}" for stage, ids in lists.items()]
    if not (folder / "costs.json").is_file():
        costs = measure_costs({name: [*recipe.arguments(), *data["cars"]] for name, recipe in RECIPES.items()})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "costs.json").write_text(json.dumps(costs, indent=1) + "\n")
    costs = json.loads((folder / "costs.json").read_text())
    todo = [(seed, scenes, name) for seed in range(options.seeds) for scenes in packs for name in options.only]
    for seed, scenes, name in todo:
        if options.sets and scenes not in options.sets:
            continue
        if time.monotonic() - begun > 60 * options.minutes:
            print("not everything is done: the same call goes on")
            break
        recipe, own = RECIPES[name], folder / scenes / folder_name(name)
        if recipe.has_stage1:
            perform(recipe, own, None, data[scenes])
        perform(recipe, own, seed, data[scenes])
    rows = collect(folder, costs["recipes"])
    measured = costs["measured"] | commit() | {"recipes": costs["recipes"]}
    (options.out / "frontier.json").write_text(json.dumps(rows | {"measured": measured}, indent=1) + "\n")
    print(table(rows))
    if rows:
        draw(rows, ROOT / "docs/results/baselines-demo.csv", options.picture)


if __name__ == "__main__":
    main()
