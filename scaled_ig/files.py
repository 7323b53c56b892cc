"""Files that are there whole or not at all, their digests, folders that one process changes, and files of strangers."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaled_ig.errors import UsageError

LARGEST_JSON = 1 << 28  # bytes
MOST_JSON_MEMORY = 640 << 20
# About what a list, an object, one more value, a key and half a text take once they are parsed.
_JSON_BYTES = {b"[": 64, b"{": 128, b",": 32, b":": 32, b'"': 16}

_NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside ``path``, ``<name>.<process>.part``, that takes its place at the end; one that fails is removed.

    Args:
        path: File to write, or to write anew; its folder is made where it is missing.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        sync(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, text in UTF-8; see :func:`replacing`."""
    with replacing(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file; see :func:`replacing`."""
    write_whole(path, json.dumps(document, indent=1) + "\n")


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


def read_file(path: Path, most_bytes: int = LARGEST_JSON) -> bytes:
    """Content of a file that anybody may have written.

    Raises:
        OSError: It cannot be read, is larger, or is a pipe or a device, which may have no end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")
    if status.st_size > most_bytes:
        raise OSError(f"it has {status.st_size:,} bytes, and {most_bytes:,} are the most that are read")
    return path.read_bytes()


def parse_json(content: bytes) -> Any:
    """A JSON document that anybody may have written.

    Raises:
        ValueError: It is none, is nested too deeply, or would fill the memory, which is found before it is parsed.
    """
    memory = sum(each * content.count(mark) for mark, each in _JSON_BYTES.items())
    if memory > MOST_JSON_MEMORY:
        raise ValueError(f"it is too large: what it lists takes about {memory >> 20} MiB of memory")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def file_sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def alone_in(folder: Path, lock_file: str, busy: str) -> Iterator[None]:
    """Keep other processes out of a folder, made where it is missing, until this one is done or dead.

    File systems without locks keep nobody out. (filelock would take a file for a lock there, which a process that is
    killed leaves behind for ever.)

    Args:
        folder: The folder.
        lock_file: Name of the file of its lock, which is removed at the end.
        busy: What to say where another process is in it.

    Raises:
        UsageError: Another process is in it.
        OSError: It cannot be written.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / lock_file, busy)
    try:
        yield
    finally:
        (folder / lock_file).unlink(missing_ok=True)  # while it is locked, see _lock
        os.close(lock)
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _lock(path: Path, busy: str) -> int:
    """Open and lock a file; one that its last owner removed meanwhile locks out nobody."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(busy) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return lock
            os.close(lock)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)
