"""What ``scaled-ig bank export`` does, whatever the format."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.export import FORMATS, SCENE_BY_SCENE
from scaled_ig.export.places import require_free
from scaled_ig.progress import Progress


def export_scenes(
    bank: str, format: str, out: str, scenes: list[str] | None, version: str | None, options: dict[str, Any]
) -> str:
    """Write scenes of a bank, and say what was written.

    Args:
        bank: Folder of a bank, or of a run.
        format: A key of :data:`scaled_ig.export.FORMATS`.
        out: File or folder to write.
        scenes: Their ids.
        version: Of all scenes of this one.
        options: Those of single formats by name; None where not given.

    Raises:
        UsageError: There is no bank or no such scene, an option has no effect, or the place is taken.
    """
    writer = getattr(importlib.import_module(f"scaled_ig.export.{FORMATS[format]}"), f"write_{format}")
    chosen = {name: value for name, value in options.items() if value is not None}
    for name in chosen.keys() - inspect.signature(writer).parameters.keys():
        raise UsageError(f"--{name} has no effect with --format {format}: leave it out")
    opened = SceneBank.open(bank)
    (ids, versions), path = _chosen(opened, scenes, version), Path(out)
    if format not in SCENE_BY_SCENE:
        require_free(path)
    with Progress(total=len(ids), desc="export", unit="scene", leave=False) as bar:
        said = writer(opened, ids, path, bar.update, **chosen)
    others = [name for name, one in opened.versions.items() if one.num_scenes and name not in versions]
    if others and scenes is None and version is None:
        said += f"\nscenes of {' and '.join(others)} are left out: --version {others[-1]} writes them to another --out"
    return said


def _chosen(bank: SceneBank, scenes: list[str] | None, version: str | None) -> tuple[list[str], list[str]]:
    """Ids of the scenes, which have the same shared parts, and their versions."""
    if scenes is not None and version is not None:
        raise UsageError("--scenes and --version both say which scenes: give one of the two")
    if version is not None and version not in bank.versions:
        raise UsageError(f"{bank.path} holds no version {version!r}; it holds {', '.join(bank.versions)}")
    ids = bank.newest() if scenes is None else list(dict.fromkeys(scenes))
    records = bank.scenes(version) if version is not None else [bank.record(name) for name in ids]
    if not records:
        raise UsageError(f"{bank.path} holds no such scenes: scaled-ig bank info says what it holds")
    names = list(dict.fromkeys(record.version for record in records))
    if len({bank.versions[name].shared_sha256 for name in names}) > 1:
        raise UsageError(
            f"scenes of {' and '.join(names)} have other shared parts: export them one after the other, by --version"
        )
    return [record.id for record in records], names
