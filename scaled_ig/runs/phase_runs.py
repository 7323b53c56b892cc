"""What a run consists of: phases in their order, those of stage 2 once for every wave."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from data_modules.base import MultiViewDataModule
from scaled_ig.phases.checkpoint_files import Saved, last_checkpoints, newest_whole
from scaled_ig.runs.plan import PHASES, PhaseConfig, TrainingPlan, for_scenes, stage_of
from scaled_ig.runs.run_folder import RunFolder

FINISHED = "finished.json"
FORGOTTEN = ("checkpoints", "latents")


@dataclass(frozen=True)
class PhaseRun:
    """One phase on one set of scenes.

    Args:
        phase: Its name.
        config: How it is trained; batch size and views of a scene in it are set.
        run: Folder of its checkpoints, latents and training log: the run's own, or that of a wave.
        version: Version of the bank that holds its scenes.
        wave: Number of the wave, from 0.
        waves: How many there are.
        scenes: Of stage 2's, those of the wave; None for stage 1.
        shared_frozen: Train the scenes' own parameters alone.
    """

    phase: str
    config: PhaseConfig
    run: RunFolder
    version: str
    wave: int = 0
    waves: int = 1
    scenes: range | None = None
    shared_frozen: bool = False

    @property
    def stage(self) -> int:
        """1 or 2: whose scenes are trained."""
        return stage_of(self.phase)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.run.checkpoint(self.phase).is_file() or (self.run.path / FINISHED).is_file()

    def newest_last(self) -> Saved | None:
        """What the phase can go on from; None at its beginning. Collective.

        Raises:
            UsageError: All of it is damaged, or it is another phase's.
        """
        return newest_whole(list(last_checkpoints(self.run.checkpoint(self.phase).parent).values()), self.phase)

    def newest(self) -> Saved | None:
        """Of a finished phase what was saved last; None where its wave's bank alone is left. Collective.

        Raises:
            UsageError: All of it is damaged, or it is another phase's.
        """
        final = self.run.checkpoint(self.phase)
        paths = [final, *last_checkpoints(final.parent).values()] if final.is_file() else []
        return newest_whole(paths, self.phase)

    def has_scenes_of(self, other: PhaseRun) -> bool:
        """Whether both train the same scenes."""
        return (self.version, self.wave) == (other.version, other.wave)


def list_phase_runs(run: RunFolder, plan: TrainingPlan, data: MultiViewDataModule) -> list[PhaseRun]:
    """Everything that a run does, in order.

    Scenes of stage 2 are in the version ``<version>-<wave>`` of the bank where there are several waves.
    """
    configs = {
        name: replace(
            plan.phases[name],
            batch_size=plan.phases[name].batch_size or data.batch_size,
            views_per_scene=plan.phases[name].views_per_scene or data.views_per_scene,
        )
        for name in PHASES
        if name in plan.phases
    }
    stages = {stage: {name: c for name, c in configs.items() if stage_of(name) == stage} for stage in (1, 2)}
    frozen = plan.shared_frozen
    phase_runs = [PhaseRun(name, config, run, "stage1", shared_frozen=frozen) for name, config in stages[1].items()]
    num_scenes = len(data.scenes(2)) if stages[2] else 0
    ranges = plan.waves.ranges(num_scenes) if num_scenes else []
    for wave, scenes in enumerate(ranges):
        folder, version = run, plan.version
        if len(ranges) > 1:
            folder, version = RunFolder(run.path / "waves" / f"{wave:04d}"), f"{plan.version}-{wave:04d}"
        for name, config in stages[2].items():
            config = for_scenes(config, len(scenes), plan.meant_for or num_scenes)
            frozen = plan.shared_frozen or (wave > 0 and plan.waves.shared == "freeze")
            phase_runs.append(PhaseRun(name, config, folder, version, wave, len(ranges), scenes, frozen))
    return phase_runs


def find_start(phase_runs: list[PhaseRun], num_done: int) -> tuple[int, Saved | None]:
    """Where a run goes on; a phase whose ``final.ckpt`` is damaged goes on from its ``last.ckpt``. Collective.

    Args:
        phase_runs: All that it does.
        num_done: So many of them have left their ``final.ckpt``.

    Returns:
        How many of them are done, and the checkpoint that the next one goes on from; None at its beginning.

    Raises:
        UsageError: All checkpoints of a phase are damaged, or one is another phase's.
    """
    start = None
    while num_done:
        phase_run = phase_runs[num_done - 1]
        saved = phase_run.newest()
        if saved is None or saved.path == phase_run.run.checkpoint(phase_run.phase):
            break
        start, num_done = saved, num_done - 1
    return num_done, start or phase_runs[num_done].newest_last()


def forget_wave(phase_run: PhaseRun) -> None:
    """What a finished wave leaves is its log: the bank has its scenes, and its checkpoints would fill the disk."""
    phase_run.run.write_json(FINISHED, {"version": phase_run.version})
    for folder in FORGOTTEN:
        shutil.rmtree(phase_run.run.path / folder, ignore_errors=True)


def forget_finished_waves(run: RunFolder, phase_runs: list[PhaseRun], num_done: int) -> None:
    """Forget waves that were finished when the run was cut, before it came to that.

    Args:
        run: The run.
        phase_runs: All that it does.
        num_done: So many of them are finished.
    """
    unfinished = {phase_run.version for phase_run in phase_runs[num_done:]}
    for phase_run in phase_runs[:num_done]:
        is_left = any((phase_run.run.path / folder).exists() for folder in FORGOTTEN)
        if phase_run.run is not run and phase_run.version not in unfinished and is_left:
            forget_wave(phase_run)
