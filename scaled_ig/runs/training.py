"""Training: the phases that a plan names, in their one order, one Trainer each, over one scene model."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any, Protocol

from lightning.pytorch import Callback, Trainer, seed_everything

from data_modules.base import MultiViewDataModule, PhaseData
from scaled_ig.callbacks import Dashboard, Evaluation, MetricsLog, Plateau, PlateauStop, RunLog, TrainingClock
from scaled_ig.distributed.agreement import on_first_rank, together
from scaled_ig.distributed.watch import Watch
from scaled_ig.errors import UsageError
from scaled_ig.metrics.costs import bytes_per_scene
from scaled_ig.metrics.images import Lpips
from scaled_ig.phases import RunSettings
from scaled_ig.phases.checkpoint_files import Saved
from scaled_ig.phases.checkpoints import AtomicCheckpointIO, KeepLast, save
from scaled_ig.ranges import Count, Steps, StepsOrNone, checked
from scaled_ig.rendering.kernels import describe_kernel
from scaled_ig.rendering.renderer import Renderer
from scaled_ig.runs.bank_writers import BankWriter
from scaled_ig.runs.changes import Progress, flat, list_changes, log_changes, refuse_changes
from scaled_ig.runs.checks import (
    check_hand_over,
    check_memory,
    check_phases,
    check_plateau,
    check_visible,
    refuse_other_scenes,
    scenes_of,
)
from scaled_ig.runs.launch import agree, digest_of, meet
from scaled_ig.runs.logged import beginning, log_end, results
from scaled_ig.runs.model_state import ModelState, Source
from scaled_ig.runs.outcomes import write_costs, write_quality
from scaled_ig.runs.phase_runs import PhaseRun, find_start, forget_finished_waves, forget_wave, list_phase_runs
from scaled_ig.runs.plan import TrainingPlan, stage_of
from scaled_ig.runs.provenance import provenance, write_provenance
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel


class MakeTrainer(Protocol):
    """Builds a Trainer from the configuration, these callbacks and further arguments."""

    def __call__(self, callbacks: list[Callback], **arguments: Any) -> Trainer: ...


@checked
@dataclass(frozen=True)
class Monitoring:
    """What watches training and saves it on the way; nothing of it changes what is learned but ``plateau``.

    Args:
        eval_every_n_steps: Steps between evaluations on ``val`` views; 0 for none.
        checkpoint_every_n_steps: Steps between ``last.ckpt``; those of an epoch where it is None.
        keep_checkpoints: So many of them are kept of a phase, for one may be damaged.
        plateau: When a scene of stage 2 is learned and leaves the batches; at the end of the phase where it is None.
        lpips: Gives the metric, where its weights are here; called when everything is found to be in order.
        log: What all loggers are told through, where there are any.
    """

    eval_every_n_steps: StepsOrNone = 0
    checkpoint_every_n_steps: Steps | None = None
    keep_checkpoints: Count = 2
    plateau: Plateau | None = None
    lpips: Callable[[], Lpips | None] = lambda: None
    log: RunLog | None = None


@dataclass(frozen=True)
class Training:
    """One run of ``scaled-ig fit`` or ``scaled-ig add``.

    Args:
        run: Where everything is written.
        model: What is trained.
        data: Views.
        plan: The phases and their settings.
        make_trainer: Builds Trainers.
        bank_writer: Puts scenes into a bank.
        monitoring: What watches.
        source: What stage 2 starts from; this run's stage 1 where it is None.
        watch: What hears signals and the other ranks.
        check: Raises UsageError where what is asked for cannot be done.
        added_to: Run whose bank gets the scenes, where it is another one.
    """

    run: RunFolder
    model: SceneModel
    data: MultiViewDataModule
    plan: TrainingPlan
    make_trainer: MakeTrainer
    bank_writer: BankWriter
    monitoring: Monitoring = Monitoring()
    source: Source | None = None
    watch: Watch = field(default_factory=Watch)
    check: Callable[[], None] = lambda: None
    added_to: RunFolder | None = None

    def __call__(
        self,
        resume: bool,
        settings: dict[str, Any],
        read_saved: Callable[[], dict[str, Any] | None] = lambda: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Train what is left. All ranks call it.

        Args:
            resume: Go on from what the run folder holds.
            settings: The configuration as plain values, on which the ranks must agree.
            read_saved: Gives that with which the run was begun, where it goes on.
            before: Called on the first rank once everything is found to be in order, before anything is written.

        Raises:
            UsageError: The run folder is taken, or being written by others, or stage 1 is missing.
        """
        trainer = self.make_trainer(callbacks=[], max_steps=1)
        meet(trainer, self.watch)
        agree(
            {key: str(value) for key, value in flat(settings).items()},
            "start every rank with the same command and configuration",
        )
        self.data.trainer = trainer
        self.model.representation.shard(trainer.global_rank, trainer.world_size)
        scenes = together(self._check)
        agree({"scenes": digest_of(scenes)}, "give every rank the same pack")
        phase_runs = list_phase_runs(self.run, self.plan, self.data)
        together(lambda: [self._data_of(phase_run).sampler() for phase_run in phase_runs])  # which fit their batches
        with ExitStack() as stack:
            on_first_rank(lambda: stack.enter_context(self._alone()))
            self._train_what_is_left(trainer, phase_runs, scenes, resume, settings, read_saved, before)

    def _alone(self) -> AbstractContextManager[None]:
        if self.added_to is not None:
            return self.added_to.alone("wait for it")
        return self.run.alone("wait for it, or give another --run_dir")

    def _train_what_is_left(
        self,
        trainer: Trainer,
        phase_runs: list[PhaseRun],
        scenes: dict[str, Any],
        resume: bool,
        settings: dict[str, Any],
        read_saved: Callable[[], dict[str, Any] | None],
        before: Callable[[], None],
    ) -> None:
        done = together(partial(self._finished, phase_runs, resume))
        agree({"finished phases": len(done)}, f"put {self.run.path} on storage that all nodes see")
        num_done, start = len(done), None
        if resume and num_done < len(phase_runs):
            num_done, start = find_start(phase_runs, num_done)
        progress = _progress(phase_runs, num_done, start)
        saved = together(read_saved)
        changes = list_changes(saved, settings) if saved is not None else []
        together(partial(refuse_changes, self.run, changes, progress))
        if resume:  # the same settings may find other scenes
            together(partial(refuse_other_scenes, self.run, scenes))
        on_first_rank(lambda: forget_finished_waves(self.run, phase_runs, num_done))
        if num_done == len(phase_runs):
            _say(trainer, f"{self.run.path}: all phases are done")
            return
        done = done[:num_done]
        together(self.monitoring.lpips)

        def begin() -> None:
            before()
            self.run.write_json("scenes.json", scenes)
            facts = provenance(self.data, self.plan.seed)
            write_provenance(self.run, facts)
            if self.monitoring.log is not None:
                self.monitoring.log.belong()
                self.monitoring.log.log_hyperparams(settings | {"provenance": facts})
            if changes and progress.begun:
                log_changes(self.run, changes, progress)

        on_first_rank(begin)
        together(partial(check_visible, self.run))
        _say(trainer, _kernel_line(self.model.renderer.to(trainer.strategy.root_device)))
        state = ModelState(self.model, self.plan, self.bank_writer.bank, self.source)
        state.restore(done[-1] if done else None, phase_runs[len(done)])
        for place in range(len(done), len(phase_runs)):
            if resume and place > len(done):
                start = phase_runs[place].newest_last()
            self._train(phase_runs[place], state, start, phase_runs[:place])
        if self.monitoring.log is not None:
            on_first_rank(partial(self._end_log, self.monitoring.log, settings.get("init_from")))

    def _end_log(self, log: RunLog, init_from: str | None) -> None:
        log_end(log, self.run, RunFolder(init_from) if init_from else None)
        log.keep_bank(self.bank_writer.bank)
        log.end("success")

    def _check(self) -> dict[str, Any]:
        check_phases(self.plan.phases, self.model, self.data)
        if self.source is not None or self.plan.last_of_stage1:
            check_hand_over(self.plan.hand_over, self.model)
        check_memory({stage_of(name) for name in self.plan.phases}, self.model, self.data, self.plan.waves)
        if self.monitoring.plateau is not None:
            check_plateau(self.data.val_fraction, self.plan.adam)
        self.check()
        return scenes_of(self.data, self.plan.phases, self.plan.waves) | self.plan.terms

    def _finished(self, phase_runs: list[PhaseRun], resume: bool) -> list[PhaseRun]:
        is_begun = any((self.run.path / "checkpoints").glob("*/*.ckpt")) or (self.run.path / "waves").is_dir()
        if is_begun and not resume:
            raise UsageError(f"{self.run.path} already holds checkpoints: give --resume true or another --run_dir")
        return list(takewhile(lambda phase_run: resume and phase_run.is_finished, phase_runs))

    def _data_of(self, phase_run: PhaseRun, **wanted: Any) -> MultiViewDataModule:
        """Views of a phase run.

        Args:
            phase_run: Whose.
            wanted: What its module needs, see :class:`PhaseData`.
        """
        config = phase_run.config
        return self.data.for_phase(
            PhaseData(phase_run.stage, config.batch_size, config.views_per_scene, phase_run.scenes, **wanted)
        )

    def _train(self, phase_run: PhaseRun, state: ModelState, start: Saved | None, before: list[PhaseRun]) -> None:
        """Train a phase run, measure it, put its scenes into the bank and save it.

        Args:
            phase_run: What is trained.
            state: What the model holds.
            start: Checkpoint to go on from.
            before: Phase runs before it.
        """
        self.watch.phase, self.watch.step = phase_run.phase, None
        gc.collect()  # the last Trainer is a cycle that holds its scenes' rows and moments
        seed_everything(self.plan.seed, workers=True, verbose=False)
        config, monitoring = phase_run.config, self.monitoring
        module = config.module(self.model, RunSettings(self.plan.adam, self.plan.seed, phase_run.shared_frozen))
        data = self._data_of(
            phase_run, order=module.number, with_images=module.needs_images, with_masks=module.needs_masks
        )
        clock, table = TrainingClock(), phase_run.run.training
        with clock.counting():
            state.enter(phase_run, data, goes_on=start is not None)
        evaluation = Evaluation(table, clock, monitoring.eval_every_n_steps, lpips=monitoring.lpips(), watch=self.watch)
        dashboard = Dashboard(clock, monitoring.eval_every_n_steps)
        plateau = monitoring.plateau if phase_run.stage == 2 else None
        plateau_stop = PlateauStop(plateau, evaluation) if plateau else None
        checkpoints, start_file = phase_run.run.checkpoint(phase_run.phase).parent, start.path if start else None
        trainer = self.make_trainer(
            max_epochs=-1 if config.max_steps else config.max_epochs,
            max_steps=config.max_steps or -1,
            callbacks=[
                MetricsLog(table, clock),
                evaluation,
                clock,  # behind what measures: it runs until the phase is finished
                *([plateau_stop] if plateau_stop else []),
                dashboard,
                KeepLast(checkpoints, monitoring.checkpoint_every_n_steps or data.steps_per_epoch(), self.watch),
            ],
            plugins=[AtomicCheckpointIO(monitoring.keep_checkpoints, start_file)],
            default_root_dir=str(phase_run.run.path),
        )
        if start is not None and start.damages:
            damages = " and ".join(start.damages)
            _say(trainer, f"{damages}: {phase_run.phase} goes on from {start.path.name}, step {start.step}")
        _say(trainer, _announcement(phase_run, data))
        if monitoring.log is not None:
            scenes, batches = len(data.scenes(phase_run.stage)), trainer.accumulate_grad_batches
            monitoring.log.enter(beginning(self.run, phase_run, before, scenes, batches), clock)
        trainer.fit(module, datamodule=data, ckpt_path=start_file, weights_only=True)
        self.watch.can_finish = False
        cut_at_the_end = not evaluation.scenes  # between its last step and its finish: there was nothing left to train
        if cut_at_the_end:
            _count_last_epoch(trainer)
            module.finish()
        self.model.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
        if cut_at_the_end:
            if plateau_stop:
                plateau_stop.make_up(trainer, module)
            evaluation.conclude(trainer, module)
        module.require_finite()  # what follows the last step is in no checkpoint yet
        with clock.counting():
            start_of_scenes = state.start(phase_run, data)
        self.bank_writer(self.model, data, phase_run, start_of_scenes)
        scene_bytes = bytes_per_scene(self.model)  # of the scenes of all ranks

        def conclude() -> None:
            write_quality(self.run, data, phase_run, evaluation.scenes, clock.seconds)
            ranks, steps = trainer.world_size, trainer.global_step
            write_costs(self.run, self.model, phase_run, steps, clock, ranks, scene_bytes)
            dashboard.conclude(trainer, module, evaluation.scenes, results(self.run, phase_run.phase))

        on_first_rank(conclude)
        self.model.cpu()
        save(trainer, phase_run.run.checkpoint(phase_run.phase))  # last: the phase is done
        if phase_run.waves > 1 and phase_run.phase == self.plan.last_phase:
            on_first_rank(lambda: forget_wave(phase_run))


def _progress(phase_runs: list[PhaseRun], num_done: int, start: Saved | None) -> Progress:
    """How far a run has come of which some phase runs are done, and the next one goes on from ``start``."""
    done, left = ({phase_run.phase for phase_run in part} for part in (phase_runs[:num_done], phase_runs[num_done:]))
    phase = phase_runs[num_done].phase if left else ""
    if start is None:
        return Progress(done, done - left, phase)
    return Progress(done | {phase}, done - left, phase, start.step, start.epoch)


def _count_last_epoch(trainer: Trainer) -> None:
    """Bring Lightning's counters to the end of the phase, where they were saved in the course of the last step."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if progress.total.completed == progress.total.ready:
        return
    progress.increment_completed()
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1
    trainer.fit_loop.epoch_progress.increment_processed()
    trainer.fit_loop.epoch_progress.increment_completed()


def _say(trainer: Trainer, sentence: str) -> None:
    if trainer.is_global_zero:
        print(sentence, flush=True)


def _kernel_line(renderer: Renderer) -> str:
    try:
        return describe_kernel(renderer.kernel, renderer.head)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _announcement(phase_run: PhaseRun, data: MultiViewDataModule) -> str:
    config, padding = phase_run.config, data.sampler().padding
    length = f"{config.max_steps} steps" if config.max_steps else f"{config.max_epochs} epochs"
    again = f", {padding} views of an epoch twice to fill its batches" if padding else ""
    wave = f", wave {phase_run.wave + 1} of {phase_run.waves}" if phase_run.waves > 1 else ""
    count = len(data.scenes(phase_run.stage))
    scenes = f"{count} scene{'s' * (count != 1)} of stage {phase_run.stage}"
    return f"{phase_run.phase}: {scenes}{wave}, {length}{again}"
