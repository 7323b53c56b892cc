"""What happens to scenes when the parts that they share are trained on others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import SceneBank, spread
from scaled_ig.distributed.agreement import together
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.runs.bank_writers import KeepVersion
from scaled_ig.runs.phase_runs import Job
from scaled_ig.runs.record import RunRecord
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel

SAMPLE = 16


@dataclass(frozen=True)
class KeepTuned:
    """Keeps scenes whose shared parts were trained on, where the run's own can move to these parts, too.

    Args:
        keep: Keeps the new scenes.
        run: The run.
        version: Version of its scenes whose shared parts were trained on; all that have the same ones move.
        max_drop_decibels: Most PSNR that a sample of the run's scenes may lose.
    """

    keep: KeepVersion
    run: RunFolder
    version: str
    max_drop_decibels: float

    @property
    def bank(self) -> Path:
        return self.keep.bank

    def __call__(self, scene: SceneModel, data: MultiViewDataModule, job: Job, start: dict[str, Tensor] | None) -> None:
        """See :class:`Keeper`.

        Raises:
            UsageError: The run's scenes would lose too much; nothing has changed then.
        """
        moving = SceneBank.open(self.bank).sharing(self.version)
        first = next(iter(scene.representation.scene_tables().values())).rank == 0
        # Measured once: ranks must not decide differently.
        together(partial(self._require_a_small_drop, moving, scene, job) if first else lambda: None)
        self.keep(scene, data, job, start)
        SceneBank.open(self.bank).replace_shared(moving, scene)

    def _require_a_small_drop(self, moving: list[str], scene: SceneModel, job: Job) -> None:
        before, after, views = self._measure(moving, scene)
        sentence = f"{views} test views of the run's scenes: {before:.3f} dB, with the tuned shared parts {after:.3f}"
        if before - after > self.max_drop_decibels:
            raise UsageError(
                f"{sentence}, more than --max_drop_decibels {self.max_drop_decibels} less: nothing was changed in "
                f"{self.bank}; allow more, or remove {job.run.path} and leave out --tune_shared"
            )
        print(sentence, flush=True)

    @torch.no_grad()
    def _measure(self, moving: list[str], scene: SceneModel) -> tuple[float, float, int]:
        """PSNR in dB of a sample of the scenes with their own shared parts, and with those of another model; views."""
        record = RunRecord.open(self.run.path, measured=False)
        data, tuned = record.open_data(), scene.shared_state()
        versions = [name for name in record.versions(2) if name in moving]
        before: list[dict[str, Any]] = []
        after: list[dict[str, Any]] = []
        for version in versions:
            ids = spread([one.id for one in record.bank.scenes(version)], -(-SAMPLE // len(versions)))
            sample = record.bank.load_version(version, ids).to(scene.background.device)
            before += per_scene(evaluate(sample, data.views_of(2, ids, "test")))
            for name, value in sample.shared_state().items():
                value.copy_(tuned[name])
            after += per_scene(evaluate(sample, data.views_of(2, ids, "test")))
        if not versions:  # all of them were removed: there is nothing to lose
            return 0.0, 0.0, 0
        return over_scenes(before)["psnr"], over_scenes(after)["psnr"], over_scenes(before)["num_views"]
