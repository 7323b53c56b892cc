"""What a run consists of: phases in their order, those of stage 2 once for every wave."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from scaled_ig.runs.plan import PHASES, Waves, stage_of
from scaled_ig.runs.run_folder import RunFolder

FINISHED = "finished.json"
FORGOTTEN = ("checkpoints", "latents")


@dataclass(frozen=True)
class PhaseRun:
    """One phase on one set of scenes.

    Args:
        phase: Its name.
        run: Folder of its checkpoints, latents and training log: the run's own, or that of a wave.
        version: Version of the bank that holds its scenes.
        wave: Number of the wave, from 0.
        waves: How many there are.
        scenes: Of stage 2's, those of the wave; None for stage 1.
    """

    phase: str
    run: RunFolder
    version: str
    wave: int = 0
    waves: int = 1
    scenes: range | None = None

    @property
    def stage(self) -> int:
        """1 or 2: whose scenes are trained."""
        return stage_of(self.phase)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.run.checkpoint(self.phase).is_file() or (self.run.path / FINISHED).is_file()


def list_phase_runs(
    run: RunFolder, phases: Iterable[str], num_scenes: int, waves: Waves, version: str
) -> list[PhaseRun]:
    """Everything that a run does, in order.

    Args:
        run: The run.
        phases: Names of its phases.
        num_scenes: Scenes of stage 2.
        waves: How many of them are trained at a time.
        version: Version of the bank for stage 2's scenes; ``<version>-<wave>`` where there are several waves.
    """
    names = [name for name in PHASES if name in phases]
    phase_runs = [PhaseRun(name, run, "stage1") for name in names if stage_of(name) == 1]
    ranges = waves.ranges(num_scenes) if num_scenes else []
    for wave, scenes in enumerate(ranges):
        folder, own_version = run, version
        if len(ranges) > 1:
            folder, own_version = RunFolder(run.path / "waves" / f"{wave:04d}"), f"{version}-{wave:04d}"
        phase_runs += [
            PhaseRun(name, folder, own_version, wave, len(ranges), scenes) for name in names if stage_of(name) == 2
        ]
    return phase_runs


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
