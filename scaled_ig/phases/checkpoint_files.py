"""The file of a checkpoint: sealed by a digest as it is written, verified to its last bit before a value is used.

It is the zip archive of ``torch.save`` with a comment, the last thing in the file: :data:`MARK`, then the SHA-256 of
all that stands before these digits. So checkpoint and digest are one file, which is replaced as one, and ``torch.load``
reads it. The digests of rows that lie in files of their own are in the checkpoint, under its own digest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from scaled_ig.distributed.agreement import together
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256
from scaled_ig.phases.saved_rows import verify_rows

MARK = b"scaled-ig checkpoint 1 sha256 "
DIGITS = 64
WAY_OUT = "copy it again, or remove it to train its phase again"
CONTENT = (
    "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step",
    "pytorch-lightning_version", "scaled_ig",
)  # fmt: skip


def last_checkpoint(folder: Path, number: int = 0) -> Path:
    """``last.ckpt`` of a phase's folder, ``last-1.ckpt`` before it, ``last-2.ckpt`` before that."""
    return folder / (f"last-{number}.ckpt" if number else "last.ckpt")


def last_checkpoints(folder: Path) -> dict[int, Path]:
    """Those that are there by number, the newest first."""
    matches = [re.fullmatch(r"last(?:-([1-9]\d*))?\.ckpt", file.name) for file in folder.glob("last*.ckpt")]
    numbers = sorted(int(match[1] or 0) for match in matches if match)
    return {number: last_checkpoint(folder, number) for number in numbers}


def seal(path: Path) -> None:
    """Give a file that ``torch.save`` has written its digest.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # the archive ends with the length of its comment
        file.write((len(MARK) + DIGITS).to_bytes(2, "little") + MARK)
    digest = file_sha256(path)
    with path.open("ab") as file:
        file.write(digest.encode())


def verify(path: Path) -> None:
    """Compare a checkpoint with its digest. One of an earlier version has none: it must open, and a warning is due.

    Raises:
        UsageError: It is damaged; the way out is the caller's.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - DIGITS))
            tail = file.read()
        if _ends_without_comment(tail):
            _warn()
            _load(path)
        elif file_sha256(path, without=DIGITS).encode() != tail:
            raise UsageError(f"{path} is damaged (its digest is not that of its content)")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from None


@rank_zero_only
@cache  # once
def _warn() -> None:
    print("checkpoints of an earlier version have no digest: damage to them may go unnoticed", flush=True)


def _ends_without_comment(tail: bytes) -> bool:
    """Whether these are the last bytes of a zip archive as ``torch.save`` leaves it."""
    return tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"


def _load(path: Path) -> Any:
    """What the archive holds, without running code from it; tensors stay in the file until they are used."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception:  # a pickle that is damaged, or hostile, can raise any; PyTorch's advice is to trust it
        raise UsageError(f"{path} is damaged (no archive of tensors and plain values)") from None


def content_of(path: Path) -> dict[str, Any]:
    """Content of a checkpoint that :func:`verify` has found whole.

    Raises:
        UsageError: It is of another version, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(MARK) - DIGITS))
            tail = file.read()
        content = _load(path) if tail.startswith(MARK) or _ends_without_comment(tail) else None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}): {WAY_OUT}") from None
    except UsageError as damage:
        raise UsageError(f"{damage}: {WAY_OUT}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is a checkpoint of another version of scaled-ig: go on with that version")
    return content


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint, verified; tensors stay in the file until they are used.

    Raises:
        UsageError: It is damaged, or of another version.
    """
    try:
        verify(path)
    except UsageError as damage:
        raise UsageError(f"{damage}: {WAY_OUT}") from None
    return content_of(path)


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is whole.

    Args:
        path: The file.
        step: Step at which it was saved.
        damages: A sentence for each newer one that is damaged.
        epoch: Whole epochs that had been trained.
    """

    path: Path
    step: int
    damages: tuple[str, ...] = ()
    epoch: int = 0


def newest_whole(paths: Sequence[Path], phase: str) -> Saved | None:
    """The first of several checkpoints of a phase that is what was saved, its rows too. Collective.

    Args:
        paths: The newest first. Those of the first rank count: another may not see a new file yet.
        phase: Name of the phase.

    Returns:
        The same on all ranks; None where there is no checkpoint.

    Raises:
        UsageError: All are damaged, or one is of another phase or version.
    """
    ranks_paths = [list(paths)]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(ranks_paths)
    damages: list[str] = []
    for path in ranks_paths[0]:
        try:
            together(partial(verify, path))
        except UsageError as damage:
            damages.append(str(damage))
            continue
        content = together(partial(content_of, path))
        together(partial(_refuse_other_phase, path, content, phase))
        named = content["scaled_ig"]
        try:
            if "rows" in named:
                verify_rows(path.parent / named["rows"], named.get("rows_sha256"))
        except UsageError as damage:
            damages.append(str(damage))
            continue
        return Saved(path, content["global_step"], tuple(damages), content["epoch"])
    if damages:
        raise UsageError(
            f"{damages[0]} and no older checkpoint of {phase} is whole: copy it again, or remove "
            f"{ranks_paths[0][0].parent} and --resume true trains {phase} again"
        )
    return None


def _refuse_other_phase(path: Path, content: dict[str, Any], phase: str) -> None:
    missing = [key for key in CONTENT if key not in content]
    named = {} if missing else content["scaled_ig"]
    missing += [f"scaled_ig.{key}" for key in ("phase", "stage", "num_scenes") if not missing and key not in named]
    if missing:
        raise UsageError(
            f"{path} is no checkpoint of a phase, {missing[0]} is missing: copy the phase's own there, or remove it"
        )
    if named["phase"] != phase:
        raise UsageError(
            f"{path} is a checkpoint of {named['phase']}, not of {phase}: copy the phase's own there, or remove it"
        )


def refuse_misfit(
    path: str, content: dict[str, Any], weights: dict[str, Tensor], rows: Set[str], trained: dict[str, int]
) -> None:
    """Raise UsageError where a checkpoint is one of another model, or one that trains other parts.

    Args:
        path: What to call the checkpoint.
        content: What it holds.
        weights: Of the phase, by name.
        rows: Names of those that hold rows of scenes, of which a rank and a checkpoint may have some or none.
        trained: Number of tensors of each part that the phase trains.
    """
    shapes, shapes_here = (
        {name: tuple(value.shape[name in rows :]) for name, value in state.items()}
        for state in (content["state_dict"], weights)
    )
    for name in sorted(shapes.keys() | shapes_here):
        if shapes.get(name) != shapes_here.get(name):
            raise UsageError(
                f"{path} does not fit this scene model ({name} is {shapes.get(name, 'missing')} there and "
                f"{shapes_here.get(name, 'missing')} here): use the representation and autoencoder that it was trained "
                "with"
            )
    groups = [group for state in content["optimizer_states"] for group in state["param_groups"]]
    if {group["name"]: len(group["params"]) for group in groups} != trained:
        raise UsageError(
            f"{path} trains {', '.join(group['name'] for group in groups)}, this run {', '.join(trained)}: give the "
            "learning rates that it was begun with"
        )
