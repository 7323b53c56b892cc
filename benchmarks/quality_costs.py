"""Processor time of steps, and of what is done once before them, of every recipe of benchmarks/quality.py, in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

from lightning.pytorch import Callback

from benchmarks.contest import machine
from data_modules.base import PhaseData
from scaled_ig.commands.fit import fit
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.phases import RunSettings
from scaled_ig.progress import Progress
from scaled_ig.runs.plan import STAGE1_PHASES
from scaled_ig.runs.training import Training

TURNS, STEPS = 5, 12  # the first step of a turn does not count


class StepTimes(Callback):
    """Seconds of processor time: ``ends`` of steps, and ``prepared``, what passes before the first.

    Before the first step latents are encoded and hulls are carved.
    """

    def __init__(self) -> None:
        self.begun, self.prepared, self.ends = 0.0, 0.0, list[float]()

    def on_fit_start(self, trainer, pl_module) -> None:
        self.begun = time.process_time()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if not self.ends:
            self.prepared = time.process_time() - self.begun

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.ends.append(time.process_time())


class _CapturedError(Exception):
    """Ends the command line once it has built what it would run."""


def build(given: list[str]) -> Training:
    """What ``scaled-ig fit`` would run."""
    built: list[Training] = []

    def capture(training: Training) -> Training:
        built.append(training)
        raise _CapturedError

    with suppress(_CapturedError):
        TrainingCLI([*given, "--trainer.enable_progress_bar=false"], fit).train(adjust=capture)
    return built[0]


def time_steps(training: Training, phase: str, folder: str) -> StepTimes:
    """A few steps of a phase, of scenes that start from noise."""
    config, data, stage = training.plan.phases[phase], training.data, 1 if phase in STAGE1_PHASES else 2
    training.model.representation.new_scenes(len(data.scenes(stage)), 0)
    module, times = config.module(training.model, RunSettings(training.plan.adam)), StepTimes()
    wanted = {"with_images": module.needs_images, "with_masks": module.needs_masks}
    views = data.for_phase(PhaseData(stage, config.batch_size, config.views_per_scene, **wanted))
    own: dict[str, Any] = {"callbacks": [times], "max_epochs": -1, "max_steps": STEPS, "default_root_dir": folder}
    trainer = training.make_trainer(**own, enable_checkpointing=False)
    trainer.fit(module, datamodule=views)
    return times


def measure_costs(given: dict[str, list[str]]) -> dict[str, Any]:
    """What stage 2 of a scene costs, of all recipes in turns.

    Args:
        given: Arguments of ``scaled-ig fit`` by recipe, with the phases of both stages.

    Returns:
        ``measured``, where and when, and ``recipes``: of each the ``steps`` and ``step_milliseconds`` of its phases of
        stage 2, ``once_seconds`` of a scene before them, and ``seconds_per_scene`` of all that; medians of processor
        time of one thread.
    """
    trainings = {recipe: build(arguments) for recipe, arguments in given.items()}
    kinds = [
        (recipe, phase)
        for recipe, made in trainings.items()
        for phase in made.plan.phases
        if phase not in STAGE1_PHASES
    ]
    steps: dict[tuple[str, str], list[float]] = {kind: [] for kind in kinds}
    once: dict[tuple[str, str], list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as scratch, Progress(total=TURNS * len(kinds), desc="steps", leave=False) as bar:
        for turn in range(TURNS):
            for recipe, phase in kinds:
                taken = time_steps(trainings[recipe], phase, f"{scratch}/{turn}/{recipe}")
                steps[recipe, phase] += [later - sooner for sooner, later in pairwise(taken.ends)]
                once[recipe, phase].append(taken.prepared)
                bar.update()
    recipes = {}
    for recipe, made in trainings.items():
        phases = [phase for name, phase in kinds if name == recipe]
        counts = {phase: int(made.plan.phases[phase].max_steps or 0) for phase in phases}
        medians = {phase: statistics.median(steps[recipe, phase]) for phase in phases}
        scenes = len(made.data.scenes(2))
        first = sum(statistics.median(once[recipe, phase]) for phase in phases) / scenes
        recipes[recipe] = {
            "steps": counts,
            "step_milliseconds": {phase: 1e3 * seconds for phase, seconds in medians.items()},
            "once_seconds": first,
            "seconds_per_scene": first + sum(counts[phase] * medians[phase] for phase in phases) / scenes,
        }
    clock = f"processor time of one thread, {TURNS} turns of {STEPS - 1} steps, medians"
    return {"recipes": recipes, "measured": machine() | {"clock": clock}}
