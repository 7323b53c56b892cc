"""Which scenes the model holds between the phases of a run, and what stage 2 takes from stage 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.writing import is_first_rank
from scaled_ig.phases.checkpoints import load_checkpoint
from scaled_ig.representations.view_start import ViewStart
from scaled_ig.runs.phase_runs import PhaseRun
from scaled_ig.runs.plan import TrainingPlan
from scaled_ig.runs.starting import Start, fit_view_start, start_from_views
from scaled_ig.scene_model import SceneModel


@dataclass(frozen=True)
class Source:
    """Where stage 2 starts from, if not from this run's own stage 1.

    Args:
        bank: Its bank.
        version: Version whose shared parts, and whose start of new scenes, are taken.
    """

    bank: SceneBank
    version: str


class ModelState:
    """Brings the model from one phase run to the next.

    Args:
        model: As the configuration makes it; the parts that stage 2 does not take over begin again from here.
        plan: What the run trains.
        bank: Folder of the run's bank.
        source: What stage 2 starts from; this run's stage 1 where it is None.
    """

    def __init__(self, model: SceneModel, plan: TrainingPlan, bank: Path, source: Source | None) -> None:
        self.model, self.plan, self.bank, self.source = model, plan, bank, source
        bases = [f"representation.{name}" for name in model.representation.shared_parameters()]
        again = ([] if plan.hand_over.bases else bases) + ([] if plan.hand_over.head else ["renderer.head."])
        self._first = {name: v.clone() for name, v in model.state_dict().items() if name.startswith(tuple(again))}
        self._holds: PhaseRun | None = None  # a phase run of the scenes that the model holds
        self._of_stage2: Start | None = None

    def restore(self, last: PhaseRun | None, phase_run: PhaseRun) -> None:
        """Bring the model to where the ``last`` phase run that is finished left it, for the one that is next."""
        if last is None:
            if self.source is not None:
                self.source.bank.load_shared(self.source.version, self.model)
            return
        path = last.run.checkpoint(last.phase)
        if path.is_file():
            same = last.has_scenes_of(phase_run)
            load_checkpoint(self.model, path, with_scenes=same)
            self._holds = last if same else None
            return
        bank, version = SceneBank.open(self.bank), last.version  # a wave of which the bank alone is left
        if self.plan.shared_frozen and self.source is not None:
            bank, version = self.source.bank, self.source.version
        bank.load_shared(version, self.model)

    def enter(self, phase_run: PhaseRun, data: MultiViewDataModule, goes_on: bool) -> None:
        """Give the model the scenes of a phase run, where it holds others.

        Args:
            phase_run: What is trained next.
            data: Its views.
            goes_on: A checkpoint will say where its scenes are.
        """
        if self._holds is None or not self._holds.has_scenes_of(phase_run):
            representation, start = self.model.representation, self._start(phase_run.stage)
            seed = 2 * self.plan.seed + phase_run.stage + 1000 * phase_run.wave
            representation.new_scenes(len(data.scenes(phase_run.stage)), seed, start.mean)
            if phase_run.stage == 2 and phase_run.wave == 0:
                self.model.load_state_dict(self._first, strict=False)
            if start.views and start.mean and not goes_on:
                start_from_views(self.model, data, start.views, start.mean)
        self._holds = phase_run

    def start(self, phase_run: PhaseRun, data: MultiViewDataModule) -> Start:
        """What scenes of a phase run's version start from, once it has been trained. Collective."""
        if phase_run.phase != self.plan.last_of_stage1 or not self.plan.hand_over.scene_views:
            return self._start(phase_run.stage)
        return Start(views=fit_view_start(self.model, data))

    def _start(self, stage: int) -> Start:
        """What new scenes start from."""
        trained = self.source is not None or {"warm_up", "joint"} & self.plan.phases.keys()
        if stage == 1 or not trained or not self.plan.hand_over.scene_mean:
            return Start()
        if self._of_stage2 is None:
            source = self.source or Source(SceneBank.open(self.bank), "stage1")
            mean = source.bank.mean(source.version)
            if self.model.own_heads and not self.plan.hand_over.head:
                mean["head"] = self.model.renderer.head.row
            hull = self.model.representation.hull  # of this run: that of the source may sample otherwise
            mean.pop("hull", None)
            mean |= {} if hull is None else {"hull": hull.mean()}
            self._of_stage2 = Start(mean, self._views(source) if self.plan.hand_over.scene_views else None)
        return self._of_stage2

    def _views(self, source: Source) -> ViewStart | None:
        views = source.bank.view_start(source.version)
        if views is None and is_first_rank():
            print(
                f"{source.bank.path}: stage 1 has fitted no start from views (it had no masks, or was trained without "
                "hand_over.scene_views): scenes start at the mean",
                flush=True,
            )
        return views
