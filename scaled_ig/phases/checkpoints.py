"""Checkpoints of phases: whole or not there, as if one process had trained, read without running code from them.

Of every phase the last few are kept, ``last.ckpt`` the newest, and ``final.ckpt`` once it is finished; their content
is verified by :mod:`scaled_ig.phases.checkpoint_files`. ``state_dict`` and ``optimizer_states`` are Lightning's;
``scaled_ig`` names phase, stage, number of scenes and, where rows lie in files of their own, their folder and digests.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import Optimizer

from scaled_ig.distributed.agreement import together
from scaled_ig.distributed.watch import Watch
from scaled_ig.errors import UsageError
from scaled_ig.files import bytes_needed, replacing, sync
from scaled_ig.phases.checkpoint_files import content_of, last_checkpoint, last_checkpoints, seal
from scaled_ig.phases.saved_rows import (
    Place,
    are_too_many,
    digest_rows,
    put_together,
    read_shards,
    take_own,
    write_shards,
)
from scaled_ig.scene_model import SceneModel


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, seals, syncs, renames; reads without running code from the file.

    Only the first rank writes, and the others wait for it: what goes wrong is kept until :meth:`settle`, where all of
    them hear of it. Folders of rows that belong to no checkpoint any more (:mod:`scaled_ig.phases.saved_rows`), and
    what a process that was killed has left unfinished, are removed.

    Args:
        keep: Checkpoints of the kind ``last`` that are kept: ``last.ckpt`` and those before it, ``last-1.ckpt``, ….
        start: The one that training goes on from.
    """

    def __init__(self, keep: int = 1, start: Path | None = None) -> None:
        super().__init__()
        self._keep, self._start = keep, start
        self._mistake: UsageError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        is_last = target == last_checkpoint(target.parent)
        try:
            for draft in target.parent.glob(f"{target.name}.*.part"):
                draft.unlink()
            with replacing(target) as draft:
                torch.save(checkpoint, draft)
                seal(draft)
                sync(draft)
                if is_last and self._start in (None, target):  # else what is there is damaged, and not worth keeping
                    self._move_on(target.parent)
            if is_last:
                self._start = None
                self._forget(target.parent)
            _forget_rows(target.parent)
        except (OSError, RuntimeError) as error:
            # PyTorch's own words are of positions in the archive.
            reason = error.strerror if isinstance(error, OSError) else "not all of it could be written"
            needed = bytes_needed(target, _num_bytes(checkpoint))
            self._mistake = UsageError(
                f"{target} cannot be written ({reason}; {needed}): free space, then --resume true"
            )

    def _move_on(self, folder: Path) -> None:
        """Make room for a new ``last.ckpt``; a process that is killed on the way leaves a gap, and all whole."""
        for number in reversed(range(self._keep - 1)):
            if last_checkpoint(folder, number).is_file():
                last_checkpoint(folder, number).replace(last_checkpoint(folder, number + 1))

    def _forget(self, folder: Path) -> None:
        for number, file in last_checkpoints(folder).items():
            if number >= self._keep:
                file.unlink()

    def settle(self) -> None:
        """Say on all ranks what went wrong on the first. Collective.

        Raises:
            UsageError: A checkpoint could not be written since the last call.
        """
        mistake, self._mistake = self._mistake, None

        def tell() -> None:
            if mistake is not None:
                raise mistake

        together(tell)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        return content_of(Path(path))  # newest_whole has verified it


def _num_bytes(content: Any) -> int:
    """Of all tensors of a checkpoint."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(_num_bytes, values))


def _forget_rows(folder: Path) -> None:
    """Remove folders of rows that no checkpoint names; none, where a checkpoint cannot be read."""
    row_folders = list(folder.glob("rows-*"))
    if not row_folders:
        return
    try:
        named = {content_of(file).get("scaled_ig", {}).get("rows") for file in folder.glob("*.ckpt")}
    except UsageError:
        return
    for rows in row_folders:
        if rows.name not in named:
            shutil.rmtree(rows)


def save(trainer: Trainer, path: Path) -> None:
    """Write a checkpoint now. All ranks call it.

    Args:
        trainer: Of the phase; its plugin writes.
        path: The checkpoint.

    Raises:
        UsageError: It could not be written.
    """
    trainer.save_checkpoint(path, weights_only=False)
    _settle(trainer)


def _settle(trainer: Trainer) -> None:
    files = trainer.strategy.checkpoint_io
    assert isinstance(files, AtomicCheckpointIO)
    files.settle()


class KeepLast(ModelCheckpoint):
    """Writes ``last.ckpt`` of a phase, from which it goes on after an interruption; also where a run is asked to stop.

    Callbacks that write checkpoints come last: whoever measures has done so, or has noted what is left to do. It is
    written after a step, be it the last of an epoch: Lightning does not go on exactly from the end of an epoch.

    Args:
        folder: Of the phase's checkpoints.
        every_n_steps: Steps between two of them.
        watch: What hears that the run shall stop.
    """

    def __init__(self, folder: Path, every_n_steps: int, watch: Watch) -> None:
        super().__init__(
            folder,
            filename=last_checkpoint(folder).stem,
            enable_version_counter=False,
            every_n_train_steps=every_n_steps,
        )
        self.watch, self._saved_step = watch, 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.watch.is_saving = self.watch.can_finish  # else it is the final one, which is not this callback's

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.watch.can_finish = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._settle(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._saved_step = 0  # what is left to measure is not in the checkpoint of the last step
        self._settle(trainer)

    def _settle(self, trainer: Trainer) -> None:
        """Once all ranks have come here: they hear of a mistake in writing, and of a signal.

        Raises:
            UsageError: A checkpoint could not be written.
            Stopped: The run was asked to stop.
        """
        self._end_saving(trainer)
        self.watch.step = trainer.global_step
        number = self.watch.agree(trainer.strategy.root_device)
        if not number:
            return
        if self._saved_step != trainer.global_step:
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt", weights_only=False)
            self._end_saving(trainer)
        raise self.watch.stop(number)

    def _end_saving(self, trainer: Trainer) -> None:
        if self.watch.is_saving:
            _settle(trainer)
            self._saved_step, self.watch.is_saving = trainer.global_step, False


class CheckpointRows:
    """The scenes' rows in checkpoints of a phase: what is saved has those of all ranks, what is loaded those of one.

    Args:
        model: The model.
    """

    def __init__(self, model: SceneModel) -> None:
        self.model = model
        self._moments_in: Path | None = None  # folder that still holds the moments of what was loaded

    def save(self, checkpoint: dict[str, Any], folder: Path) -> None:
        """Put the rows of all ranks into a checkpoint, or into files beside it where they are too many. Collective.

        Args:
            checkpoint: With the rows of this rank.
            folder: Of the phase's checkpoints.

        Raises:
            UsageError: A disk is full.
        """
        places = self.places(checkpoint)
        if not are_too_many(places):
            put_together(places, folder)
            return
        name = [f"rows-{uuid.uuid4().hex[:8]}"]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast_object_list(name)
        write_shards(places, folder / name[0])
        checkpoint["scaled_ig"] |= {"rows": name[0], "rows_sha256": digest_rows(folder / name[0])}

    def load(self, checkpoint: dict[str, Any], folder: Path) -> None:
        """Leave the rows of this rank in a checkpoint. Collective.

        Args:
            checkpoint: As :meth:`save` left it.
            folder: Of the phase's checkpoints.

        Raises:
            UsageError: Files are missing or damaged.
        """
        name, places = checkpoint["scaled_ig"].get("rows"), self.places(checkpoint)
        if name is None:
            take_own(places)
            return
        self._moments_in = folder / name
        weights = [place for place in places if place.container is checkpoint["state_dict"]]
        for place in weights:
            place.rows = place.table.weight.detach()
        read_shards(weights, self._moments_in)

    def load_moments(self, optimizer: Optimizer) -> None:
        """Fill the moments of a new optimiser, where :meth:`load` found them in files of their own. Collective."""
        if self._moments_in is not None:
            read_shards(self._moments(optimizer.param_groups, optimizer.state), self._moments_in)
            self._moments_in = None

    def places(self, checkpoint: dict[str, Any]) -> list[Place]:
        """Where a checkpoint holds rows of scenes: parameters and the optimiser's state."""
        weights, tables = checkpoint["state_dict"], self.model.representation.scene_tables()
        names = {f"scene.representation.{name}": table for name, table in tables.items()}
        places = [Place(name, table, weights, f"{name}.weight") for name, table in names.items()]
        for saved in checkpoint.get("optimizer_states", []):
            saved["state"] = {key: dict(slots) for key, slots in saved["state"].items()}
            places += self._moments(saved["param_groups"], saved["state"])
        return places

    def _moments(self, groups: list[dict[str, Any]], state: Any) -> list[Place]:
        """Where an optimiser, or what was saved of it, holds rows of scenes."""
        tables = self.model.representation.scene_tables()
        return [
            Place(f"{group['name']}.{slot}", tables[group["name"]], state[key], slot)
            for group in groups
            for key in (group["params"] if group["rows"] else ())
            for slot in state[key]
        ]


def load_checkpoint(model: SceneModel, path: Path, with_scenes: bool) -> None:
    """Load a finished phase's checkpoint into a model. Collective.

    Args:
        model: The model; its tables know their rank.
        path: The checkpoint, which :func:`newest_whole` has verified.
        with_scenes: Load the rows of this rank's scenes too, or what scenes share alone.

    Raises:
        UsageError: It was trained with another model.
    """
    state = content_of(path)
    prefix, tables = "scene.", model.representation.scene_tables()
    weights = {name.removeprefix(prefix): v for name, v in state["state_dict"].items() if name.startswith(prefix)}
    places = [
        Place(f"scene.representation.{name}", table, weights, f"representation.{name}.weight")
        for name, table in tables.items()
    ]
    try:
        if with_scenes:
            zero = {name: torch.zeros(table.row_shape) for name, table in tables.items()}
            model.representation.new_scenes(state["scaled_ig"]["num_scenes"], start=zero)
        rows = state["scaled_ig"].get("rows")
        if with_scenes and rows is None:
            take_own(places)
        else:
            for place in places:
                place.rows = place.table.weight.detach()  # as it is
        if with_scenes and rows is not None:
            read_shards(places, path.parent / rows)
        model.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        reason = shorten(str(error).splitlines()[-1], 120)  # it would list every name
        raise UsageError(
            f"{path} does not fit this scene model ({reason}): use the representation and autoencoder that it was "
            "trained with"
        ) from None
