"""Changing a bank: a new generation of files beside the old one, then the index, then the old ones go.

Whatever happens meanwhile, the index names files that are whole.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from scaled_ig.bank.blocks import BLOCKS, new_block, read_record
from scaled_ig.bank.index import INDEX_FILE, STATISTICS_FILE, TABLE_NAME, BankVersion, Index
from scaled_ig.bank.storage import require_sound, writable
from scaled_ig.bank.table import BLOCK_NAME, BY_VERSION, SCENES, BankRecord, RecordTable
from scaled_ig.errors import UsageError
from scaled_ig.files import alone_in, file_sha256, sync

LOCK_FILE = "bank.lock"
_OWN_NAMES = re.compile(
    rf"{TABLE_NAME.pattern}|shared-[0-9a-f]{{16}}\.safetensors|.+\.\d+\.part|(shared|{INDEX_FILE})\.part|{STATISTICS_FILE}"
)


class Change:
    """A change of a bank by its only writer.

    Args:
        folder: Of the bank.
        index: What it holds before.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder, self.index, self.generation = folder, index, index.generation + 1

    @property
    def table(self) -> RecordTable | None:
        """The scene table before the change; None in a new bank."""
        return RecordTable(self.folder / self.index.table) if self.index.table else None

    def commit(self, versions: dict[str, BankVersion]) -> None:
        """Make this what the bank holds; scenes stay as they are, the shared parts may be others."""
        self.index = replace(self.index, versions=versions)
        self.index.write(self.folder)

    def commit_scenes(
        self, versions: dict[str, BankVersion], edit: Callable[[sqlite3.Connection], None], anew: bool = False
    ) -> None:
        """Make this what the bank holds.

        Args:
            versions: All versions; their numbers of scenes are counted here.
            edit: Changes a copy of the scene table.
            anew: Whether to give it an empty one.
        """
        path = self.folder / f"scenes-{self.generation:08d}.sqlite"
        is_empty = anew or not self.index.table
        path.write_bytes(b"")
        if not is_empty:
            shutil.copyfile(self.folder / self.index.table, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA secure_delete = ON; BEGIN"
            )
            if is_empty:
                connection.execute(SCENES)
                connection.execute(BY_VERSION)
            edit(connection)
            connection.execute("COMMIT")
            counts = dict(connection.execute("SELECT version, COUNT(*) FROM scenes GROUP BY version"))
        sync(path)
        sync(self.folder / BLOCKS)
        sync(self.folder)
        counted = {name: replace(version, num_scenes=counts.get(name, 0)) for name, version in versions.items()}
        self.index = Index(counted, path.name, file_sha256(path))
        self.index.write(self.folder)

    def sweep(self) -> None:
        """Remove files that the index does not name; files that no bank would write are left alone."""
        index = Index.read(self.folder) if (self.folder / INDEX_FILE).exists() else Index({})
        named = {INDEX_FILE, index.table} | {version.shared_file for version in index.versions.values()}
        if index.table:
            named |= {f"{BLOCKS}/{name}" for name in RecordTable(self.folder / index.table).blocks()}
        for name in files_of(self.folder) - named:
            inside, _, block = name.rpartition("/")
            if _OWN_NAMES.fullmatch(name) or (inside == BLOCKS and BLOCK_NAME.fullmatch(block)):
                (self.folder / name).unlink()


@contextmanager
def changing(folder: Path) -> Iterator[Change]:
    """Change a bank, or make one.

    Args:
        folder: The bank.

    Raises:
        UsageError: It is being changed by another call, is no bank of this schema, is damaged, or cannot be written.
    """
    with writable(folder), alone_in(folder, LOCK_FILE, "changed", "wait until it is done"):
        index = Index.read(folder) if (folder / INDEX_FILE).exists() else Index({})
        if index.table:  # blocks that it does not name are removed
            require_sound(folder / index.table, index.table_sha256)
        change = Change(folder, index)
        change.sweep()  # what a killed writer left
        (folder / BLOCKS).mkdir(exist_ok=True)
        try:
            yield change
        finally:
            change.sweep()
            if not (folder / INDEX_FILE).exists():
                with suppress(OSError):  # somebody else's files
                    (folder / BLOCKS).rmdir()


def files_of(folder: Path) -> set[str]:
    """All files of a bank, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {LOCK_FILE}


def remove_scenes(folder: Path, ids: Collection[str]) -> None:
    """Remove scenes; blocks that held some of them are written again without.

    A version stays without its last scene: others may be learned with its shared parts.

    Raises:
        UsageError: The bank does not hold one of them, or is damaged.
    """
    with changing(folder) as change:
        table = change.table
        records_by_id = {name: table.find(name) if table else None for name in dict.fromkeys(ids)}
        missing = [name for name, record in records_by_id.items() if record is None]
        if missing:
            raise UsageError(f"{folder} holds no scene {missing[0]!r}: nothing was removed")

        def edit(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM scenes WHERE id = ?", ((name,) for name in records_by_id))
            clear_blocks(change, connection, [record for record in records_by_id.values() if record])

        change.commit_scenes(change.index.versions, edit)


def clear_blocks(
    change: Change, connection: sqlite3.Connection, removed_records: Collection[BankRecord], first: int = 0
) -> None:
    """Write the blocks that hold some records again without them, and say in a new table where their other records are.

    Args:
        change: The change that it is part of.
        connection: The new table.
        removed_records: The records.
        first: Number of the first new block.

    Raises:
        UsageError: Another record of these blocks is damaged.
    """
    table, names = change.table, {record.id for record in removed_records}
    assert table is not None
    for number, block in enumerate(sorted({record.block for record in removed_records}), first):
        staying_records = [
            record for record in table.select("WHERE block = ? ORDER BY offset", block) if record.id not in names
        ]
        if not staying_records:
            continue
        with new_block(change.folder, change.generation, number) as writer:
            for record in staying_records:
                content = read_record(change.folder, record)
                new_record = writer.add(record.id, record.version, record.source_sha256, content)
                place = new_record.block, new_record.offset, new_record.id
                connection.execute("UPDATE scenes SET block = ?, offset = ? WHERE id = ?", place)
