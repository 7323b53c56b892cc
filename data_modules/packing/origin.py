"""The file that a packed scene was made of: which one it is, and whether it is still the same."""

from pathlib import Path

from data_modules.sources.base import SceneSource, SourceRecord
from scaled_ig.files import file_sha256


def source_file(source: SceneSource, record: SourceRecord) -> Path | None:
    """The file that a record names, or the archive that holds it; None for sources without files, or if it is gone."""
    path = getattr(source, "path", None)
    if path is None or "file" not in record:
        return None
    file = (path if path.is_dir() else path.parent) / record["file"]
    return next((candidate for candidate in (file, *file.parents) if candidate.is_file()), None)


def is_changed_since(source: SceneSource, record: SourceRecord, begun: Path) -> bool:
    """Whether the file of a scene was changed or replaced after ``begun`` was written.

    Only the file that the record names is looked at: neither textures nor images beside it, nor what it held before.
    """
    file = source_file(source, record)
    # Not the time of its content, which copies take over from a file that may be older.
    return file is not None and begun.exists() and file.stat().st_ctime_ns > begun.stat().st_mtime_ns


def is_same(source: SceneSource, record: SourceRecord) -> bool:
    """Whether the file of a scene has the digest that its record names; textures and images beside it may differ."""
    file = source_file(source, record)
    return file is not None and file_sha256(file) == record.get("sha256")
