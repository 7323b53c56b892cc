"""What a configuration may ask of ``fit``: phases in their one order, and what stage 2 takes from stage 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from scaled_ig.phases import AdamSettings, Phase, RunSettings
from scaled_ig.ranges import Count, Steps, checked
from scaled_ig.scene_model import SceneModel

PHASES = ("autoencoder", "warm_up", "joint", "distillation", "latent_supervision", "rgb_alignment")
STAGE1_PHASES = PHASES[:4]


@checked
@dataclass
class PhaseConfig:
    """One training phase.

    Args:
        module: The phase; it is given the scene model and the run's settings.
        max_epochs: Length in epochs.
        max_steps: Length in optimiser steps, instead of epochs; of all waves together, where there are several.
        batch_size: Views of a global batch, if not the data module's own.
        views_per_scene: Views of a scene in a batch, if not the data module's own.
    """

    module: Callable[[SceneModel, RunSettings], Phase]
    max_epochs: Count | None = None
    max_steps: Steps | None = None
    batch_size: Count | None = None
    views_per_scene: Count | None = None


def for_scenes(phase: PhaseConfig, num_scenes: int, meant_for: int) -> PhaseConfig:
    """A phase in which each of some scenes is seen as often, in as many steps, as it was meant for all.

    Fewer scenes get smaller batches where a batch would otherwise hold more views of each. A length in steps becomes
    that of as many epochs.

    Args:
        phase: With ``batch_size`` and ``views_per_scene``.
        num_scenes: Scenes that it trains.
        meant_for: Scenes that its length was chosen for.
    """
    assert phase.batch_size
    assert phase.views_per_scene
    most = num_scenes * max(phase.views_per_scene, phase.batch_size / meant_for)
    smaller = phase.batch_size
    while smaller > most and smaller % (2 * phase.views_per_scene) == 0:
        smaller //= 2
    steps = phase.max_steps and math.ceil(phase.max_steps * num_scenes * phase.batch_size / (meant_for * smaller))
    return replace(phase, batch_size=smaller, max_steps=steps)


@checked
@dataclass(frozen=True)
class Waves:
    """Stage 2 over more scenes than memory holds: scenes are learned in waves, and lie in the bank before and after.

    Args:
        scenes: Most scenes of stage 2 that are trained at a time; all of them where it is None.
        shared: What waves after the first do with what scenes share: leave it as it is (``freeze``), or go on training
            it (``carry``), so that the bank keeps a version of it for every wave.
    """

    scenes: Count | None = None
    shared: Literal["freeze", "carry"] = "freeze"

    def ranges(self, num_scenes: int) -> list[range]:
        """Scenes of each wave, as even as they can be."""
        waves = -(-num_scenes // self.scenes) if self.scenes else 1
        return [range(wave * num_scenes // waves, (wave + 1) * num_scenes // waves) for wave in range(waves)]


@dataclass(frozen=True)
class HandOver:
    """What stage 2 takes from stage 1 beside the autoencoder.

    Args:
        bases: Base planes.
        head: Field head.
        scene_mean: Start new scenes at the mean of stage 1's, instead of noise.
        scene_views: From there, move each to where its own views and masks say, by a map that stage 1's scenes fit.
    """

    bases: bool = True
    head: bool = True
    scene_mean: bool = False
    scene_views: bool = False


@dataclass(frozen=True)
class TrainingPlan:
    """What a run trains.

    Args:
        phases: By name.
        hand_over: What stage 2 takes from stage 1.
        adam: Optimiser settings of all phases.
        seed: Of the noise and of new scenes.
        waves: Scenes of stage 2 that are trained at a time.
        version: Version of the bank for stage 2's scenes.
        meant_for: Scenes of stage 2 that the phases' numbers of steps were chosen for; all of them where it is None.
        shared_frozen: Train the scenes' own parameters alone.
        terms: What else must not change when the run goes on.
    """

    phases: dict[str, PhaseConfig]
    hand_over: HandOver = HandOver()
    adam: AdamSettings = AdamSettings()  # noqa: RUF009 - frozen
    seed: int = 0
    waves: Waves = Waves()
    version: str = "stage2"
    meant_for: int | None = None
    shared_frozen: bool = False
    terms: dict[str, str] = field(default_factory=dict)

    @property
    def last_of_stage1(self) -> str | None:
        """Name of the phase after which scenes of stage 1 are finished; None where it has no phase."""
        return next((name for name in reversed(STAGE1_PHASES) if name in self.phases), None)

    @property
    def last_phase(self) -> str:
        """Name of the phase after which scenes are finished."""
        return [name for name in PHASES if name in self.phases][-1]


def stage_of(phase: str) -> int:
    """1 or 2: whose scenes a phase trains."""
    return 1 if phase in STAGE1_PHASES else 2
