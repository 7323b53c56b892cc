"""Files that are whole or not there, and a folder that one writer changes at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scaled_ig.errors import UsageError

LOCK_FILE = "bank.lock"
_NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_bytes(content)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def file_sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other writers out of a bank, made where it is missing, until this one is done or dead.

    File systems without locks keep nobody out.

    Raises:
        UsageError: Another one is in it.
        OSError: It cannot be written.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        yield
    finally:
        (folder / LOCK_FILE).unlink(missing_ok=True)  # while it is locked, see _lock
        os.close(lock)
        if made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _lock(folder: Path) -> int:
    """Open and lock the file of locks; one that its last owner removed meanwhile locks out nobody."""
    path = folder / LOCK_FILE
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(f"{folder} is being changed by another call: wait until it is done") from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return lock
            os.close(lock)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)
