"""Writing a version from all ranks at once: each the records of its own scenes, the first one the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from scaled_ig.bank.blocks import block_name, new_block, write_shared
from scaled_ig.bank.changes import Change, changing
from scaled_ig.bank.description import describe
from scaled_ig.bank.index import BankVersion
from scaled_ig.bank.scene_records import Encoding, Texels, encode, has_finite_values
from scaled_ig.bank.storage import writable
from scaled_ig.bank.table import BankRecord, Origin, insert, of_origins
from scaled_ig.distributed.agreement import together
from scaled_ig.distributed.ownership import num_shards, scenes_of_shard, shards_of_rank
from scaled_ig.errors import UsageError
from scaled_ig.representations import SceneRepresentation
from scaled_ig.representations.view_start import ViewStart
from scaled_ig.scene_model import SceneModel

T = TypeVar("T")
ShardRecords = dict[int, tuple[NDArray[np.int64], bytes]]
"""Of each shard: lengths of its records, and their digests one after the other."""


def is_first_rank() -> bool:
    """Whether this process does what only one must do."""
    return not _is_distributed() or dist.get_rank() == 0


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@dataclass(frozen=True)
class Target:
    """What all ranks must know to write records.

    Args:
        generation: Of the blocks.
        version: Name of the version that gets the scenes.
        encoding: Of the records.
        mean: Reference row of each table.
    """

    generation: int
    version: str
    encoding: Encoding
    mean: dict[str, Tensor]


def write_version(
    folder: Path,
    model: SceneModel,
    ids: list[str],
    version: str,
    source_sha256: list[str],
    encoding: Encoding,
    mean: dict[str, Tensor] | None,
    origins: list[Origin] | None,
    view_start: ViewStart | None = None,
) -> None:
    """See :meth:`scaled_ig.bank.scene_bank.SceneBank.write`. Collective."""
    origins = [Origin()] * len(ids) if origins is None else origins
    require_one_each(model, ids, source_sha256, origins)
    mean = model.representation.mean_scene() if mean is None else mean
    mean = {name: (row if row.dtype == torch.uint8 else row.detach().float()).cpu() for name, row in mean.items()}
    with ExitStack() as stack:
        change = together(lambda: _begin(stack, folder, ids, version) if is_first_rank() else None)
        target = Target(of_all(change.generation if change else 0)[0], version, encoding, mean)
        records = write_records(folder, model, ids, source_sha256, target)

        def commit() -> None:
            if change is None:
                return
            with writable(folder):  # a mistake that this rank kept for itself would leave the others waiting
                digest = write_shared(folder, model.shared_state(), mean, view_start)
                described = BankVersion(version, describe(model), digest, encoding, len(ids))
                change.commit_scenes(change.index.versions | {version: described}, edit)
                stack.close()

        def edit(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM scenes WHERE version = ?", (version,))
            insert(connection, of_origins(records, origins))

        together(commit)


def require_one_each(model: SceneModel, ids: list[str], source_sha256: list[str], origins: list[Origin]) -> None:
    """Raise ValueError unless there is an id, a digest and an origin for every scene of a model."""
    if not len(ids) == len(source_sha256) == len(origins) == model.representation.num_scenes:
        raise ValueError(
            f"{len(ids)} ids, {len(source_sha256)} digests and {len(origins)} origins for "
            f"{model.representation.num_scenes} scenes"
        )


def of_all(value: T) -> list[T]:
    """What each rank has, in their order. Collective."""
    if not _is_distributed():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def require_unique(ids: list[str]) -> None:
    """Raise UsageError where two scenes have one id."""
    twice = len(ids) - len(set(ids))
    if twice:
        raise UsageError(f"{twice} of {len(ids)} scenes have the id of another one: give each its own")


def _begin(stack: ExitStack, folder: Path, ids: list[str], version: str) -> Change:
    """Start the change, which ends with the stack; refuse names that are not free before anything is written."""
    require_unique(ids)
    change = stack.enter_context(changing(folder))
    table = change.table
    for name in ids if table else ():
        record = table.find(name) if table else None
        if record and record.version != version:
            raise UsageError(
                f"{folder} holds a scene {name!r} of version {record.version!r} already: remove it from there, or "
                "write to another bank"
            )
    return change


def write_records(
    folder: Path, model: SceneModel, ids: list[str], source_sha256: list[str], target: Target
) -> Iterator[BankRecord]:
    """Write blocks of a model's scenes, one a shard; rows of the scene table, in the order of scenes. Collective."""
    blocks = together(lambda: _write_blocks(folder, model.representation, ids, source_sha256, target))
    shards = {shard: block for part in of_all(blocks) for shard, block in part.items()}
    return _records(shards, ids, source_sha256, target)


def _write_blocks(
    folder: Path, representation: SceneRepresentation, ids: list[str], source_sha256: list[str], target: Target
) -> ShardRecords:
    """Blocks of the shards that this rank owns; one record is in memory at a time."""
    tables = representation.scene_tables()
    table = next(iter(tables.values()))
    blocks: ShardRecords = {}
    with writable(folder):
        for shard in shards_of_rank(table.num_scenes, table.rank, table.world_size) if ids else ():
            scenes = scenes_of_shard(table.num_scenes, shard)
            lengths, digests = np.zeros(len(scenes), np.int64), bytearray()
            with new_block(folder, target.generation, shard) as writer:
                for number, scene in enumerate(scenes):
                    rows = {name: table.weight[scene - table.owned.start] for name, table in tables.items()}
                    content = _encode(ids[scene], rows, target, representation.texels)
                    record = writer.add(ids[scene], target.version, source_sha256[scene], content)
                    lengths[number] = record.bytes
                    digests += bytes.fromhex(record.sha256)
            blocks[shard] = lengths, bytes(digests)
    return blocks


def _encode(scene_id: str, rows: dict[str, Tensor], target: Target, texels: Texels) -> bytes:
    try:
        content = encode(rows, target.encoding, target.mean, texels)
        if not has_finite_values(content, target.encoding, target.mean):
            raise ValueError("it holds values that are not finite")
        return content
    except ValueError as error:
        raise UsageError(f"scene {scene_id!r} cannot be kept as {target.encoding}: {error}") from None


def _records(shards: ShardRecords, ids: list[str], source_sha256: list[str], target: Target) -> Iterator[BankRecord]:
    """Rows of the scene table, in the order of scenes."""
    for shard in range(num_shards(len(ids)) if ids else 0):
        lengths, digests = shards[shard]
        offsets = np.cumsum(lengths) - lengths
        for number, scene in enumerate(scenes_of_shard(len(ids), shard)):
            digest = digests[32 * number : 32 * number + 32].hex()
            place = block_name(target.generation, shard), int(offsets[number]), int(lengths[number])
            yield BankRecord(ids[scene], target.version, *place, digest, source_sha256[scene])
