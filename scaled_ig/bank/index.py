"""``index.json``: what a bank holds, small and readable. It is replaced whole and last, and it alone decides."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaled_ig.bank.scene_records import ENCODINGS, Encoding
from scaled_ig.documents import parse_json, read_file
from scaled_ig.errors import UsageError
from scaled_ig.files import write_whole

SCHEMA = "scaled-ig-bank"
SCHEMA_VERSION = 3
READ_VERSIONS = (2, 3)
"""Scenes had no category and no licence before 3."""
INDEX_FILE = "index.json"
STATISTICS_FILE = "statistics.json"  # measured when somebody asks, and removed by the next change
TABLE_NAME = re.compile(r"scenes-(\d{8})\.sqlite")
LARGEST_INDEX = 1 << 24  # bytes
MOST_SCENES = 10**9
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class BankVersion:
    """One version of what scenes share.

    Args:
        name: Its name.
        model: The model's description, see :mod:`scaled_ig.bank.description`.
        shared_sha256: Digest of the file of its shared parts.
        encoding: How the records of its scenes are encoded.
        num_scenes: How many there are.
    """

    name: str
    model: dict[str, Any]
    shared_sha256: str
    encoding: Encoding
    num_scenes: int

    @property
    def shared_file(self) -> str:
        """Name of the file of its shared parts."""
        return f"shared-{self.shared_sha256[:16]}.safetensors"


@dataclass(frozen=True)
class Index:
    """Content of ``index.json``.

    Args:
        versions: Versions by name, in the order in which they were first written.
        table: Name of the scene table's file; empty where nothing has been written yet.
        table_sha256: Its digest.
    """

    versions: dict[str, BankVersion]
    table: str = ""
    table_sha256: str = ""

    @property
    def generation(self) -> int:
        """Number of the scene table; every change of the scenes writes the next one."""
        name = TABLE_NAME.fullmatch(self.table)
        return int(name[1]) if name else 0

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Read the index of a bank.

        Raises:
            UsageError: There is none, it is damaged, or of another schema.
        """
        file = folder / INDEX_FILE
        try:
            text = read_file(file, LARGEST_INDEX)
            content = parse_json(text)
            schema = content.get("schema"), content.get("schema_version")
        except FileNotFoundError:
            raise UsageError(f"{folder} is no scene bank: give a finished run, or its folder bank") from None
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(f"{folder} is no scene bank ({error}): give the bank folder of a finished run") from None
        if schema[0] != SCHEMA or schema[1] not in READ_VERSIONS:
            raise UsageError(
                f"{file} is not {SCHEMA} version {SCHEMA_VERSION} but {schema[0]} version {schema[1]}: learn its "
                "scenes again with scaled-ig fit, or read it with the scaled-ig that wrote it"
            )
        try:
            index = cls._of(content)
            is_sound = index is not None and text == index.to_bytes(schema[1])
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
            index, is_sound = None, False
        if index is None or not is_sound:
            raise UsageError(f"{file} is damaged (its digest differs): copy the bank again")
        return index

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Index | None:
        versions = {name: BankVersion(name, **entry) for name, entry in content["versions"].items()}
        index = cls(versions, content["scenes"]["file"], content["scenes"]["sha256"])
        is_sound = TABLE_NAME.fullmatch(index.table) and all(
            version.encoding in ENCODINGS
            and _SHA256.fullmatch(version.shared_sha256)
            and isinstance(version.model, dict)
            and type(version.num_scenes) is int
            and 0 <= version.num_scenes <= MOST_SCENES
            for version in versions.values()
        )
        return index if is_sound else None

    def to_bytes(self, schema_version: int = SCHEMA_VERSION) -> bytes:
        """The file. Its last entry is the SHA-256 of all of the text before it."""
        versions = {
            name: {k: v for k, v in vars(version).items() if k != "name"} for name, version in self.versions.items()
        }
        content = {
            "schema": SCHEMA,
            "schema_version": schema_version,
            "versions": versions,
            "scenes": {"file": self.table, "sha256": self.table_sha256},
        }
        text = json.dumps(content, indent=1).removesuffix("\n}")
        return f'{text},\n "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'.encode()

    def write(self, folder: Path) -> None:
        """Replace the index of a bank."""
        write_whole(folder / INDEX_FILE, self.to_bytes())

    def with_version(self, version: BankVersion) -> Index:
        """This index with a version added or replaced."""
        return replace(self, versions=self.versions | {version.name: version})
