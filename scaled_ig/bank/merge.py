"""Several banks into one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from scaled_ig.bank.blocks import BlockWriter, new_block, read_record, read_shared
from scaled_ig.bank.changes import Change, changing
from scaled_ig.bank.index import BankVersion, Index
from scaled_ig.bank.models import build_described
from scaled_ig.bank.scene_records import Encoding, Texels, decode, encode, record_sha256
from scaled_ig.bank.storage import require_sound
from scaled_ig.bank.table import BankRecord, RecordTable, insert, of_origins
from scaled_ig.errors import UsageError
from scaled_ig.files import replacing

BLOCK_BYTES = 256 * 2**20
"""A new block is begun where one has grown to this."""


def merge_banks(
    target: Path, sources: Sequence[Path], encoding: Encoding | None, progress: Callable[[int], object]
) -> None:
    """Add the scenes of banks to a bank; see :meth:`scaled_ig.bank.scene_bank.SceneBank.merge`.

    Args:
        target: The bank, made where it is missing.
        sources: Banks that are only read.
        encoding: Of all scenes afterwards; None leaves each as it is.
        progress: Told how many bytes of records have been dealt with.
    """
    if target.resolve() in [source.resolve() for source in sources]:
        raise UsageError(f"{target} cannot be merged into itself: leave it out of the others")
    indexes = {source: Index.read(source) for source in sources}
    with changing(target) as change:
        merger = _Merger(change, encoding, progress)
        if change.index.table:
            merger.plan(target, change.index)
        for source, index in indexes.items():
            merger.plan(source, index)
        change.commit_scenes(merger.versions, merger.write, anew=True)


class _Merger:
    """Scenes of banks on their way into one.

    Args:
        change: The change of the target.
        encoding: See :func:`merge_banks`.
        progress: See :func:`merge_banks`.
    """

    def __init__(self, change: Change, encoding: Encoding | None, progress: Callable[[int], object]) -> None:
        self.change, self.encoding, self.progress = change, encoding, progress
        self.versions: dict[str, BankVersion] = {}
        self.sources: list[tuple[Path, Index, dict[str, str]]] = []
        self.num_blocks = 0

    def plan(self, folder: Path, index: Index) -> None:
        """Find a name for each version of a bank, and copy its shared parts."""
        names = {}
        for version in index.versions.values():
            named = self._place(replace(version, encoding=self.encoding or version.encoding))
            names[version.name] = named.name
            self.versions[named.name] = named
            if folder != self.change.folder:
                _copy_shared(folder, version, self.change.folder)
        self.sources.append((folder, index, names))

    def _place(self, version: BankVersion) -> BankVersion:
        """The version of that name if it is the same, or the first free name."""
        number, name = 1, version.name
        while name in self.versions:
            existing = self.versions[name]
            if (existing.shared_sha256, existing.encoding) == (version.shared_sha256, version.encoding):
                return existing
            number += 1
            name = f"{version.name}-{number}"
        return replace(version, name=name)

    def write(self, connection: sqlite3.Connection) -> None:
        """Fill the scene table, and write blocks of what the target does not have yet."""
        with ExitStack() as stack:
            writer: BlockWriter | None = None
            for source in self.sources:
                for record, content in self._scenes(*source):
                    self.progress(record.bytes)
                    if content is None:
                        insert(connection, [record])
                    elif not _is_known(connection, record, content):
                        if writer is None or writer.bytes > BLOCK_BYTES:
                            stack.close()
                            writer = self._next_block(stack)
                        written = writer.add(record.id, record.version, record.source_sha256, content)
                        insert(connection, of_origins([written], [record.origin]))

    def _next_block(self, stack: ExitStack) -> BlockWriter:
        block = new_block(self.change.folder, self.change.generation, self.num_blocks)
        self.num_blocks += 1
        return stack.enter_context(block)

    def _scenes(self, folder: Path, index: Index, names: dict[str, str]) -> Iterator[tuple[BankRecord, bytes | None]]:
        """Scenes of a bank under their new versions, with new content; None where the target has that already."""
        shared_by_version: dict[str, tuple[dict[str, Tensor], Texels]] = {}
        for record in RecordTable(folder / index.table).scenes():
            version = _version_of(folder, index, record)
            target_version = self.versions[names[record.version]]
            if folder == self.change.folder and version.encoding == target_version.encoding:
                yield record, None
                continue
            content = read_record(folder, record)
            if version.encoding != target_version.encoding:
                if version.name not in shared_by_version:
                    model = build_described(folder, version)
                    shared_by_version[version.name] = read_shared(folder, version)[1], model.representation.texels
                content = _encode_again(
                    folder, record, content, version.encoding, target_version.encoding, *shared_by_version[version.name]
                )
            yield replace(record, version=target_version.name), content


def _encode_again(
    folder: Path,
    record: BankRecord,
    content: bytes,
    old: Encoding,
    new: Encoding,
    mean: dict[str, Tensor],
    texels: Texels,
) -> bytes:
    try:
        return encode(decode(content, old, mean, texels), new, mean, texels)
    except ValueError as error:
        raise UsageError(f"{folder}: scene {record.id!r} cannot become {new}: {error}") from None


def _version_of(folder: Path, index: Index, record: BankRecord) -> BankVersion:
    if record.version not in index.versions:
        raise UsageError(f"{folder / index.table} is damaged (it has another version): copy the bank again")
    return index.versions[record.version]


def _is_known(connection: sqlite3.Connection, record: BankRecord, content: bytes) -> bool:
    """Whether the scene is there already.

    Raises:
        UsageError: Another one of its name is.
    """
    digest = connection.execute("SELECT sha256 FROM scenes WHERE id = ?", (record.id,)).fetchone()
    if digest and digest[0] != record_sha256(record.id, record.version, record.source_sha256, content):
        raise UsageError(f"scene {record.id!r} is there twice with different content: remove one of them first")
    return bool(digest)


def _copy_shared(folder: Path, version: BankVersion, target: Path) -> None:
    require_sound(folder / version.shared_file, version.shared_sha256)
    with replacing(target / version.shared_file) as draft:
        shutil.copyfile(folder / version.shared_file, draft)
