"""Files that are there whole or not at all, their digests, and folders that one process changes at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from scaled_ig.errors import DRAFT, UsageError

_NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_locks: set[int] = set()  # of this process


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside ``path``, ``<name>.<process>.part``, that takes its place at the end; one that fails is removed.

    Args:
        path: File to write, or to write anew; its folder is made where it is missing.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            yield draft
            sync(draft)
            os.replace(draft, path)
    finally:
        with suppress(OSError):  # what was wrong before is to be told
            draft.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of the system name the file that is written: those of a write to an open file name none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def remove_drafts(folder: Path, besides: Path) -> None:
    """Remove what processes that are dead have left unfinished in a folder and those in it.

    Args:
        folder: Of this process alone.
        besides: A folder in it that is left as it is.
    """
    for draft in folder.rglob("*.part"):
        match = re.fullmatch(DRAFT.replace(r"\d+", r"(\d+)"), draft.name)
        if match and draft.is_file() and besides not in draft.parents and not _lives(int(match[2])):
            draft.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # another user's
    except (ProcessLookupError, OverflowError):
        return False
    return True


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, text in UTF-8; see :func:`replacing`."""
    with replacing(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file, in which what is not finite is null; see :func:`replacing`."""
    write_whole(path, json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def file_sha256(path: Path, without: int = 0) -> str:
    """Digest of a file, in hexadecimal digits.

    Args:
        path: The file.
        without: So many of its last bytes do not count.
    """
    digest, block = hashlib.sha256(), memoryview(bytearray(2**20))
    with path.open("rb", buffering=0) as stream:
        left = os.fstat(stream.fileno()).st_size - without
        while left > 0 and (count := stream.readinto(block[:left])):
            digest.update(block[:count])
            left -= count
    return digest.hexdigest()


@contextmanager
def alone_in(folder: Path, lock_file: str, done: str, way_out: str) -> Iterator[None]:
    """Keep other processes out of a folder, made where it is missing, until this one is done or dead.

    File systems without locks keep nobody out. (filelock would take a file for a lock there, which a process that is
    killed leaves behind for ever.)

    Args:
        folder: The folder.
        lock_file: Name of the file of its lock, which says who has it and is removed at the end.
        done: What is done to the folder, as in ``written``.
        way_out: What to do where another process is in it.

    Raises:
        UsageError: Another process is in it.
        OSError: It cannot be written.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / lock_file)
    if lock is None:
        owner = _owner_of(folder / lock_file)
        raise UsageError(f"{folder} is being {done} by {owner}: {way_out}")
    _locks.add(lock)
    try:
        with suppress(OSError):  # on a full disk it is a lock all the same
            owner = f"process {os.getpid()} on host {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M}\n"
            os.ftruncate(lock, 0)
            os.write(lock, owner.encode())
        yield
    finally:
        if lock in _locks:  # else this process was forked from the one that has it
            with suppress(OSError):  # it is free all the same
                (folder / lock_file).unlink(missing_ok=True)  # while it is locked, see _lock
            _locks.discard(lock)
            os.close(lock)
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _leave_locks() -> None:
    """A lock is free when its process is dead, though workers that were forked from it may live a little longer."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_leave_locks)


def _owner_of(lock_file: Path) -> str:
    """Who has a lock, as far as its file says so."""
    with suppress(OSError), lock_file.open("rb") as file:
        words = file.read(200).decode(errors="replace").strip()
        if words:
            return words
    return "another process"


def _lock(path: Path) -> int | None:
    """Open and lock a file; None where another process has. One that its last owner removed locks out nobody."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return lock
            os.close(lock)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)
