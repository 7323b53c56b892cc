"""Seconds of a step of every contestant of benchmarks/quality.py, in turns, on one thread."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import suppress
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from benchmarks.quality_contestants import STAGE1, STAGE2, Run, arguments
from scaled_ig.commands.fit import Fit
from scaled_ig.commands.training_cli import run_training
from scaled_ig.cost import describe_machine

TURNS, STEPS = 3, 4  # of which the first step of a turn does not count


class StepTimes(Callback):
    """Seconds of processor time between the ends of steps, and before the first."""

    def __init__(self) -> None:
        self.begun, self.ends = 0.0, list[float]()

    def on_fit_start(self, trainer, pl_module) -> None:
        self.begun = time.process_time()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if not self.ends:
            self.prepared = time.process_time() - self.begun

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.ends.append(time.process_time())


class _CapturedError(Exception):
    """Ends the command line once it has built what it would run."""


def build(given: list[str]) -> Fit:
    """What ``scaled-ig fit`` would run."""
    made: list[Fit] = []

    def capture(fit: Fit) -> Fit:
        made.append(fit)
        raise _CapturedError

    with suppress(_CapturedError):
        run_training(["fit", *given, "--trainer.enable_progress_bar=false"], adjust=capture)
    return made[0]


def time_steps(fit: Fit, phase: str, folder: str) -> StepTimes:
    """A few steps of a phase, of scenes that start from noise."""
    config, data, stage = fit.phases[phase], fit.data, 1 if phase in STAGE1 else 2
    usual = data.batch_size, data.views_per_scene
    fit.scene.representation.new_scenes(len(data.scenes(stage)), 0)
    data.stage = stage
    data.batch_size = config.batch_size or data.batch_size
    data.views_per_scene = config.views_per_scene or data.views_per_scene
    module, times = config.module(fit.scene), StepTimes()
    module.adam = fit.adam
    own: dict[str, Any] = {"callbacks": [times], "max_epochs": -1, "max_steps": STEPS, "default_root_dir": folder}
    trainer = fit.make_trainer(**own, enable_checkpointing=False)
    trainer.fit(module, datamodule=data)
    data.batch_size, data.views_per_scene = usual
    return times


def measure_costs(runs: list[Run], pack: Path, lists: dict[str, Path]) -> dict[str, Any]:
    """Milliseconds of every kind of step, in turns; and of encoding a view."""
    fits: dict[str, tuple[Fit, str]] = {}
    kinds = set()  # of runs; some leave the last phase out
    data = None
    for run in runs:
        phases = STAGE1 if run.stage1 is None else STAGE2
        kind = run.step, phases, "phases.rgb_alignment" in run.options
        if kind in kinds:
            continue
        kinds.add(kind)
        fit = build(arguments(run, pack, lists, both_stages=True))
        data = data or fit.data
        fit.data = data
        for phase in fit.phases:
            if phase in phases:
                fits.setdefault(f"{run.step}: {phase}", (fit, phase))
    times: dict[str, list[float]] = {name: [] for name in fits}
    encoding = []
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(TURNS):
            for name, (fit, phase) in fits.items():
                measured = time_steps(fit, phase, f"{scratch}/{turn}")
                times[name] += [later - sooner for sooner, later in pairwise(measured.ends)]
                if name == "latent Micro-Macro: latent_supervision":
                    encoding.append(measured.prepared / sum(map(len, data.split(2, "train"))))
    return {
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "quartiles": {name: [1e3 * q for q in statistics.quantiles(values, n=4)] for name, values in times.items()},
        "encode_milliseconds_per_view": 1e3 * statistics.median(encoding),
        "clock": f"processor time of one thread, {TURNS} turns of {STEPS - 1} steps, medians",
        "machine": describe_machine(torch.device("cpu")),
        "date": date.today().isoformat(),
    }
