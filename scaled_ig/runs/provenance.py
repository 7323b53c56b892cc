"""What the numbers of a run depend on beside its configuration: whose program, which versions, which pack."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scaled_ig import __version__
from scaled_ig.documents import DocumentError, parse_json
from scaled_ig.errors import UsageError
from scaled_ig.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from data_modules.base import MultiViewDataModule

FILE = "provenance.jsonl"
PACKAGES = ("lightning", "numpy", "h5py", "safetensors", "torchmetrics", "jsonargparse")
"""Those whose versions may change numbers."""
UNKNOWN = "unknown"


def provenance(data: MultiViewDataModule, seed: int) -> dict[str, Any]:
    """What a run is trained by and on, as plain values.

    Args:
        data: The views.
        seed: Of the run.

    Returns:
        ``commit`` (``unknown`` outside a checkout, with ``+changes`` where files of it were changed), ``versions`` by
        package, ``system``, ``seed``, ``pack`` (an absolute path), ``pack_sha256`` (of the index, which has the digests
        of all files) and ``directory``, in which relative paths of the configuration begin.
    """
    return {
        "commit": commit(),
        "versions": versions(),
        "system": platform.platform(),
        "seed": seed,
        "pack": str(data.index.path.resolve()),
        "pack_sha256": data.index.document["sha256"],
        "directory": os.getcwd(),
    }


def versions() -> dict[str, str]:
    """Versions of this program, of Python, and of the packages that compute."""
    here = {"scaled-ig": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    return here | {name: known for name in PACKAGES if (known := _version(name))}


def commit(folder: Path | None = None) -> str:
    """The commit of the checkout that the program runs from.

    Args:
        folder: Of the package; this one unless given.
    """
    folder = folder or Path(__file__).parents[1]
    # An installed package may lie in somebody else's checkout, which does not know its files.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return UNKNOWN
    head, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head or UNKNOWN}{'+changes' if changes else ''}"


def write_provenance(run: RunFolder, facts: dict[str, Any]) -> None:
    """Add a line to ``provenance.jsonl``: a run has one for each time that it was begun or gone on with."""
    run.append_lines(FILE, [json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds")} | facts)])


def read_provenance(run: RunFolder) -> list[dict[str, Any]]:
    """Lines of ``provenance.jsonl``; none of a run that is older than this file.

    Raises:
        UsageError: The file is damaged.
    """
    file = run.path / FILE
    try:
        lines = [parse_json(line) for line in file.read_bytes().splitlines()] if file.exists() else []
        if not all(isinstance(line, dict) for line in lines):
            raise DocumentError("a line of it holds no names with values")
    except (OSError, DocumentError) as error:
        raise UsageError(f"{file} is damaged ({error}): restore it, or remove it") from None
    return lines


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git(folder: Path, *words: str) -> str | None:
    """What git says of a folder; None where it refuses, or is not there."""
    try:
        call = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return call.stdout.strip() if call.returncode == 0 else None
