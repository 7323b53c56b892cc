"""Where a step's time goes, phase by phase: python -m benchmarks.phase_times PACK [--config FILE …].

A few steps of every phase of a real run are profiled by torch; the time of each operation on one thread is booked under
what it is for, by its name. Over some more steps, which no profiler slows down, it is measured what part of the wall
time passes between steps: the next views, and the trainer's loop. Prints milliseconds a step, and writes
runs/bench/phase_times.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from lightning.pytorch import Callback
from torch.profiler import ProfilerActivity, profile

from scaled_ig.commands.fit import fit
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.runs.training import Monitoring, Training

BEFORE, STEPS, WATCHED = 4, 10, 20  # steps of a phase that are let pass, that are profiled, and that are timed
BETWEEN = "between steps, %"
PURPOSES = {
    "autoencoder": r"conv|pixel_|silu|clamp|tanh",
    "renderer": r"^_(March|SquaredError)|grid_sampl|softplus|sigmoid|cumsum|searchsorted|sort|gather",
    "mixing": r"::(addmm|mm|bmm|baddbmm|cat)$|^_Mi",
    "scenes' rows": r"^_TakeRows|index_add|coalesce",
    "optimiser": r"adam",
}


class ProfileSteps(Callback):
    """Books the time of some steps of a phase in ``milliseconds``, by phase and purpose."""

    def __init__(self, milliseconds: dict[str, dict[str, float]]) -> None:
        self.milliseconds = milliseconds
        self._left, self._waited, self._worked = 0.0, 0.0, 0.0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        now = time.perf_counter()
        if trainer.global_step > BEFORE + STEPS:
            self._waited += now - self._left
        self._entered = now
        if trainer.global_step == BEFORE:
            self._profile = profile(activities=[ProfilerActivity.CPU])
            self._profile.start()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self._left = time.perf_counter()
        if trainer.global_step > BEFORE + STEPS + 1:
            self._worked += self._left - self._entered
        if trainer.global_step == BEFORE + STEPS:
            self._profile.stop()
            booked: dict[str, float] = defaultdict(float)
            for event in self._profile.key_averages():
                purposes = (name for name, pattern in PURPOSES.items() if re.search(pattern, event.key))
                booked[next(purposes, "noise, depths, losses, copies")] += event.self_cpu_time_total / 1e3 / STEPS
            self.milliseconds[pl_module.name] = dict(booked)

    def on_train_end(self, trainer, pl_module) -> None:
        self.milliseconds[pl_module.name][BETWEEN] = 100 * self._waited / (self._waited + self._worked)


def measure(pack: Path, configs: list[str]) -> dict[str, dict[str, float]]:
    """Milliseconds a step, by phase and purpose."""
    milliseconds: dict[str, dict[str, float]] = {}

    def adjust(made: Training) -> Training:
        def make_trainer(callbacks: list[Callback], **arguments: Any):
            return usual([*callbacks, ProfileSteps(milliseconds)], **arguments)

        usual = made.make_trainer
        steps = BEFORE + STEPS + WATCHED
        short = {name: replace(phase, max_steps=steps, max_epochs=None) for name, phase in made.plan.phases.items()}
        return replace(made, make_trainer=make_trainer, plan=replace(made.plan, phases=short), monitoring=Monitoring())

    with tempfile.TemporaryDirectory() as folder:
        given = [part for config in configs for part in ("--config", config)]
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.logger=false", "--lpips=off"]
        TrainingCLI([*given, f"--data.path={pack}", f"--run_dir={folder}/run", *quiet], fit).train(adjust=adjust)
    return milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path)
    parser.add_argument("--config", action="append", help="of scaled-ig fit; recipes/latent.yaml where there is none")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/phase_times.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.pack, options.config or ["experiments/recipes/latent.yaml"])
    purposes = [*PURPOSES, "noise, depths, losses, copies"]
    print(f"| ms a step | {' | '.join(purposes)} | all | {BETWEEN} |")
    print("|---" * (len(purposes) + 3) + "|")
    for phase, booked in found.items():
        cells = [booked.get(purpose, 0.0) for purpose in purposes]
        print(f"| {phase} | {' | '.join(f'{cell:.1f}' for cell in (*cells, sum(cells), booked[BETWEEN]))} |")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
