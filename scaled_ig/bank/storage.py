"""What is said of a bank that is damaged, or cannot be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256


def require_sound(path: Path, sha256: str) -> None:
    """Raise UsageError where a file is missing or is not what was written."""
    try:
        is_sound = file_sha256(path) == sha256
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error}): copy the bank again") from None
    if not is_sound:
        raise UsageError(f"{path} is damaged (its digest differs): copy the bank again")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Say that a bank cannot be written, and why."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder} cannot be written ({reason}): make room or give its folder write permission; what it held "
            "before is as it was"
        ) from None
