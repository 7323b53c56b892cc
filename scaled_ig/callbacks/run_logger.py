"""Weights & Biases without surprises: never prompts, never takes the run down with it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated, Literal

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from scaled_ig.files import write_whole
from scaled_ig.ranges import Range, checked


@checked
class RunLogger(WandbLogger):
    """One W&B run for all phases and all resumptions of a run folder.

    Args:
        project: W&B project.
        group: Group of runs, e.g. one experiment.
        name: Name of the run; that of the run folder where it is None.
        tags: Tags.
        entity: W&B user or team.
        mode: ``auto`` goes online where a key is found, else writes an offline run.
        id: Run id; kept in the run folder where it is None.
        save_dir: Where ``wandb/`` is written; the run folder where it is None.
        init_timeout: Seconds to wait for W&B before going offline.
    """

    def __init__(
        self,
        project: str = "scaled-ig",
        group: str | None = None,
        name: str | None = None,
        tags: list[str] | None = None,
        entity: str | None = None,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        id: str | None = None,
        save_dir: str | None = None,
        init_timeout: Annotated[float, Range(0, 3600, without_low=True)] = 30.0,
    ) -> None:
        super().__init__(
            project=project,
            group=group,
            name=name,
            tags=tags,
            entity=entity,
            id=id,
            save_dir=save_dir or ".",
            resume="allow",
        )
        self.mode, self.init_timeout = mode, init_timeout
        self.step_offset = 0  # steps of the phases before: one axis for the whole run

    def belong_to(self, run_folder: Path) -> None:
        """Take from a run folder what was not given: id, name and place."""
        if self._id is None:
            self._id = self._wandb_init["id"] = run_id(run_folder)
        if self._name is None:
            self._name = self._wandb_init["name"] = run_folder.name
        if self._save_dir == ".":
            self._save_dir = self._wandb_init["dir"] = str(run_folder)

    @property
    def experiment(self):
        if self._experiment is None and getattr(rank_zero_only, "rank", 0) == 0:
            import wandb

            self._wandb_init.update(mode=self._resolved_mode(), settings=wandb.Settings(init_timeout=self.init_timeout))
            try:
                return super().experiment
            except wandb.errors.CommError as error:
                print(f"W&B cannot be reached ({type(error).__name__}): this run is logged offline", flush=True)
                wandb.teardown()
                self._wandb_init["mode"] = "offline"
        return super().experiment

    def _resolved_mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE"):
            return os.environ["WANDB_MODE"]
        import wandb

        try:
            return "online" if wandb.login(prompt=False, verify=False) else "offline"
        except Exception:
            return "offline"

    def log_metrics(self, metrics, step=None) -> None:
        super().log_metrics(metrics, None if step is None else step + self.step_offset)


def run_id(run_folder: Path) -> str:
    """W&B's id of a run folder, kept in ``wandb/run_id``: a resumed or moved run goes on in the same W&B run.

    Only rank zero logs, so that only it writes the id.

    Args:
        run_folder: Made where it is missing.
    """
    path = run_folder / "wandb" / "run_id"
    if path.is_file():
        return path.read_text().strip()
    name = uuid.uuid4().hex[:8]
    if getattr(rank_zero_only, "rank", 0) == 0:
        write_whole(path, name + "\n")
    return name
