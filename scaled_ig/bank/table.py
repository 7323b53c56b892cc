"""The scene table: an SQLite file with one row a scene, never changed once an index names it."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from scaled_ig.errors import UsageError
from scaled_ig.forks import fork_safe_lock

_QUERYING = fork_safe_lock()  # SQLite has locks of its own, which a worker forked during a query would wait for
ROWS_AT_ONCE = 1000

SCENES = """CREATE TABLE scenes (
 position INTEGER PRIMARY KEY,
 id TEXT NOT NULL UNIQUE,
 version TEXT NOT NULL,
 block TEXT NOT NULL,
 offset INTEGER NOT NULL,
 length INTEGER NOT NULL,
 sha256 BLOB NOT NULL,
 source_sha256 TEXT NOT NULL,
 category TEXT NOT NULL,
 licence TEXT NOT NULL
)"""
_OLD_SCENES = SCENES.replace(",\n category TEXT NOT NULL,\n licence TEXT NOT NULL", "")  # until schema version 2
BY_VERSION = "CREATE INDEX scenes_of_version ON scenes (version)"
_OLD_COLUMNS = "id, version, block, offset, length, sha256, source_sha256"
COLUMNS = f"{_OLD_COLUMNS}, category, licence"
INSERT = f"INSERT INTO scenes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
BLOCK_NAME = re.compile(r"\d{8}-\d{5,}\.bin")


class Origin(NamedTuple):
    """What a pack says of a scene; empty where it does not.

    Args:
        category: Such as ``car``.
        licence: Of what its views show, as its source names it.
    """

    category: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class BankRecord:
    """What the scene table says of a scene.

    Args:
        id: Its name.
        version: The version that it was learned with.
        block: File of its record in the folder ``blocks``.
        offset: Of its record there.
        bytes: Length of its record.
        sha256: Digest of its record, see :func:`scaled_ig.bank.scene_records.record_sha256`.
        source_sha256: Digest of the views that it was learned from.
        category: Such as ``car``; empty where the pack or an older bank does not say.
        licence: Of what its views show; likewise.
    """

    id: str
    version: str
    block: str
    offset: int
    bytes: int
    sha256: str
    source_sha256: str
    category: str = ""
    licence: str = ""

    @property
    def origin(self) -> Origin:
        """What the pack says of it."""
        return Origin(self.category, self.licence)

    def as_row(self) -> tuple[Any, ...]:
        """Values of the table's columns."""
        digest = bytes.fromhex(self.sha256)
        place = self.block, self.offset, self.bytes
        return self.id, self.version, *place, digest, self.source_sha256, self.category, self.licence


class RecordTable:
    """A scene table, read only. Opening it reads nothing.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._here = threading.local()
        self._columns = COLUMNS

    def find(self, scene_id: str) -> BankRecord | None:
        """The row of a scene; None where there is none."""
        rows = list(self.select("WHERE id = ?", scene_id))
        return rows[0] if rows else None

    def ids(self) -> list[str]:
        """Ids of all scenes in order."""
        with self._reading() as connection:
            return [name for (name,) in connection.execute("SELECT id FROM scenes ORDER BY position")]

    def scenes(self, version: str | None = None) -> Iterator[BankRecord]:
        """All scenes, or those of a version, in order."""
        where = ("WHERE version = ?", version) if version is not None else ("",)
        return self.select(f"{where[0]} ORDER BY position", *where[1:])

    def select(self, condition: str, *values: object) -> Iterator[BankRecord]:
        """Scenes by a condition in SQL.

        Raises:
            UsageError: The file is missing or damaged.
        """
        with self._reading() as connection:
            cursor = connection.execute(f"SELECT {self._columns} FROM scenes {condition}", values)
            rows = cursor.fetchmany(ROWS_AT_ONCE)
        while rows:
            yield from map(self._record, rows)
            with self._reading():
                rows = cursor.fetchmany(ROWS_AT_ONCE)

    def blocks(self) -> list[str]:
        """Names of all blocks."""
        with self._reading() as connection:
            return [name for (name,) in connection.execute("SELECT DISTINCT block FROM scenes ORDER BY block")]

    def total(self, version: str | None = None) -> int:
        """Bytes of all records, or of a version's."""
        where = ("WHERE version = ?", [version]) if version is not None else ("", [])
        with self._reading() as connection:
            return int(connection.execute(f"SELECT TOTAL(length) FROM scenes {where[0]}", where[1]).fetchone()[0])

    def origins(self) -> dict[Origin, int]:
        """Numbers of scenes by category and licence."""
        with self._reading() as connection:
            columns = ", ".join(self._columns.split(", ")[-2:])
            counted = connection.execute(f"SELECT {columns}, COUNT(*) FROM scenes GROUP BY 1, 2 ORDER BY 1, 2")
            return {Origin(category, licence): count for category, licence, count in counted}

    def findings(self) -> list[str]:
        """What SQLite's own check finds wrong."""
        with self._reading() as connection:
            return [str(line) for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]

    def _record(self, row: tuple[Any, ...]) -> BankRecord:
        name, version, block, offset, length, digest, source, *origin = row
        texts = name, version, block, source, *origin
        sound = all(isinstance(text, str) for text in texts) and isinstance(digest, bytes)
        sound = sound and all(isinstance(number, int) and number >= 0 for number in (offset, length))
        if not sound or not BLOCK_NAME.fullmatch(block):
            raise UsageError(f"{self.path} is damaged (a row has other values than it can have): copy the bank again")
        return BankRecord(name, version, block, offset, length, digest.hex(), source, *origin)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _QUERYING:
            try:
                # Each thread has a connection of its own, and a forked child not its parent's.
                if getattr(self._here, "pid", 0) != os.getpid():
                    # Immutable: no locks, which network file systems have in many ways.
                    location = f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1"
                    connection = sqlite3.connect(location, uri=True, check_same_thread=False)
                    # A view of this name could have rows without end.
                    match list(connection.execute("SELECT type, sql FROM sqlite_master WHERE name = 'scenes'")):
                        case [("table", sql)] if sql in (SCENES, _OLD_SCENES):
                            self._columns = COLUMNS if sql == SCENES else f"{_OLD_COLUMNS}, '', ''"
                        case _:
                            raise sqlite3.DatabaseError("it has no table of scenes, or another one")
                    self._here.connection, self._here.pid = connection, os.getpid()
                yield self._here.connection
            except (sqlite3.Error, UnicodeDecodeError) as error:  # the second of a message that quotes what is damaged
                raise UsageError(f"{self.path} cannot be read ({error}): copy the bank again") from None


def begin(connection: sqlite3.Connection, is_empty: bool) -> None:
    """Give a table that is being written its columns, of which that of an older bank has not all."""
    if is_empty:
        connection.execute(SCENES)
        connection.execute(BY_VERSION)
    elif connection.execute("SELECT sql FROM sqlite_master WHERE name = 'scenes'").fetchone() == (_OLD_SCENES,):
        connection.execute("ALTER TABLE scenes RENAME TO old")
        connection.execute("DROP INDEX scenes_of_version")
        begin(connection, is_empty=True)
        connection.execute(f"INSERT INTO scenes SELECT position, {_OLD_COLUMNS}, '', '' FROM old")
        connection.execute("DROP TABLE old")


def of_origins(records: Iterable[BankRecord], origins: Iterable[Origin]) -> Iterator[BankRecord]:
    """Rows of a table with what packs say of the scenes."""
    for record, origin in zip(records, origins, strict=True):
        yield replace(record, category=origin.category, licence=origin.licence)


def insert(connection: sqlite3.Connection, records: Iterable[BankRecord]) -> None:
    """Add scenes at the end of a table that is being written."""
    connection.executemany(INSERT, (record.as_row() for record in records))


def update(connection: sqlite3.Connection, records: Iterable[BankRecord]) -> None:
    """Give scenes of a table that is being written other records; they stay where they are in its order."""
    assignments = ", ".join(f"{column} = ?" for column in COLUMNS.split(", ")[1:])
    values = ((*record.as_row()[1:], record.id) for record in records)
    connection.executemany(f"UPDATE scenes SET {assignments} WHERE id = ?", values)
