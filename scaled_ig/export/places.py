"""Where exports go: a place that is free, and is left as it was where they fail."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from scaled_ig.errors import UsageError


def require_free(out: Path) -> None:
    """Raise UsageError where something is there already, other than an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: name another --out, or remove it")


def path_of(scene_id: str) -> PurePosixPath:
    """A scene's place below a folder: its id.

    Raises:
        UsageError: It would lie elsewhere; an id may come from anywhere.
    """
    path = PurePosixPath(scene_id)
    if path.is_absolute() or ".." in path.parts or str(path) != scene_id or scene_id == ".":
        raise UsageError(f"scene {scene_id!r} cannot be a path below --out: leave it out by --scenes")
    return path
