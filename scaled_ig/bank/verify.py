"""Is a bank whole? Every byte is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from torch import Tensor

from scaled_ig.bank.blocks import BLOCKS, is_sound, read_shared
from scaled_ig.bank.changes import files_of
from scaled_ig.bank.index import INDEX_FILE, STATISTICS_FILE, Index
from scaled_ig.bank.scene_records import Encoding, has_finite_values
from scaled_ig.bank.table import BankRecord, RecordTable
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

PIECE_BYTES = 8 * 2**20
Readable = tuple[Encoding, dict[str, Tensor]]
"""Encoding and reference rows of a version."""


def findings_of(folder: Path, progress: Callable[[int], object]) -> list[str]:
    """What is wrong with a bank, one sentence each.

    Args:
        folder: The bank.
        progress: Told how many bytes of blocks have been read.

    Raises:
        UsageError: It has no index, or a damaged one: there is nothing to verify it against.
    """
    index = Index.read(folder)
    readable: dict[str, Readable] = {}
    findings, parts = list(_shared(folder, index, readable)), {INDEX_FILE, STATISTICS_FILE, index.table}
    parts |= {version.shared_file for version in index.versions.values()}
    table = RecordTable(folder / index.table)
    counts: Counter[str] = Counter()
    try:
        if file_sha256(table.path) != index.table_sha256:
            findings.append(f"{table.path}: its digest differs")
        findings += [f"{table.path}: {line}" for line in table.findings()]
        for block, records in groupby(table.select("ORDER BY block, offset"), lambda record: record.block):
            parts.add(f"{BLOCKS}/{block}")
            block_records = list(records)
            counts.update(record.version for record in block_records)
            findings += _block(folder / BLOCKS / block, block_records, readable, progress)
    except (OSError, UsageError) as error:
        findings.append(str(error))
    else:
        findings += _counts(table.path, index, counts)
        findings += [f"{folder / name}: no part of the bank" for name in sorted(files_of(folder) - parts)]
    return findings


def _shared(folder: Path, index: Index, readable: dict[str, Readable]) -> Iterator[str]:
    """Findings of shared parts; tells how to read the records of the versions whose parts are sound."""
    files: dict[str, dict[str, Tensor] | None] = {}
    for version in index.versions.values():
        file = version.shared_file
        if file not in files:
            files[file] = None
            try:
                files[file] = read_shared(folder, version)[1]
            except UsageError as error:
                yield str(error)
        mean = files[file]
        if mean is not None:
            readable[version.name] = version.encoding, mean


def _counts(path: Path, index: Index, counts: Counter[str]) -> Iterator[str]:
    stated = {name: version.num_scenes for name, version in index.versions.items()}
    for name in sorted({*stated, *counts}):
        if stated.get(name, 0) != counts[name]:
            yield f"{path}: version {name!r} has {counts[name]} scenes, {INDEX_FILE} says {stated.get(name, 0)}"


def _block(
    path: Path, records: list[BankRecord], readable: dict[str, Readable], progress: Callable[[int], object]
) -> Iterator[str]:
    """Findings of a block, whose records must follow each other without gaps."""
    try:
        with path.open("rb", buffering=PIECE_BYTES) as stream:
            size, end = path.stat().st_size, 0
            for record in records:
                if record.offset != end:
                    yield f"{path}: scene {record.id!r} begins at byte {record.offset}, and not at {end}"
                end = record.offset + record.bytes
                if end > size:
                    yield f"{path}: too short for scene {record.id!r}"
                    return
                stream.seek(record.offset)
                content = stream.read(record.bytes)
                if not is_sound(record, content):
                    yield f"{path}: scene {record.id!r} is damaged (its digest differs)"
                elif record.version in readable:
                    yield from _values(path, record, content, *readable[record.version])
                progress(record.bytes)
            if end != size:
                yield f"{path}: {size - end} bytes behind its last scene"
    except OSError as error:
        yield f"{path} cannot be read ({error})"


def _values(path: Path, record: BankRecord, content: bytes, encoding: Encoding, mean: dict[str, Tensor]) -> list[str]:
    """Findings of the values of a record whose digest is right."""
    try:
        fault = "" if has_finite_values(content, encoding, mean) else "is not finite: learn it again or remove it"
    except ValueError as error:
        fault = f"cannot be read ({error})"
    return [f"{path}: scene {record.id!r} {fault}"] if fault else []
