"""What readers of all formats do with files: finding folders, also behind links, and reading JSON."""

import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaled_ig.errors import UsageError


def walk(path: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk``, and through links to folders: every folder once, under its own name where it has one below.

    Yields:
        A folder, the names of folders in it, of which the caller may remove those that are not to be entered, and the
        names of its files.
    """
    visited: set[str] = set()
    waiting = deque([path])  # links come after all folders, so that no folder gets its name from a link to it
    while waiting:
        for folder, below, names in os.walk(waiting.popleft()):
            real = os.path.realpath(folder)
            if real in visited:  # a link may lead to a folder that holds it
                below.clear()
                continue
            visited.add(real)
            below.sort()
            parent = Path(folder)
            yield parent, below, names
            waiting.extend(parent / name for name in below if (parent / name).is_symlink())


def read_json(path: Path) -> dict[str, Any] | list[Any]:
    """The object or list of a JSON file.

    Raises:
        UsageError: the file cannot be read, is no JSON, is nested too deeply, or holds a single value.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no readable JSON ({error}): repair or remove it") from None
    if not isinstance(document, dict | list):
        raise UsageError(f"{path} holds neither an object nor a list of JSON: repair or remove it")
    return document


def read_json_object(path: Path) -> dict[str, Any]:
    """As ``read_json``, where nothing but an object will do."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no JSON object: repair or remove it")
    return document
