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
from scaled_ig.callbacks import Dashboard, Evaluation, MetricsLog, RunLogger, TrainingClock
from scaled_ig.callbacks.checkpoint import AtomicCheckpointIO, keep_last
from scaled_ig.commands.checks import check_phases, check_stage1, refuse_other_scenes, scenes_of
from scaled_ig.commands.plan import PHASES, STAGE1_PHASES, HandOver, PhaseConfig, stage_of
from scaled_ig.commands.results import keep_costs, keep_quality, keep_scenes
from scaled_ig.errors import UsageError
from scaled_ig.metrics import Lpips
from scaled_ig.phases import AdamSettings
from scaled_ig.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel


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
        seed: Of the noise and of new scenes.
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
    _stage_now: int = field(init=False, default=0)  # whose scenes the model holds; 0: none

    def __call__(self, resume: bool, before: Callable[[], None] = lambda: None) -> None:
        """Run what is left.

        Args:
            resume: Go on from what the run folder holds.
            before: Called once everything is found to be in order, before anything is written.

        Raises:
            UsageError: The run folder is taken, stage 1 is missing, or nothing is to be done.
        """
        names = [name for name in PHASES if name in self.phases]
        check_phases(self.phases, self.scene, self.data)
        if self.init_from is not None:
            check_stage1(self.init_from, self.phases, self.scene, self.data)
        if not resume and any((self.run.path / "checkpoints").glob("*/*.ckpt")):
            raise UsageError(f"{self.run.path} already holds checkpoints: give --resume true or another --run_dir")
        done = list(takewhile(lambda name: resume and self.run.checkpoint(name).is_file(), names))
        if done == names:
            print(f"{self.run.path}: all phases are done", flush=True)
            return
        scenes = scenes_of(self.data, self.phases)
        if resume:
            refuse_other_scenes(self.run, scenes)
        before()
        self.run.write_json("scenes.json", scenes)
        again = self._begins_again()
        state = self.scene.state_dict()
        self._fresh = {name: value.clone() for name, value in state.items() if name.startswith(again)}
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

    # -- scenes and weights ------------------------------------------------------------------------------------------

    def _load_finished(self, name: str) -> None:
        state = torch.load(self.run.checkpoint(name), map_location="cpu", weights_only=True, mmap=True)
        self.scene.representation.new_scenes(state["scaled_ig"]["num_scenes"])
        self._load(state["state_dict"])
        self._stage_now = stage_of(name)

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

    def _enter_stage(self, stage: int) -> None:
        if stage == self._stage_now:
            return
        representation = self.scene.representation
        from_mean = stage == 2 and self._stage_now == 1 and self.hand_over.scene_mean
        representation.new_scenes(len(self.data.scenes(stage)), 2 * self.seed + stage, from_mean)
        if stage == 2:
            self.scene.load_state_dict(self._fresh, strict=False)
        self._stage_now = stage

    def _begins_again(self) -> tuple[str, ...]:
        """Names of the shared parts that stage 2 does not take over."""
        bases = [f"representation.{name}" for name in self.scene.representation.shared_parameters()]
        head = ["renderer.head."]
        return (*([] if self.hand_over.bases else bases), *([] if self.hand_over.head else head))

    # -- one phase ---------------------------------------------------------------------------------------------------

    def _run_phase(self, name: str, last: str | None) -> None:
        config, stage = self.phases[name], stage_of(name)
        seed_everything(self.seed, workers=True, verbose=False)
        self._enter_stage(stage)
        self.data.stage = stage
        batch_size, views_per_scene = self.data.batch_size, self.data.views_per_scene
        self.data.batch_size = config.batch_size or batch_size
        self.data.views_per_scene = config.views_per_scene or views_per_scene
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
            padding = self.data.sampler(stage, self.data.batch_size, self.data.views_per_scene).padding
            again = f", {padding} views of an epoch twice to fill its batches" if padding else ""
            print(f"{name}: {len(self.data.scenes(stage))} scenes of stage {stage}, {length}{again}", flush=True)
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
