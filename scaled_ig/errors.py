"""The one exception for a user's mistake, and what is said where the system refuses a file."""

import difflib
import errno
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

FULL = {
    errno.ENOSPC: "the disk is full: free space, then call again",
    errno.EDQUOT: "the quota is used up: free space, then call again",
    errno.EFBIG: "the file would be larger than is allowed: raise the limit (ulimit -f), then call again",
    errno.EROFS: "the file system is read-only: name a place that can be written",
}
REASONS = FULL | {
    errno.EACCES: "permission is denied: ask for it, or name another place",
    errno.EPERM: "permission is denied: ask for it, or name another place",
    errno.EEXIST: "a file is where a folder should be: name another place",
    errno.ENOTDIR: "a file is where a folder should be: name another place",
    errno.EISDIR: "a folder is where a file should be: name another place",
    errno.ENOENT: "it is not there: look at the path",
    errno.ENAMETOOLONG: "the name is too long: give a shorter one",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), then call again",
    errno.ENFILE: "too many files are open on this machine: end other programs, then call again",
    errno.EPIPE: "nobody reads the output any more: call again without that",
    errno.EIO: "the disk does not answer as it should: look at it, or name another place",
    errno.ESTALE: "the file server has lost it: mount it again, then call again",
}
LOADER_ENDED = (
    "a process that loads views has ended: shared memory (/dev/shm), memory or open files (ulimit -n) ran out: give "
    "more of it (docker --shm-size for the first), or --data.num_workers 0"
)
DRAFT = r"(.+)\.\d+\.part"
"""Names of drafts, see :func:`scaled_ig.files.replacing`: the first group is the file that a draft is for."""


class UsageError(ValueError):
    """Something a user can mend: a wrong path, key, value or file.

    The message is one sentence that names the file, scene, key or value and the way out. Commands print it after
    ``error:`` without a traceback and exit with status 2.
    """


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """Ask for the known name that is nearest to a wrong one, with a space behind; empty where none is near.

    Args:
        name: The wrong one.
        known: The right ones.
        before: What stands before all of them.
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {before}{near[0]}? " if near else ""


def refuse_hidden_packages() -> None:
    """Raise UsageError where a folder of the user's is imported in place of the package ``data_modules``.

    Python looks into the working directory first, where it is started by ``python -m`` or a notebook. There a package
    ``scaled_ig`` of the user's would hide this file, too, and nothing of ours could say so; the script ``scaled-ig``
    does not look there.
    """
    ours = Path(__file__).parents[1] / "data_modules"
    spec = importlib.util.find_spec("data_modules")
    origin = Path(spec.origin) if spec and spec.origin else None
    if origin is None or origin.resolve().parent != ours.resolve():
        hiding = "nothing" if origin is None else origin.parent if origin.stem == "__init__" else origin
        raise UsageError(
            f"{hiding} hides the package data_modules of scaled-ig, which is in {ours}: rename it, or call from "
            "another folder"
        )


def explain_room(error: Exception) -> str:
    """What this process or one of its loaders had no room for, and the way out; empty where an error is another one."""
    said = str(error)
    if "Too many open files" in said:
        return f"{REASONS[errno.EMFILE]}, or give --data.num_workers 0"
    if re.search(r"DataLoader worker .* exited unexpectedly|shared memory", said):
        return LOADER_ENDED
    if re.search(r"can't allocate memory|CUDA out of memory", said) or isinstance(error, MemoryError):
        return f"memory is full ({' '.join(said.split())[:160]}): give smaller batches, fewer scenes or a smaller model"
    return ""


class NotFiniteError(UsageError):
    """Training has come to a loss, a parameter or a moment that is not finite. Commands exit with status 3."""


def explain(error: OSError) -> str:
    """What a user is told of an error of the system: the file, the reason in words, and the way out."""
    if "No usable temporary directory" in str(error):
        return "no temporary folder can be written: name one with TMPDIR"
    lines = [line for line in str(error.strerror or error).splitlines() if line.strip()]
    reason = REASONS.get(error.errno or 0, f"{lines[-1] if lines else 'it failed'}: look at it, then call again")
    name = os.fsdecode(error.filename2 or error.filename or "")  # of two, the one that was to be written
    draft = re.fullmatch(DRAFT, name)
    needed = re.search(r"[\d,]+ bytes are needed.*", lines[-1]) if lines else None
    if needed:  # see scaled_ig.files.bytes_needed
        reason = reason.replace(":", f" ({needed[0]}):", 1)
    return f"{draft[1] if draft else name}: {reason}" if name else reason
