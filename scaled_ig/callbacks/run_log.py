"""What the loggers of a run are told: numbers, settings and pictures, on axes that go on over all phases.

Letters: F frames, H rows and W columns of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.run_logger import RunLogger

AXES = ("axes/phase", "axes/seconds", "axes/images", "axes/scenes")
MOST_FRAMES = 8  # of a film, for those who show pictures alone


@dataclass(frozen=True)
class Beginning:
    """Where a phase begins on the axes of its run.

    Args:
        phase: Its number among all phases, from 1.
        steps: Training steps of the phases before it.
        seconds: Their training time.
        images: Views that they have seen, each as often as it was seen.
        scenes: Scenes that the run has begun to train, those of the phase among them.
        images_per_step: Views that a step of the phase sees.
    """

    phase: int = 0
    steps: int = 0
    seconds: float = 0.0
    images: int = 0
    scenes: int = 0
    images_per_step: int = 0


class RunLog(Logger):
    """All loggers of a run as one, which a Trainer takes for its own.

    Steps go on over the phases; every row of numbers has ``axes/*`` beside them. Pictures go to those loggers that can
    show them: W&B (:class:`RunLogger`), TensorBoard and MLflow.

    Args:
        loggers: Any of Lightning's.
        folder: Of the run.
    """

    def __init__(self, loggers: Sequence[Logger], folder: Path) -> None:
        super().__init__()
        self.loggers, self.folder = list(loggers), folder
        self._begins, self._clock = Beginning(), TrainingClock()

    def belong(self) -> None:
        """Take up the run folder, once it is this process's."""
        for logger in self._of_wandb():
            logger.belong_to(self.folder)
            logger.define_axes(AXES)

    def enter(self, begins: Beginning, clock: TrainingClock) -> None:
        """Count steps from the beginning of a phase on."""
        self._begins, self._clock = begins, clock

    # -- what a Trainer asks of its logger ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        """Where profilers write, too."""
        return str(self.folder)

    @property
    def experiment(self) -> Any:
        """That of the first logger."""
        return self.loggers[0].experiment  # type: ignore[attr-defined]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for logger in self.loggers:
            logger.log_metrics(self._axes(step) | metrics, self._place(step))

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        for logger in self.loggers:
            logger.log_hyperparams(params)

    def log_graph(self, model, input_array=None) -> None:
        for logger in self.loggers:
            logger.log_graph(model, input_array)

    @rank_zero_only
    def save(self) -> None:
        for logger in self.loggers:
            logger.save()
            if isinstance(logger, TensorBoardLogger):  # it would keep two minutes to itself
                logger.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """A phase has ended; the next one goes on in the same files."""
        self.save()

    @rank_zero_only
    def end(self, status: str) -> None:
        """The run has ended."""
        for logger in self.loggers:
            logger.finalize(status)
        for logger in self._of_wandb():  # or the next run of this process would go on in it
            logger.experiment.finish()

    # -- what numbers do not show ------------------------------------------------------------------------------------

    def log_picture(self, key: str, picture: NDArray[np.uint8], caption: str, step: int) -> None:
        """A picture [H, W, 3], with a caption where there is room for one."""
        self._log_media(key, lambda wandb: wandb.picture(picture, caption), step)
        self._show(key, picture, step)

    def log_film(self, key: str, frames: NDArray[np.uint8], caption: str, step: int) -> None:
        """A film [F, H, W, 3]; some of its frames beside each other for those that show no films."""
        self._log_media(key, lambda wandb: wandb.film(frames, caption), step)
        self._show(key, np.concatenate(list(frames[:: -(-len(frames) // MOST_FRAMES)]), 1), step)

    def log_histogram(self, key: str, values: Sequence[float], step: int) -> None:
        """How values are distributed: to W&B and TensorBoard."""
        self._log_media(key, lambda wandb: wandb.histogram(values), step)
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram(key, np.asarray(values), self._place(step))

    def log_table(self, key: str, rows: Sequence[dict[str, Any]], step: int) -> None:
        """Rows with pictures: to W&B alone."""
        self._log_media(key, lambda wandb: wandb.table(rows), step)

    def log_curve(self, key: str, rows: Sequence[dict[str, Any]], along: str, of: str) -> None:
        """A line over all of the run: to W&B alone."""
        self._log_media(key, lambda wandb: wandb.curve(rows, along, of), None)

    def keep_bank(self, bank: Path) -> None:
        """Have W&B keep the bank, where that is asked for."""
        for logger in self._of_wandb():
            logger.keep("bank", bank)

    # -- axes --------------------------------------------------------------------------------------------------------

    def _of_wandb(self) -> list[RunLogger]:
        return [logger for logger in self.loggers if isinstance(logger, RunLogger)]

    def _log_media(self, key: str, make: Callable[[RunLogger], Any], step: int | None) -> None:
        for logger in self._of_wandb():
            logger.log_metrics({**self._axes(step), key: make(logger)}, self._place(step))

    def _show(self, key: str, picture: NDArray[np.uint8], step: int) -> None:
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(key, picture, self._place(step), dataformats="HWC")
            elif isinstance(logger, MLFlowLogger):
                logger.experiment.log_image(logger.run_id, picture, key=key, step=self._place(step))

    def _place(self, step: int | None) -> int | None:
        return None if step is None else step + self._begins.steps

    def _axes(self, step: int | None) -> dict[str, float]:
        if step is None:
            return {}
        begins = self._begins
        seconds, images = begins.seconds + self._clock.seconds, begins.images + step * begins.images_per_step
        return dict(zip(AXES, (begins.phase, seconds, images, begins.scenes), strict=True))
