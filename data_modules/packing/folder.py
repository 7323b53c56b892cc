"""The folder that is written to: empty, and of one call at a time."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from scaled_ig.errors import UsageError
from scaled_ig.files import alone_in

LOCK_FILE = "pack.lock"


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
def alone(out: Path) -> Iterator[None]:
    """Keeps other calls out of a folder until this one is done or dead; see ``alone_in``.

    Raises:
        UsageError: another call is in it, or it is a file.
        OSError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name another --out")
    with alone_in(out, LOCK_FILE, "packed into", "wait for it, or name another --out"):
        yield
