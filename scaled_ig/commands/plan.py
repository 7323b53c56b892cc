"""What a configuration may ask of ``fit``: phases in their one order, and what stage 2 takes from stage 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scaled_ig.phases import Phase
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


def stage_of(phase: str) -> int:
    """1 or 2: whose scenes a phase trains."""
    return 1 if phase in STAGE1_PHASES else 2
