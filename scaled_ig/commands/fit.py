"""Training: the phases that the configuration names, in their one order, one Trainer each, over one scene model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything

from data_modules.base import MultiViewDataModule
from data_modules.layout import read_scene_digests
from scaled_ig.callbacks import Dashboard, Evaluation, MetricsLog, RunLogger, TrainingClock
from scaled_ig.callbacks.checkpoint import AtomicCheckpointIO, keep_last
from scaled_ig.commands.results import keep_costs, keep_quality, keep_scenes
from scaled_ig.description import describe
from scaled_ig.errors import UsageError
from scaled_ig.metrics import Lpips
from scaled_ig.phases import AdamSettings, Phase
from scaled_ig.run_folder import RunFolder
from scaled_ig.scene_bank import SceneBank
from scaled_ig.scene_model import SceneModel

PHASES = ("autoencoder", "warm_up", "joint", "latent_supervision", "rgb_alignment")
STAGE1_PHASES = PHASES[:3]


@dataclass
class PhaseConfig:
    """One training phase.

    Args:
        module: The phase; it is given the scene model.
        max_epochs: Length in epochs.
        max_steps: Length in optimiser steps, instead of epochs.
        batch_size: Views of a global batch, if not the data module's own.
        views_per_scene: Views of a scene in a batch, if not the data module's own.
    """

    module: Callable[[SceneModel], Phase]
    max_epochs: int | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    views_per_scene: int | None = None


@dataclass(frozen=True)
class HandOver:
    """What stage 2 takes from stage 1 beside the autoencoder.

    Args:
        bases: Base planes.
        head: Field head.
        scene_mean: Start new scenes at the mean of stage 1's, instead of noise.
    """

    bases: bool = True
    head: bool = True
    scene_mean: bool = False


class MakeTrainer(Protocol):
    """Builds a Trainer from the configuration, these callbacks and further arguments."""

    def __call__(self, callbacks: list[Callback], **arguments: Any) -> Trainer: ...


@dataclass
class Fit:
    """One run of ``scaled-ig fit``.

    Args:
        run: Where everything is written.
        scene: The model.
        data: Views.
        phases: What runs, by name.
        make_trainer: Builds a Trainer from the configuration and more arguments.
        hand_over: What stage 2 takes from stage 1.
        adam: Optimiser settings of all phases.
        init_from: A finished stage-1 run, for a configuration of stage 2 alone.
        seed: Of noise, order and new scenes.
        eval_every_n_steps: Steps between evaluations on ``val`` views; 0 for none.
        lpips: The metric, where its weights are here.
        logger: The W&B logger, where there is one.
        checkpoint_every_n_steps: Steps between ``last.ckpt``; at the end of every epoch where it is None.
    """

    run: RunFolder
    scene: SceneModel
    data: MultiViewDataModule
    phases: dict[str, PhaseConfig]
    make_trainer: MakeTrainer
    hand_over: HandOver
    adam: AdamSettings
    init_from: RunFolder | None = None
    seed: int = 0
    eval_every_n_steps: int = 0
    lpips: Lpips | None = None
    logger: RunLogger | None = None
    checkpoint_every_n_steps: int | None = None

    def __call__(self, resume: bool, before: Callable[[], None] = lambda: None) -> None:
        """Run what is left.

        Args:
            resume: Go on from what the run folder holds.
            before: Called once everything is found to be in order, before anything is written.

        Raises:
            UsageError: The run folder is taken, stage 1 is missing, or nothing is to be done.
        """
        names = [name for name in PHASES if name in self.phases]
        self._check(names)
        if not resume and any((self.run.path / "checkpoints").glob("*/*.ckpt")):
            raise UsageError(f"{self.run.path} already holds checkpoints: give --resume true or another --run_dir")
        done = list(takewhile(lambda name: resume and self.run.checkpoint(name).is_file(), names))
        if done == names:
            print(f"{self.run.path}: all phases are done", flush=True)
            return
        before()
        self._fresh = {name: value.clone() for name, value in self.scene.state_dict().items()}
        if done:
            self._load_finished(done[-1])
            if self.logger is not None:
                phases = self.run.read_json("costs.json").get("phases", {})
                self.logger.step_offset = sum(phases[name]["steps"] for name in done if name in phases)
        elif self.init_from is not None:
            self._load_stage1(self.init_from)
        for name in names[len(done) :]:
            last = self.run.checkpoint(name, "last")
            self._run_phase(name, str(last) if resume and last.is_file() else None)

    def _check(self, names: list[str]) -> None:
        """Say what is wrong with the pack, a phase or the stage-1 run before anything is written."""
        if not names:
            raise UsageError(f"this configuration has no phase: give one of phases.{{{','.join(PHASES)}}}")
        height, width = self.data.index.image_size
        if (height, width) != (self.scene.resolution, self.scene.resolution):
            raise UsageError(
                f"{self.data.path} has views of {height}×{width} pixels, the model is made for "
                f"{self.scene.resolution}×{self.scene.resolution}: give --scene.resolution or pack with --resolution"
            )
        for name in names:
            config, stage = self.phases[name], self._stage(name)
            if bool(config.max_epochs) == bool(config.max_steps):
                raise UsageError(f"phases.{name} needs either max_epochs or max_steps: set the other one to null")
            self.data.sampler(stage, config.batch_size or self.data.batch_size, self._views_per_scene(config))
            if not all(self.data.split(stage, "test")):
                raise UsageError(
                    f"{self.data.path}: a scene of stage {stage} has no test view: it needs 10 views, or a pack made "
                    "with --split every_tenth"
                )
        if self.init_from is not None:
            if any(self._stage(name) == 1 for name in names):
                raise UsageError(
                    "init_from brings a finished stage 1: leave it out, or set the phases of stage 1 to null"
                )
            self._refuse_another_model(self.init_from)
            self._refuse_leaks(self.init_from)

    def _views_per_scene(self, config: PhaseConfig) -> int:
        return config.views_per_scene or self.data.views_per_scene

    def _refuse_another_model(self, source: RunFolder) -> None:
        """What is handed over must mean the same here: planes of another cube would load all the same."""
        theirs, ours = stage1_description(source), describe(self.scene)
        given, own = theirs["representation"], ours["representation"]
        before, now = ({"class": part["class"], **part["arguments"]} for part in (given, own))
        keys = {*before, *now} - {"plane_std", "mixing_std", "seed"}
        changes = [
            f"{k} ({before.get(k)} there, {now.get(k)} here)" for k in sorted(keys) if before.get(k) != now.get(k)
        ]
        if theirs["resolution"] != ours["resolution"]:
            changes.append(f"resolution ({theirs['resolution']} there, {ours['resolution']} here)")
        if changes:
            raise UsageError(f"stage 1 of {source.path} was trained with another scene model, {', '.join(changes)}")

    def _refuse_leaks(self, source: RunFolder) -> None:
        """Stage 2 must not learn scenes that stage 1 has seen."""
        records = SceneBank.open(source.bank).index["scenes"]
        seen = {record["source_sha256"] for record in records if record["version"] == "stage1"}
        again = seen & set(read_scene_digests(self.data.index, self.data.scenes(2)))
        if again:
            raise UsageError(
                f"{len(again)} scenes of stage 2 were trained in stage 1 of {source.path}: "
                "give the same --data.stage1_scenes and --data.split_seed"
            )

    @staticmethod
    def _stage(name: str) -> int:
        return 1 if name in STAGE1_PHASES else 2

    # -- scenes and weights ------------------------------------------------------------------------------------------

    def _load_finished(self, name: str) -> None:
        state = torch.load(self.run.checkpoint(name), map_location="cpu", weights_only=True, mmap=True)
        self.scene.representation.new_scenes(state["scaled_ig"]["num_scenes"])
        self._load(state["state_dict"])
        self._stage_now = self._stage(name)

    def _load_stage1(self, source: RunFolder) -> None:
        asked = yaml.safe_load((source.path / "config.yaml").read_text())["phases"]
        last = source.checkpoint([name for name in STAGE1_PHASES if asked.get(name)][-1])
        if not last.is_file():
            raise UsageError(f"stage 1 of {source.path} is not finished, {last} is missing: go on with --resume true")
        state = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        self.scene.representation.new_scenes(state["scaled_ig"]["num_scenes"])
        self._load(state["state_dict"])
        self._stage_now = 1

    def _load(self, state: dict[str, torch.Tensor]) -> None:
        try:
            self.scene.load_state_dict({name.removeprefix("scene."): value for name, value in state.items()})
        except RuntimeError as error:
            raise UsageError(
                f"the checkpoint does not fit this scene model ({str(error).splitlines()[1].strip()}): "
                "use the representation and autoencoder that it was trained with"
            ) from None

    _stage_now: int = field(init=False, default=0)  # whose scenes the model holds; 0: none

    def _enter_stage(self, stage: int) -> None:
        if stage == self._stage_now:
            return
        representation = self.scene.representation
        from_mean = stage == 2 and self._stage_now == 1 and self.hand_over.scene_mean
        representation.new_scenes(len(self.data.scenes(stage)), self.seed + stage, from_mean)
        if stage == 2 and self._stage_now == 1:
            self._forget(
                [] if self.hand_over.bases else [f"representation.{n}" for n in representation.shared_parameters()]
            )
            self._forget(
                []
                if self.hand_over.head
                else [f"renderer.head.{n}" for n, _ in self.scene.renderer.head.named_parameters()]
            )
        self._stage_now = stage

    def _forget(self, names: list[str]) -> None:
        self.scene.load_state_dict({name: self._fresh[name] for name in names}, strict=False)

    # -- one phase ---------------------------------------------------------------------------------------------------

    def _run_phase(self, name: str, last: str | None) -> None:
        config, stage = self.phases[name], self._stage(name)
        seed_everything(self.seed, workers=True, verbose=False)
        self._enter_stage(stage)
        self.data.stage = stage
        batch_size, views_per_scene = self.data.batch_size, self.data.views_per_scene
        self.data.batch_size = config.batch_size or batch_size
        self.data.views_per_scene = self._views_per_scene(config)
        module = config.module(self.scene)
        module.adam, module.seed = self.adam, self.seed
        clock = TrainingClock()
        evaluation = Evaluation(self.run, clock, self.eval_every_n_steps, lpips=self.lpips)
        dashboard = Dashboard(clock, self.eval_every_n_steps)
        keep = keep_last(self.run.checkpoint(name).parent, self.checkpoint_every_n_steps)
        trainer = self.make_trainer(
            max_epochs=-1 if config.max_steps else config.max_epochs,
            max_steps=config.max_steps or -1,
            callbacks=[clock, MetricsLog(self.run, clock), evaluation, dashboard, keep],
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(self.run.path),
        )
        if trainer.is_global_zero:
            length = f"{config.max_steps} steps" if config.max_steps else f"{config.max_epochs} epochs"
            print(f"{name}: {len(self.data.scenes(stage))} scenes of stage {stage}, {length}", flush=True)
        trainer.fit(module, datamodule=self.data, ckpt_path=last, weights_only=True)
        self.data.batch_size, self.data.views_per_scene = batch_size, views_per_scene
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        cut_at_the_end = not evaluation.scenes  # between its last step and its finish: there was nothing left to train
        if cut_at_the_end:
            module.finish()
        self.scene.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
        if cut_at_the_end:
            evaluation.measure_test(trainer, module)
        keep_scenes(self.run, self.scene, self.data, name, stage)
        if trainer.is_global_zero:
            keep_quality(self.run, self.data, name, stage, evaluation.scenes, clock.seconds)
            keep_costs(self.run, self.scene, name, stage, trainer.global_step, clock.seconds, trainer.world_size)
        self.scene.cpu()
        trainer.save_checkpoint(self.run.checkpoint(name), weights_only=False)  # last: it says that the phase is done
        if self.logger is not None:
            self.logger.step_offset += trainer.global_step


def stage1_description(run: RunFolder) -> dict[str, Any]:
    """How the model of a stage-1 run is built; see :mod:`scaled_ig.description`.

    Raises:
        UsageError: It is no run of stage 1.
    """
    try:
        return SceneBank.open(run.bank).index["versions"]["stage1"]["model"]
    except (UsageError, KeyError):
        raise UsageError(
            f"{run.path} is no run with a finished stage 1: train it with scaled-ig fit --config "
            f"experiments/stage1.yaml --run_dir {run.path}, or give another run with --init_from"
        ) from None
