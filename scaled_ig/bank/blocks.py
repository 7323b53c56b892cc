"""Blocks of records, and the file of shared parts: written once, checked whenever they are read."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scaled_ig.bank.index import BankVersion
from scaled_ig.bank.scene_records import record_sha256
from scaled_ig.bank.table import BankRecord
from scaled_ig.errors import UsageError
from scaled_ig.files import write_whole
from scaled_ig.finite import names_not_finite
from scaled_ig.representations.view_start import ViewStart

BLOCKS = "blocks"
MEAN = "mean."
START = "start."


def read_record(folder: Path, record: BankRecord) -> bytes:
    """The content of a record.

    Raises:
        UsageError: Its file is missing or damaged.
    """
    file = folder / BLOCKS / record.block
    try:
        with file.open("rb", buffering=0) as stream:
            if record.offset + record.bytes > os.fstat(stream.fileno()).st_size:
                raise UsageError(f"{file} is too short for scene {record.id!r}: copy the bank again")
            stream.seek(record.offset)
            content = stream.read(record.bytes)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error}): copy the bank again") from None
    if not is_sound(record, content):
        raise UsageError(f"{file}: scene {record.id!r} is damaged (its digest differs): copy the bank again")
    return content


def require_held(folder: Path, records: Sequence[BankRecord]) -> None:
    """Refuse a table whose records overlap, so that blocks would have to hold more than they do.

    Raises:
        UsageError: So it is, or a block is missing.
    """
    claimed: Counter[str] = Counter()
    for record in records:
        claimed[record.block] += record.bytes
    for block, num_bytes in claimed.items():
        file = folder / BLOCKS / block
        size = file.stat().st_size if file.is_file() else 0
        if num_bytes > size:
            raise UsageError(f"{file} has {size:,} bytes, and scenes claim {num_bytes:,} of them: copy the bank again")


def is_sound(record: BankRecord, content: bytes) -> bool:
    """Whether this is what was written, of that scene."""
    return record_sha256(record.id, record.version, record.source_sha256, content).hex() == record.sha256


class BlockWriter:
    """A block that is being written.

    Args:
        stream: The file.
        name: Its name.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream, self.name, self.bytes = stream, name, 0

    def add(self, scene_id: str, version: str, source_sha256: str, content: bytes) -> BankRecord:
        """Append a record."""
        self.stream.write(content)
        digest = record_sha256(scene_id, version, source_sha256, content).hex()
        record = BankRecord(scene_id, version, self.name, self.bytes, len(content), digest, source_sha256)
        self.bytes += len(content)
        return record


def block_name(generation: int, number: int) -> str:
    """Name of a block."""
    return f"{generation:08d}-{number:05d}.bin"


@contextmanager
def new_block(folder: Path, generation: int, number: int) -> Iterator[BlockWriter]:
    """Write a block; it is on the disk when this is done."""
    name = block_name(generation, number)
    path = folder / BLOCKS / name
    with path.open("wb") as stream:
        yield BlockWriter(stream, name)
        stream.flush()
        os.fsync(stream.fileno())


def write_shared(
    folder: Path, shared: dict[str, Tensor], mean: dict[str, Tensor], start: ViewStart | None = None
) -> str:
    """Write what the scenes of a version share, under the name of its content, and return its digest.

    Args:
        folder: Of the bank.
        shared: State of the model without its scenes.
        mean: Reference row of each table.
        start: How new scenes start from their views.

    Raises:
        UsageError: Not all of it is finite.
    """
    content = shared | {MEAN + name: row for name, row in mean.items()}
    content |= {START + name: value for name, value in vars(start).items()} if start else {}
    for name in names_not_finite(content):
        raise UsageError(f"{name}, which scenes share, cannot be kept: it holds values that are not finite")
    file = save({name: value.detach().cpu().contiguous() for name, value in content.items()})
    digest = hashlib.sha256(file).hexdigest()
    write_whole(folder / f"shared-{digest[:16]}.safetensors", file)
    return digest


def read_shared(folder: Path, version: BankVersion) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Shared parts and reference rows of a version.

    Raises:
        UsageError: Their file is missing or damaged, or not all of it is finite.
    """
    tensors = _read(folder, version)
    mean = {name.removeprefix(MEAN): value for name, value in tensors.items() if name.startswith(MEAN)}
    return {name: value for name, value in tensors.items() if not name.startswith((MEAN, START))}, mean


def read_start(folder: Path, version: BankVersion) -> ViewStart | None:
    """How new scenes of a version start from their views; None where nothing was fitted.

    Raises:
        UsageError: As of :func:`read_shared`.
    """
    tensors = _read(folder, version)
    parts = {name.removeprefix(START): value for name, value in tensors.items() if name.startswith(START)}
    if not parts:
        return None
    try:
        return ViewStart(**parts)
    except (TypeError, ValueError):
        raise UsageError(f"{folder / version.shared_file} has a start that does not fit: copy the bank again") from None


def _read(folder: Path, version: BankVersion) -> dict[str, Tensor]:
    file = folder / version.shared_file
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != version.shared_sha256:
            raise UsageError(f"{file} is damaged (its digest differs): copy the bank again")
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{file} cannot be read ({error}): copy the bank again") from None
    for name in names_not_finite(tensors):
        raise UsageError(f"{file}: {name} is not finite, which scenes share: train its scenes again")
    return tensors
