"""Phase 1a: warm-up of stage 1."""

from __future__ import annotations

from typing import ClassVar

from scaled_ig.optim.schedules import MultiStep, Schedule
from scaled_ig.phases.latent_fitting import LatentFitting


class WarmUp(LatentFitting):
    """L_latent on stage 1's scenes, before the autoencoder is trained with them (method 5)."""

    name: ClassVar[str] = "warm_up"
    number: ClassVar[int] = 1
    stage: ClassVar[int] = 1
    papers_schedule: ClassVar[type[Schedule]] = MultiStep
