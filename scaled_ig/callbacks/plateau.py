"""Scenes of stage 2 leave the batches once they are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from lightning.pytorch import Callback

from scaled_ig.callbacks.evaluation import Evaluation
from scaled_ig.ranges import Count, Range, checked


@checked
@dataclass(frozen=True)
class Plateau:
    """When a scene of stage 2 is learned: its watched (``val``) views no longer improve (method 6).

    They are measured after every epoch, in which each view of each scene is trained once.

    Args:
        min_gain_decibels: What an epoch must bring over the scene's best so far.
        patience: Epochs in a row that brought less.
    """

    min_gain_decibels: Annotated[float, Range(0, 100)] = 0.02
    patience: Count = 2


class PlateauStop(Callback):
    """Takes learned scenes out of a phase's batches, and ends the phase when none is left.

    All ranks know the measurements of all scenes, and decide alike.

    Args:
        plateau: When a scene is learned.
        evaluation: Measures ``val`` views.
    """

    def __init__(self, plateau: Plateau, evaluation: Evaluation) -> None:
        self.plateau, self.evaluation = plateau, evaluation
        self._best = self._waited = torch.empty(0)  # [N] dB of each scene, and epochs since then
        self._step = 0  # of the last look

    def on_train_start(self, trainer, pl_module) -> None:
        self.make_up(trainer, pl_module)
        self._decide(trainer, pl_module)

    def make_up(self, trainer, pl_module) -> None:
        """Look at an epoch that was saved after its last step and cut before its end; collective.

        Lightning goes on with the epoch after it.
        """
        if not len(self._best):
            num_scenes = pl_module.scene.representation.num_scenes
            self._best, self._waited = torch.full((num_scenes,), -torch.inf), torch.zeros(num_scenes)
        step = trainer.global_step
        if step and step % trainer.num_training_batches == 0 and step != self._step:
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self._look(trainer, pl_module)
        self._decide(trainer, pl_module)

    def _look(self, trainer, pl_module) -> None:
        measured = self.evaluation.measure_watched(trainer, pl_module)
        scenes = torch.tensor([record["scene"] for record in measured])
        quality = torch.tensor([record[pl_module.watches] for record in measured])
        gained = quality > self._best[scenes] + self.plateau.min_gain_decibels
        going_on = self._waited[scenes] < self.plateau.patience  # a learned scene stays so, though shared parts move
        self._waited[scenes] = torch.where(gained & going_on, 0, self._waited[scenes] + 1)
        self._best[scenes] = torch.where(gained, quality, self._best[scenes])  # slow gains add up
        self._step = trainer.global_step

    def _decide(self, trainer, pl_module) -> None:
        learned = self._waited >= self.plateau.patience
        pl_module.learned = learned.to(pl_module.device)
        if learned.all():
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited, "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited, self._step = state["best"], state["waited"], state.get("step", 0)
