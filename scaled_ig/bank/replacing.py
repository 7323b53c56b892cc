"""Scenes that were learned again, in the place of their old records."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.bank.blocks import read_shared
from scaled_ig.bank.changes import Change, changing, clear_blocks
from scaled_ig.bank.index import Index
from scaled_ig.bank.storage import writable
from scaled_ig.bank.table import BankRecord, Origin, of_origins, update
from scaled_ig.bank.writing import Target, is_first_rank, of_all, require_one_each, require_unique, write_records
from scaled_ig.distributed.agreement import together
from scaled_ig.distributed.ownership import num_shards
from scaled_ig.errors import UsageError
from scaled_ig.scene_model import SceneModel


def replace_scenes(
    folder: Path, model: SceneModel, ids: list[str], source_sha256: list[str], origins: list[Origin] | None
) -> None:
    """See :meth:`scaled_ig.bank.scene_bank.SceneBank.replace`. Collective."""
    require_one_each(model, ids, source_sha256, [Origin()] * len(ids) if origins is None else origins)
    with ExitStack() as stack:
        begun = together(lambda: _begin(stack, folder, model, ids) if is_first_rank() else None)
        target = of_all(begun[1] if begun else None)[0]
        assert target is not None
        records = write_records(folder, model, ids, source_sha256, target)

        def commit() -> None:
            if begun is None:
                return
            change, _, old = begun

            def edit(connection: sqlite3.Connection) -> None:
                clear_blocks(change, connection, old, num_shards(len(ids)))
                old_origins = [record.origin for record in old]
                update(connection, of_origins(records, old_origins if origins is None else origins))

            with writable(folder):  # a mistake that this rank kept for itself would leave the others waiting
                change.commit_scenes(change.index.versions, edit)
                stack.close()

        together(commit)


def _begin(
    stack: ExitStack, folder: Path, model: SceneModel, ids: list[str]
) -> tuple[Change, Target, list[BankRecord]]:
    """Start the change, which ends with the stack; refuse what does not fit before anything is written.

    Returns:
        The change, what records must be like, and the old ones.
    """
    require_unique(ids)
    Index.read(folder)  # there is nothing to replace in a bank that would be made
    change = stack.enter_context(changing(folder))
    table = change.table
    records_by_id = {name: table.find(name) if table else None for name in ids}
    missing = [name for name, record in records_by_id.items() if record is None]
    if missing:
        raise UsageError(f"{folder} holds no scene {missing[0]!r}: nothing was replaced")
    old = [record for record in records_by_id.values() if record]
    versions = sorted({record.version for record in old})
    if len(versions) != 1:
        raise UsageError(f"scenes of {' and '.join(versions) or 'no version'} at once: replace those of one version")
    version = change.index.versions[versions[0]]
    shared, mean = read_shared(folder, version)
    difference = _first_difference(shared, model.shared_state())
    if difference:
        raise UsageError(
            f"{folder}: these scenes were learned with other shared parts than version {version.name!r} ({difference} "
            "differs): learn them with those of the version, and leave these as they are"
        )
    return change, Target(change.generation, version.name, version.encoding, mean), old


def _first_difference(saved: dict[str, Tensor], current: dict[str, Tensor]) -> str | None:
    """Name of a tensor that is not the same to the bit in two states."""
    for name in sorted(saved.keys() | current.keys()):
        if name not in saved or name not in current or not _is_same(saved[name], current[name].detach().cpu()):
            return name
    return None


def _is_same(first: Tensor, second: Tensor) -> bool:
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    first_bytes, second_bytes = (value.contiguous().reshape(-1).view(torch.uint8) for value in (first, second))
    return torch.equal(first_bytes, second_bytes)
