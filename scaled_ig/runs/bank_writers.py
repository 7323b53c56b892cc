"""How scenes that were learned get into a bank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.bank.table import Origin
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.runs.encodings import encoded
from scaled_ig.runs.phase_runs import PhaseRun
from scaled_ig.runs.starting import Start
from scaled_ig.scene_model import SceneModel

MEASURED_SCENES = 8


class BankWriter(Protocol):
    """Puts the scenes of a phase run into a bank.

    ``bank`` is the folder of the bank. A call is collective; ``start`` is what scenes of the version start from.
    """

    @property
    def bank(self) -> Path: ...

    def __call__(self, model: SceneModel, data: MultiViewDataModule, phase_run: PhaseRun, start: Start) -> None: ...


@dataclass(frozen=True)
class WriteVersion:
    """Writes the phase run's version of the bank, again after every phase.

    Args:
        bank: Folder of the bank.
        encoding: Form of the scenes.
    """

    bank: Path
    encoding: Encoding = "float32"

    def __call__(self, model: SceneModel, data: MultiViewDataModule, phase_run: PhaseRun, start: Start) -> None:
        if phase_run.phase == "autoencoder":  # it has no scenes yet
            return
        digests, ids = data.scene_digests(phase_run.stage), data.scene_ids(phase_run.stage)
        origins = _origins(data, phase_run.stage)
        bank = SceneBank.write(
            self.bank, model, ids, phase_run.version, digests, self.encoding, start.mean, origins, start.views
        )
        if self.encoding != "float32" and data.own_scenes(phase_run.stage).start == 0:
            size = bank.record_bytes(phase_run.version) / bank.versions[phase_run.version].num_scenes
            loss = decibels_lost(model, data, phase_run.stage, self.encoding, bank.mean(phase_run.version))
            print(f"{self.bank}: {self.encoding}, {size:,.0f} bytes a scene, {loss:.4f} dB below float32", flush=True)


@dataclass(frozen=True)
class ReplaceScenes:
    """Puts scenes in the place of those of the same ids, in the version that holds them.

    Args:
        bank: Folder of the bank.
    """

    bank: Path

    def __call__(self, model: SceneModel, data: MultiViewDataModule, phase_run: PhaseRun, start: Start) -> None:
        ids, digests = data.scene_ids(phase_run.stage), data.scene_digests(phase_run.stage)
        SceneBank.replace(self.bank, model, ids, digests, _origins(data, phase_run.stage))


@dataclass(frozen=True)
class WriteAfterLastPhase:
    """Writes scenes once they are finished: a bank that others read gets nothing half done.

    Args:
        bank_writer: Writes them.
        last_phase: Its name.
    """

    bank_writer: BankWriter
    last_phase: str

    @property
    def bank(self) -> Path:
        return self.bank_writer.bank

    def __call__(self, model: SceneModel, data: MultiViewDataModule, phase_run: PhaseRun, start: Start) -> None:
        if phase_run.phase == self.last_phase:
            self.bank_writer(model, data, phase_run, start)


def _origins(data: MultiViewDataModule, stage: int) -> list[Origin]:
    return [Origin(*texts) for texts in zip(data.scene_categories(stage), data.scene_licences(stage), strict=True)]


def decibels_lost(
    model: SceneModel, data: MultiViewDataModule, stage: int, encoding: Encoding, mean: dict[str, Tensor]
) -> float:
    """PSNR that an encoding costs on the test views of some scenes of this rank, dB.

    Args:
        model: The model; its scenes are as they were afterwards.
        data: Their views.
        stage: 1 or 2.
        encoding: Form of the scenes in the bank.
        mean: Reference rows of the bank's version.
    """
    views = data.split(stage, "test")
    scenes = data.own_scenes(stage)[:MEASURED_SCENES]
    keys = [(index, view) for index in scenes for view in views[index]]

    def measured() -> float:
        return over_scenes(per_scene(evaluate(model, data.batches(stage, keys))))["psnr"]

    exact = measured()
    with encoded(model, len(scenes), encoding, mean):
        return exact - measured()
