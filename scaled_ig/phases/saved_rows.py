"""The scenes' rows in a checkpoint, of which every rank holds some.

A checkpoint looks as if one process had trained. Rows come together block by block in a file without a name, from which
they are written: memory holds one block more, not one copy. Beyond :data:`SHARDED_ABOVE_BYTES` one writer is too slow:
then every rank writes its own shards of scenes beside the checkpoint, through torch.distributed.checkpoint, as
safetensors, and the checkpoint holds their digests. Either form is read by any number of ranks.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from scaled_ig.distributed.agreement import together
from scaled_ig.distributed.ownership import num_shards, scenes_of_shard, shards_of_rank
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256
from scaled_ig.representations.scene_table import SceneTable

SHARDED_ABOVE_BYTES = 8 * 2**30


@dataclass
class Place:
    """Where a checkpoint holds one tensor of rows.

    Args:
        name: Unique in the checkpoint, e.g. ``micro.exp_avg``.
        table: Whose rows they are.
        container: Part of the checkpoint.
        key: Key in it.
    """

    name: str
    table: SceneTable
    container: dict[Any, Tensor]
    key: Any

    @property
    def rows(self) -> Tensor:
        """[owned, ...] or, in what was read, [num_scenes, ...]."""
        return self.container[self.key]

    @rows.setter
    def rows(self, rows: Tensor) -> None:
        self.container[self.key] = rows

    def shards(self, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name and rows of each shard of scenes among those held here."""
        table = self.table
        for shard in shards_of_rank(table.num_scenes, table.rank, table.world_size):
            scenes = scenes_of_shard(table.num_scenes, shard)
            first = table.owned.start
            yield _name(self, shard), rows[scenes.start - first : scenes.stop - first]


def _name(place: Place, shard: int) -> str:
    return f"{place.name}/{shard:04d}"


def are_too_many(places: Sequence[Place]) -> bool:
    """Whether the rows of all ranks are more than one writer should write; ``places`` hold those of this rank."""
    rows = ((place.table.num_scenes, place.rows) for place in places)
    return sum(scenes * own[:1].numel() * own.element_size() for scenes, own in rows) > SHARDED_ABOVE_BYTES


def put_together(places: Sequence[Place], folder: Path) -> None:
    """Replace the rows of this rank by those of all, on rank 0. Collective.

    Args:
        places: All rows of a checkpoint.
        folder: Where there is room for them on disk, on rank 0.

    Raises:
        UsageError: The disk is full.
    """
    for place in places:
        table, rows = place.table, place.rows.detach()
        if table.world_size == 1 and not rows.is_cuda:
            continue  # all of them are here, and saved as they lie
        shape = (table.num_scenes, *rows.shape[1:])
        into = together(partial(_on_disk, shape, rows.dtype, folder) if table.rank == 0 else _nowhere)
        table.collect(rows, into)
        if into is not None:
            place.rows = into


def _nowhere() -> None:
    return None


def _on_disk(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor in a file without a name: the system writes it out where memory is short, and forgets it after use."""
    size = math.prod(shape) * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, and a crash on writing
            memory = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise UsageError(f"{folder} has no room for a checkpoint ({error.strerror}): free space and go on") from None
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def write_shards(places: Sequence[Place], folder: Path) -> None:
    """Write this rank's rows into files of their own, and leave none in the checkpoint. Collective.

    Args:
        places: All rows of a checkpoint.
        folder: New folder for the files, the same on every rank.

    Raises:
        UsageError: A disk is full.
    """
    tables = [place.table for place in places]
    file_of = {
        _name(place, shard): shard + 1
        for place, table in zip(places, tables, strict=True)
        for shard in range(num_shards(table.num_scenes))
    }
    rows = dict(shard for place in places for shard in place.shards(place.rows.detach().contiguous()))
    writer = HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=file_of, save_distributed=True)
    try:
        with _without_advice():
            dcp.save(rows, storage_writer=writer)
    except (OSError, dcp.CheckpointException) as error:  # the same on all ranks
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"{folder} cannot be written ({reason_of(error)}): free space and go on") from None
    for place in places:
        place.rows = place.rows.new_empty(0, *place.rows.shape[1:])


def take_own(places: Sequence[Place]) -> None:
    """Replace the rows of all scenes by those that this rank owns; not copies.

    Args:
        places: All rows of a checkpoint that holds them.
    """
    for place in places:
        place.rows = place.table.take(place.rows)


def read_shards(places: Sequence[Place], folder: Path) -> None:
    """Fill rows from files of their own. Collective.

    Args:
        places: Where the rows of this rank belong.
        folder: Folder of :func:`write_shards`, which :func:`verify_rows` has found whole.

    Raises:
        UsageError: Files cannot be read.
    """
    targets = dict(shard for place in places for shard in place.shards(place.rows))
    try:
        with _without_advice():
            dcp.load(targets, storage_reader=HuggingFaceStorageReader(str(folder)))
    except (OSError, dcp.CheckpointException) as error:  # the same on all ranks
        raise UsageError(f"{folder} cannot be read ({reason_of(error)}): copy it again beside its checkpoint") from None


def digest_rows(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of rows by its name; each rank reads those that it wrote. Collective.

    Args:
        folder: Folder of :func:`write_shards`.

    Raises:
        UsageError: A file cannot be read.
    """
    rank, ranks = _ranks()
    files = folder.glob(
        f"shard-{rank + 1:05d}-*"
    )  # by the name that the library gives; others may not be seen here yet
    parts: list[dict[str, str]] = [together(partial(_digests, list(files)))] * ranks
    if ranks > 1:
        dist.all_gather_object(parts, parts[0])
    digests = {name: digest for part in parts for name, digest in sorted(part.items())}
    assert {file.name for file in folder.iterdir()} <= digests.keys(), "the library names its files in another way"
    return digests


def _digests(files: Sequence[Path]) -> dict[str, str]:
    try:
        return {file.name: file_sha256(file) for file in files}
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror})") from None


def _ranks() -> tuple[int, int]:
    """Number of this rank, and how many there are."""
    is_alone = not (dist.is_available() and dist.is_initialized())
    return (0, 1) if is_alone else (dist.get_rank(), dist.get_world_size())


def verify_rows(folder: Path, digests: dict[str, str] | None) -> None:
    """Compare files of rows with their digests; each rank reads a part of them. Collective.

    Args:
        folder: Folder of :func:`write_shards`.
        digests: Of :func:`digest_rows`; None for one of an earlier version, whose files must open.

    Raises:
        UsageError: Files are missing, too many or damaged; the way out is the caller's.
    """
    together(partial(_require_whole, folder) if digests is None else partial(_require_same, folder, digests))


def _require_same(folder: Path, digests: dict[str, str]) -> None:
    rank, ranks = _ranks()
    present = {file.name for file in folder.glob("*")}
    for name in sorted(present ^ digests.keys()):
        raise UsageError(f"{folder / name} {'does not belong there' if name in present else 'is missing'}")
    part = sorted(digests)[rank::ranks]
    for name, digest in _digests([folder / name for name in part]).items():
        if digest != digests[name]:
            raise UsageError(f"{folder / name} is damaged (its digest is not that of its content)")


def _require_whole(folder: Path) -> None:
    try:
        for file in sorted(folder.iterdir()):
            with safe_open(file, "pt"):
                pass
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{folder} is damaged ({reason_of(error)})") from None


@contextmanager
def _without_advice() -> Iterator[None]:
    """One process alone is no mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def reason_of(error: BaseException) -> str:
    """First line of what one of the ranks found."""
    if isinstance(error, dcp.CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return (str(error).splitlines() or [type(error).__name__])[0]
