"""Phase 2a: latent supervision of stage 2."""

from __future__ import annotations

from typing import ClassVar

from scaled_ig.optim.schedules import Exponential, Schedule
from scaled_ig.phases.latent_fitting import LatentFitting


class LatentSupervision(LatentFitting):
    """L_latent on stage 2's scenes, with what stage 1 handed over (method 5)."""

    name: ClassVar[str] = "latent_supervision"
    number: ClassVar[int] = 3
    stage: ClassVar[int] = 2
    watches: ClassVar[str] = "latent_psnr"
    papers_schedule: ClassVar[type[Schedule]] = Exponential
