"""Weights & Biases without surprises: never prompts, never takes the run down with it."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import imageio.v2 as imageio
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from scaled_ig.errors import UsageError
from scaled_ig.files import write_whole
from scaled_ig.ranges import Range, checked

Artifact = Literal["bank", "report"]
FRAMES_PER_SECOND = 12


@checked
class RunLogger(WandbLogger):
    """One W&B run for all phases and all resumptions of a run folder.

    Args:
        project: W&B project.
        group: Group of runs, e.g. one table of a paper.
        name: Name of the run; that of the run folder where it is None.
        tags: Tags.
        entity: W&B user or team.
        mode: ``auto`` goes online where a key is found, else writes an offline run.
        id: Run id; kept in the run folder where it is None.
        save_dir: Where ``wandb/`` is written: a folder of the run folder, or an absolute path.
        init_timeout: Seconds to wait for W&B before going offline.
        job_type: What the run is in its group, e.g. a row of the table.
        artifacts: What W&B keeps a copy of: the bank when training ends, the page when ``scaled-ig report`` writes it.
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
        job_type: str | None = None,
        artifacts: list[Artifact] | None = None,
    ) -> None:
        super().__init__(
            project=project,
            group=group,
            name=name,
            tags=tags,
            entity=entity,
            id=id,
            save_dir=save_dir or ".",
            job_type=job_type,
            resume="allow",
        )
        del self._wandb_init["anonymous"]  # of which W&B says that it has no effect any more
        self.mode, self.init_timeout, self.artifacts = mode, init_timeout, artifacts or []

    def belong_to(self, run_folder: Path) -> None:
        """Take from a run folder what was not given: id, name and place, also of what an offline run has to upload."""
        if self._id is None:
            self._id = self._wandb_init["id"] = run_id(run_folder)
        if self._name is None:
            self._name = self._wandb_init["name"] = run_folder.resolve().name
        if self._save_dir == ".":
            self._save_dir = self._wandb_init["dir"] = str(run_folder)
        os.environ.setdefault("WANDB_DATA_DIR", str(run_folder.resolve() / "wandb"))

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
        return "online" if has_key() else "offline"

    def define_axes(self, names: Sequence[str]) -> None:
        """Quantities that any panel can have along its x axis, and that need no panel of their own."""
        for name in names:
            self.experiment.define_metric(name, hidden=True)

    # -- what a row may hold beside numbers --------------------------------------------------------------------------

    def picture(self, picture: NDArray[np.uint8], caption: str | None = None) -> Any:
        """A picture [H, W, 3]."""
        import wandb

        return wandb.Image(picture, caption=caption)

    def film(self, frames: NDArray[np.uint8], caption: str) -> Any:
        """Frames [F, H, W, 3] that come again and again."""
        import wandb

        stream = io.BytesIO()
        imageio.mimwrite(stream, list(frames), format="gif", duration=1000 / FRAMES_PER_SECOND, loop=0)  # type: ignore[call-overload]
        stream.seek(0)
        return wandb.Video(stream, caption=caption, format="gif")  # W&B would need moviepy to make one of an array

    def histogram(self, values: Sequence[float]) -> Any:
        """How many values lie where."""
        import wandb

        return wandb.Histogram(list(values))

    def table(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Rows with the same names each; arrays are pictures."""
        import wandb

        data = [[self.picture(cell) if isinstance(cell, np.ndarray) else cell for cell in row.values()] for row in rows]
        return wandb.Table(columns=list(rows[0]), data=data)

    def curve(self, rows: Sequence[dict[str, Any]], along: str, of: str) -> Any:
        """A line through the rows of a table."""
        import wandb

        return wandb.plot.line(self.table(rows), along, of, title=of)

    def keep(self, kind: Artifact, path: Path) -> None:
        """Have W&B keep a copy of a file or folder, where ``artifacts`` asks for it."""
        if kind not in self.artifacts or self.mode == "disabled":
            return
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self.version}", kind, metadata={"path": str(path)})
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path), name=path.name)
        self.experiment.log_artifact(artifact)


def keep_report(run_folder: Path, config: dict[str, Any], page: Path) -> None:
    """Have W&B keep the page of a run, in the run's own W&B run, where its configuration asks for that.

    Args:
        run_folder: Of the run.
        config: Content of its ``config.yaml``.
        page: The file.

    Raises:
        UsageError: The logger of the configuration cannot be made.
    """
    loggers = (config.get("trainer") or {}).get("logger")
    for described in loggers if isinstance(loggers, list) else [loggers]:
        if not isinstance(described, dict) or not str(described.get("class_path")).endswith(RunLogger.__name__):
            continue
        arguments = dict(described.get("init_args") or {})
        if "report" not in (arguments.get("artifacts") or []):
            continue
        place = run_folder / (arguments.pop("save_dir", None) or ".")
        try:
            logger = RunLogger(**arguments, save_dir=str(place))
        except TypeError as error:
            raise UsageError(f"{run_folder / 'config.yaml'}: trainer.logger is no RunLogger ({error})") from None
        logger.belong_to(run_folder)
        logger.keep("report", page)
        logger.experiment.finish()


def has_key() -> bool:
    """Whether W&B has a key here; never prompts."""
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except Exception:
        return False


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
