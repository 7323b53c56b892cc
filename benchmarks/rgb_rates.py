"""Rates and lengths of the rows that learn pixels: python -m benchmarks.rgb_rates [NAME ...] [--pack PACK].

On stage 1's cars, so that nothing is tuned on the scenes of the tables. First the rates: from those of the row's files,
one group at a time is doubled or halved for as long as that is better, so that its best does not lie at the edge of
what was tried. Then the length: twice as many steps, at half the rates where that is worse, until it brings less than
0.1 dB or four times as many have been tried. Look at the cars one by one: one that comes out as fog can decide a mean.
What is finished is kept: an interrupted call goes on; remove the folder to begin again on other cars or files. Result:
a table, and runs/bench/rgb_rates/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import yaml

from data_modules.shapenet import ShapeNetCars
from scaled_ig.commands.fit import fit
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.files import write_whole
from scaled_ig.runs.run_folder import RunFolder

FOLDER = Path("runs/bench/rgb_rates")
QUICKSTART, EXPERIMENTS = "experiments/recipes/latent.yaml", Path("experiments")
ENOUGH = 0.1  # dB that a doubling of the steps must bring

Rates = dict[str, float]  # by group


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        files: Over recipes/latent.yaml; the last that gives rates has those to begin with.
        phase: The phase whose rates and length are looked for.
        groups: Of parameters, in the order in which they are tuned.
        steps: The first length.
        most_steps: The last length.
        given: Further arguments, which choose the scenes.
    """

    files: list[Path]
    phase: str
    groups: tuple[str, ...]
    steps: int
    most_steps: int
    given: list[str]

    def rates(self) -> Rates:
        """To begin with."""
        texts = [yaml.safe_load(file.read_text()) for file in self.files]
        phases = [text.get("phases", {}).get(self.phase) or {} for text in texts]
        rates: Rates = [phase["module"]["init_args"]["learning_rates"] for phase in phases if "module" in phase][-1]
        return {group: rate for group, rate in rates.items() if group in (*self.groups, "head")}


def rows(pack: Path) -> dict[str, Row]:
    """Baselines on two cars of stage 1, RGB rows of the ablations on all eight, which share their bases."""
    stage1 = ShapeNetCars(path=pack, stage1_scenes=8, stage2_scenes=16).scene_ids(1)
    two = ["--data.stage1_scenes=0", f"--data.stage2_scenes={json.dumps({'ids': stage1[:2]})}"]
    two += ["--phases.latent_supervision.batch_size=4"]
    baselines = {
        path.stem: Row([path], "latent_supervision", ("micro", "head"), 600, 2400, two)
        for path in sorted((EXPERIMENTS / "baselines/demo").glob("*.yaml"))
    }
    folder = EXPERIMENTS / "ablations"
    ablations = {}
    for name, groups in {
        "rgb": ("micro", "mixing", "bases"),
        "triplanes_rgb": ("micro",),
        "triplanes_macro_rgb": ("mixing", "bases"),
    }.items():
        files = [folder / f"{name}.yaml", folder / "demo/rgb_rays.yaml", folder / f"demo/{name}.yaml"]
        existing = [file for file in files if file.is_file()]
        ablations[name] = Row(existing, "warm_up", groups, 800, 800, ["--phases.latent_supervision=null"])
    return baselines | ablations


class Tries:
    """What a row reached, by rates and steps.

    Args:
        name: Of the row.
        row: The row.
        pack: The demo's cars.
    """

    def __init__(self, name: str, row: Row, pack: Path) -> None:
        self.name, self.row, self.pack, self.file = name, row, pack, FOLDER / f"{name}.json"
        self.done: list[dict[str, Any]] = json.loads(self.file.read_text()) if self.file.is_file() else []

    def psnr(self, rates: Rates, steps: int) -> float:
        """Of never-seen views, dB; trained if it has not been tried."""
        for each in self.done:
            if (each["rates"], each["steps"]) == (rates, steps):
                return each["psnr"]
        run, phase = FOLDER / self.name / "_".join(f"{each:g}" for each in (*rates.values(), steps)), self.row.phase
        files = [part for file in (QUICKSTART, *self.row.files) for part in ("--config", str(file))]
        tuned = [
            f"--phases.{phase}.max_steps={steps}",
            f"--phases.{phase}.module.init_args.learning_rates={json.dumps(rates)}",
        ]
        rest = [f"--data.path={self.pack}", f"--run_dir={run}", "--resume=true", "--lpips=off"]
        TrainingCLI([*files, *self.row.given, *tuned, *rest, "--trainer.enable_progress_bar=false"], fit).train()
        costs, metrics = RunFolder(run).read_json("costs.json"), RunFolder(run).read_json("metrics.json")
        psnr, of_scenes = metrics["all"]["psnr"], [scene["psnr"] for scene in metrics["scenes"]]
        seconds = costs["phases"][phase]["seconds_per_scene"]
        reached = {"psnr": psnr, "psnr_of_scenes": of_scenes, "seconds_per_scene": seconds}
        self.done.append({"rates": rates, "steps": steps} | reached)
        write_whole(self.file, json.dumps(self.done, indent=1) + "\n")
        print(f"{self.name}: {rates}, {steps} steps: {psnr:.2f} dB after {seconds:.0f} s a scene", flush=True)
        return psnr

    def best_rates(self) -> Rates:
        """By doubling and halving, a group at a time."""
        best, steps = self.row.rates(), self.row.steps
        for group in self.row.groups:
            begun = best
            for factor in (2.0, 0.5):
                while self.psnr(tried := best | {group: best[group] * factor}, steps) > self.psnr(best, steps):
                    best = tried
                if best != begun:
                    break
        return best

    def plateau(self, rates: Rates) -> tuple[Rates, int]:
        """Rates and steps, twice which bring less than ``ENOUGH``, or the most that are tried."""
        steps = self.row.steps
        while steps < self.row.most_steps:
            reached, longer = self.psnr(rates, steps), rates
            if self.psnr(rates, 2 * steps) < reached:  # too fast for so long
                longer = {group: rate / 2 for group, rate in rates.items()}
            if self.psnr(longer, 2 * steps) < reached + ENOUGH:
                break
            rates, steps = longer, 2 * steps
        return rates, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows, by their files; all unless given")
    parser.add_argument("--pack", type=Path, default=Path("data/demo/pack"), help="the demo's cars")
    options = parser.parse_args()
    if not (options.pack / "pack.json").is_file():
        parser.error(f"no pack in {options.pack}: make data/demo/pack/pack.json makes the demo's cars")
    every = rows(options.pack)
    if unknown := [name for name in options.names if name not in every]:
        parser.error(f"no row {', '.join(unknown)}: there are {', '.join(every)}")
    for name in options.names or every:
        tries = Tries(name, every[name], options.pack)
        rates, steps = tries.plateau(tries.best_rates())
        print(f"\n{name}: {rates}, {steps} steps; of")
        for each in tries.done:
            scenes = ", ".join(f"{psnr:.1f}" for psnr in each["psnr_of_scenes"])
            seconds = f"{each['seconds_per_scene']:.0f} s a scene"
            print(f"  {each['rates']}, {each['steps']} steps: {each['psnr']:.2f} dB ({scenes}), {seconds}")


if __name__ == "__main__":
    main()
