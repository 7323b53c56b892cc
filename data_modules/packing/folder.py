"""The folder that is written to: empty, and of one call at a time."""

import errno
import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scaled_ig.errors import UsageError

LOCK_FILE = "pack.lock"
NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def require_empty(out: Path, besides: Collection[str] = ()) -> None:
    """Refuses a folder that holds something.

    Args:
        out: the folder; it need not be there.
        besides: names of files that it may hold.

    Raises:
        UsageError: it holds another one, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(file.name not in besides for file in out.iterdir())):
        raise UsageError(f"{out} is not empty: name another --out")


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keeps other calls out of a folder, made if it is not there, until this one is done or dead.

    File systems without locks keep nobody out.

    Raises:
        UsageError: another call is in it, or it is a file.
        OSError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name another --out")
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    lock = _lock(out)
    try:
        yield
    finally:
        (out / LOCK_FILE).unlink(missing_ok=True)  # while it is locked, see _lock
        os.close(lock)
        if made:
            with suppress(OSError):  # it is not empty
                out.rmdir()


def _lock(out: Path) -> int:
    """Opens and locks the file of locks; one that its last owner removed meanwhile locks out nobody."""
    path = out / LOCK_FILE
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(f"another call is packing into {out}: wait for it, or name another --out") from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                return lock
            os.close(lock)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)
