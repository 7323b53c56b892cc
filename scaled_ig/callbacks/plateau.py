"""Scenes of stage 2 leave the batches once they are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback

from scaled_ig.callbacks.evaluation import Evaluation


@dataclass(frozen=True)
class Plateau:
    """When a scene of stage 2 is learned: its watched (``val``) views no longer improve (method 6).

    Args:
        min_gain_decibels: What a measurement must have over the scene's best so far.
        patience: Measurements in a row that had less.
    """

    min_gain_decibels: float = 0.02
    patience: int = 2


class PlateauStop(Callback):
    """Takes learned scenes out of a phase's batches, and ends the phase when none is left.

    It stands behind the evaluation that it reads. All ranks know the measurements of all scenes, and decide alike.

    Args:
        plateau: When a scene is learned.
        evaluation: Measures ``val`` views of every scene.
    """

    def __init__(self, plateau: Plateau, evaluation: Evaluation) -> None:
        self.plateau, self.evaluation = plateau, evaluation
        self._best = self._waited = torch.empty(0)  # [N] dB of each scene, and measurements since then

    def on_train_start(self, trainer, pl_module) -> None:
        if not len(self._best):
            num_scenes = pl_module.scene.representation.num_scenes
            self._best, self._waited = torch.full((num_scenes,), -torch.inf), torch.zeros(num_scenes)
        self._decide(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.evaluation.watched_at != trainer.global_step:
            return
        scenes = torch.tensor([record["scene"] for record in self.evaluation.watched])
        quality = torch.tensor([record[pl_module.watches] for record in self.evaluation.watched])
        gained = quality > self._best[scenes] + self.plateau.min_gain_decibels
        going_on = self._waited[scenes] < self.plateau.patience  # a learned scene stays so, though shared parts move
        self._waited[scenes] = torch.where(gained & going_on, 0, self._waited[scenes] + 1)
        self._best[scenes] = torch.where(gained, quality, self._best[scenes])  # slow gains add up
        self._decide(trainer, pl_module)

    def _decide(self, trainer, pl_module) -> None:
        learned = self._waited >= self.plateau.patience
        pl_module.learned = learned.to(pl_module.device)
        if learned.all():
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]
