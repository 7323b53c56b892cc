"""Training: the phases that the configuration names, in their one order, one Trainer each, over one scene model."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any, Protocol

from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor

from data_modules.base import MultiViewDataModule, PhaseData
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.callbacks import Dashboard, Evaluation, MetricsLog, Plateau, PlateauStop, RunLogger, TrainingClock
from scaled_ig.distributed.agreement import together
from scaled_ig.errors import UsageError
from scaled_ig.metrics.costs import bytes_per_scene
from scaled_ig.metrics.images import Lpips
from scaled_ig.phases import AdamSettings, RunSettings
from scaled_ig.phases.checkpoints import AtomicCheckpointIO, KeepLast, load_checkpoint, save
from scaled_ig.rendering.kernels import describe_kernel
from scaled_ig.runs.bank_writers import BankWriter
from scaled_ig.runs.checks import check_phases, check_plateau, check_visible, refuse_other_scenes, scenes_of
from scaled_ig.runs.launch import agree, digest_of, meet
from scaled_ig.runs.outcomes import write_costs, write_quality
from scaled_ig.runs.phase_runs import PhaseRun, forget_finished_waves, forget_wave, list_phase_runs
from scaled_ig.runs.plan import PHASES, HandOver, PhaseConfig, Waves, for_scenes
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel


class MakeTrainer(Protocol):
    """Builds a Trainer from the configuration, these callbacks and further arguments."""

    def __call__(self, callbacks: list[Callback], **arguments: Any) -> Trainer: ...


@dataclass(frozen=True)
class Source:
    """Where stage 2 starts from, if not from this run's own stage 1.

    Args:
        bank: Its bank.
        version: Version whose shared parts, and whose start of new scenes, are taken.
    """

    bank: SceneBank
    version: str


@dataclass
class Fit:
    """One run of ``scaled-ig fit`` or ``scaled-ig add``.

    Args:
        run: Where everything is written.
        scene: The model.
        data: Views.
        phases: What runs, by name.
        make_trainer: Builds a Trainer from the configuration and more arguments.
        hand_over: What stage 2 takes from stage 1.
        adam: Optimiser settings of all phases.
        bank_writer: Writes learned scenes into a bank.
        check: Raises UsageError where what is asked for cannot be done.
        waves: Scenes of stage 2 that are trained at a time.
        source: What stage 2 starts from; this run's stage 1 where it is None.
        meant_for: Scenes of stage 2 that the phases' numbers of steps were chosen for; all of them where it is None.
        version: Version of the bank for stage 2's scenes.
        shared_frozen: Train the scenes' own parameters alone.
        terms: What else must not change when the run goes on.
        seed: Of the noise and of new scenes.
        eval_every_n_steps: Steps between evaluations on ``val`` views; 0 for none.
        plateau: When a scene of stage 2 is learned and leaves the batches; at the end of the phase where it is None.
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
    bank_writer: BankWriter
    check: Callable[[], None] = lambda: None
    waves: Waves = Waves()  # noqa: RUF009 - frozen
    source: Source | None = None
    meant_for: int | None = None
    version: str = "stage2"
    shared_frozen: bool = False
    terms: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    eval_every_n_steps: int = 0
    plateau: Plateau | None = None
    lpips: Lpips | None = None
    logger: RunLogger | None = None
    checkpoint_every_n_steps: int | None = None
    _holds: tuple[str, int] | None = field(init=False, default=None)  # version and wave whose scenes the model holds
    _mean: dict[str, Tensor] | None = field(init=False, default=None)  # scene of stage 1

    def __call__(self, resume: bool, plan: dict[str, Any], before: Callable[[], None] = lambda: None) -> None:
        """Run what is left. All ranks call it.

        Args:
            resume: Go on from what the run folder holds.
            plan: What the ranks must agree on, as plain values.
            before: Called on the first rank once everything is found to be in order, before anything is written.

        Raises:
            UsageError: The run folder is taken, stage 1 is missing, or nothing is to be done.
        """
        trainer = self.make_trainer(callbacks=[], max_steps=1)
        meet(trainer)
        agree(plan, "start every rank with the same command and configuration")
        self.data.trainer = trainer
        self.scene.representation.shard(trainer.global_rank, trainer.world_size)
        scenes = together(self._check)
        agree({"scenes": digest_of(scenes)}, "give every rank the same pack")
        num_scenes = len(scenes.get("stage2", ()))
        self.meant_for = self.meant_for or num_scenes
        phase_runs = list_phase_runs(self.run, self.phases, num_scenes, self.waves, self.version)
        together(partial(self._check_batches, phase_runs))
        done = together(partial(self._find_done, phase_runs, resume, scenes))
        agree({"finished phases": len(done)}, f"put {self.run.path} on storage that all nodes see")
        if trainer.is_global_zero:
            forget_finished_waves(self.run, phase_runs, len(done))
        if len(done) == len(phase_runs):
            self._say(trainer, f"{self.run.path}: all phases are done")
            return
        if trainer.is_global_zero:
            before()
            self.run.write_json("scenes.json", scenes)
        trainer.strategy.barrier()
        together(partial(check_visible, self.run))
        self._say(trainer, self._kernel(trainer))
        again = self._begins_again()
        self._fresh = {k: v.clone() for k, v in self.scene.state_dict().items() if k.startswith(again)}
        self._take_up(done, phase_runs[len(done)])
        for phase_run in phase_runs[len(done) :]:
            last = phase_run.run.checkpoint(phase_run.phase, "last")
            self._run_phase(phase_run, str(last) if resume and last.is_file() else None)

    @property
    def last_phase(self) -> str:
        """Name of the phase after which scenes are finished."""
        return [name for name in PHASES if name in self.phases][-1]

    @staticmethod
    def _say(trainer: Trainer, sentence: str) -> None:
        if trainer.is_global_zero:
            print(sentence, flush=True)

    def _kernel(self, trainer: Trainer) -> str:
        renderer = self.scene.renderer.to(trainer.strategy.root_device)
        try:
            return describe_kernel(renderer.kernel, renderer.head)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _check(self) -> dict[str, Any]:
        check_phases(self.phases, self.scene, self.data)
        if self.plateau is not None:
            check_plateau(self.data.val_fraction, self.adam)
        self.check()
        return scenes_of(self.data, self.phases, self.waves) | self.terms

    def _check_batches(self, phase_runs: list[PhaseRun]) -> None:
        for phase_run in phase_runs:
            config = self._config(phase_run)
            self.data.for_phase(
                PhaseData(phase_run.stage, config.batch_size, config.views_per_scene, phase_run.scenes)
            ).sampler()

    def _config(self, phase_run: PhaseRun) -> PhaseConfig:
        """How a phase run is trained."""
        phase = self.phases[phase_run.phase]
        batch, views = phase.batch_size or self.data.batch_size, phase.views_per_scene or self.data.views_per_scene
        phase = replace(phase, batch_size=batch, views_per_scene=views)
        return phase if phase_run.scenes is None else for_scenes(phase, len(phase_run.scenes), self.meant_for)  # type: ignore[arg-type]

    def _find_done(self, phase_runs: list[PhaseRun], resume: bool, scenes: dict[str, Any]) -> list[PhaseRun]:
        if resume:
            refuse_other_scenes(self.run, scenes)
        elif any((self.run.path / "checkpoints").glob("*/*.ckpt")) or (self.run.path / "waves").is_dir():
            raise UsageError(f"{self.run.path} already holds checkpoints: give --resume true or another --run_dir")
        return list(takewhile(lambda phase_run: resume and phase_run.is_finished, phase_runs))

    # -- scenes and weights ------------------------------------------------------------------------------------------

    def _take_up(self, done: list[PhaseRun], phase_run: PhaseRun) -> None:
        """Bring the model to where ``done`` left it, for the phase run that is next."""
        if done:
            last = done[-1]
            path = last.run.checkpoint(last.phase)
            if path.is_file():
                same = (last.version, last.wave) == (phase_run.version, phase_run.wave)
                load_checkpoint(self.scene, path, with_scenes=same)
                self._holds = (last.version, last.wave) if same else ("", 0)
            else:  # a wave of which the bank alone is left
                bank, version = SceneBank.open(self.bank_writer.bank), last.version
                if self.shared_frozen and self.source is not None:
                    bank, version = self.source.bank, self.source.version
                bank.load_shared(version, self.scene)
                self._holds = (last.version, last.wave)
            if self.logger is not None:
                phases = self.run.read_json("costs.json").get("phases", {})
                self.logger.step_offset = sum(phase["steps"] for phase in phases.values())
        elif self.source is not None:
            self.source.bank.load_shared(self.source.version, self.scene)
            self._holds = ("", 0)  # something to start from, but no scenes

    def _enter(self, phase_run: PhaseRun, num_scenes: int) -> None:
        """Give the model the scenes of a phase run, where it holds others."""
        if self._holds == (phase_run.version, phase_run.wave):
            return
        stage = phase_run.stage
        seed = 2 * self.seed + stage + 1000 * phase_run.wave
        self.scene.representation.new_scenes(num_scenes, seed, self._start(stage))
        if stage == 2 and phase_run.wave == 0:
            self.scene.load_state_dict(self._fresh, strict=False)
        self._holds = (phase_run.version, phase_run.wave)

    def _start(self, stage: int) -> dict[str, Tensor] | None:
        """Row of each table that new scenes start from, instead of noise: the mean scene of stage 1."""
        trained = self.source is not None or "warm_up" in self.phases or "joint" in self.phases
        if stage == 1 or not trained or not self.hand_over.scene_mean:
            return None
        if self._mean is None:
            source = self.source or Source(SceneBank.open(self.bank_writer.bank), "stage1")
            self._mean = source.bank.mean(source.version)
            if self.scene.own_heads and not self.hand_over.head:
                self._mean["head"] = self.scene.renderer.head.row
            hull = self.scene.representation.hull  # of this run: that of the source may sample otherwise
            self._mean.pop("hull", None)
            self._mean |= {} if hull is None else {"hull": hull.mean()}
        return self._mean

    def _begins_again(self) -> tuple[str, ...]:
        """Names of the shared parts that stage 2 does not take over."""
        bases = [f"representation.{name}" for name in self.scene.representation.shared_parameters()]
        head = ["renderer.head."]
        return (*([] if self.hand_over.bases else bases), *([] if self.hand_over.head else head))

    # -- one phase ---------------------------------------------------------------------------------------------------

    def _run_phase(self, phase_run: PhaseRun, last: str | None) -> None:
        stage = phase_run.stage
        gc.collect()  # the last Trainer is a cycle that holds its scenes' rows and moments
        seed_everything(self.seed, workers=True, verbose=False)
        config = self._config(phase_run)
        frozen = self.shared_frozen or (phase_run.wave > 0 and self.waves.shared == "freeze")
        module = config.module(self.scene, RunSettings(self.adam, self.seed, frozen))
        wanted = {"order": module.number, "with_images": module.needs_images, "with_masks": module.needs_masks}
        data = self.data.for_phase(
            PhaseData(stage, config.batch_size, config.views_per_scene, phase_run.scenes, **wanted)  # type: ignore[arg-type]
        )
        self._enter(phase_run, len(data.scenes(stage)))
        clock = TrainingClock()
        plateau = self.plateau if stage == 2 else None
        evaluation = Evaluation(phase_run.run.training, clock, self.eval_every_n_steps, lpips=self.lpips)
        stop = [PlateauStop(plateau, evaluation)] if plateau else []
        dashboard = Dashboard(clock, self.eval_every_n_steps)
        keep = KeepLast(phase_run.run.checkpoint(phase_run.phase).parent, self.checkpoint_every_n_steps)
        trainer = self.make_trainer(
            max_epochs=-1 if config.max_steps else config.max_epochs,
            max_steps=config.max_steps or -1,
            # The clock behind what measures: it runs until the phase is finished.
            callbacks=[MetricsLog(phase_run.run.training, clock), evaluation, clock, *stop, dashboard, keep],
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(phase_run.run.path),
        )
        self._say(trainer, self._announcement(phase_run, config, data))
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        cut_at_the_end = not evaluation.scenes  # between its last step and its finish: there was nothing left to train
        if cut_at_the_end:
            module.finish()
        self.scene.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
        if cut_at_the_end:
            evaluation.measure_test(trainer, module)
        self.bank_writer(self.scene, data, phase_run, self._start(stage))
        scene_bytes = bytes_per_scene(self.scene)  # of the scenes of all ranks
        if trainer.is_global_zero:
            write_quality(self.run, data, phase_run, evaluation.scenes, clock.seconds)
            write_costs(
                self.run, self.scene, phase_run, trainer.global_step, clock.seconds, trainer.world_size, scene_bytes
            )
        self.scene.cpu()
        save(trainer, phase_run.run.checkpoint(phase_run.phase))  # last: the phase is done
        if phase_run.waves > 1 and phase_run.phase == self.last_phase:
            if trainer.is_global_zero:
                forget_wave(phase_run)
            trainer.strategy.barrier()
        if self.logger is not None:
            self.logger.step_offset += trainer.global_step

    @staticmethod
    def _announcement(phase_run: PhaseRun, config: PhaseConfig, data: MultiViewDataModule) -> str:
        length = f"{config.max_steps} steps" if config.max_steps else f"{config.max_epochs} epochs"
        padding = data.sampler().padding
        again = f", {padding} views of an epoch twice to fill its batches" if padding else ""
        wave = f", wave {phase_run.wave + 1} of {phase_run.waves}" if phase_run.waves > 1 else ""
        scenes = f"{len(data.scenes(phase_run.stage))} scenes of stage {phase_run.stage}"
        return f"{phase_run.phase}: {scenes}{wave}, {length}{again}"
