"""Tries a few scenes before all are packed: how many bytes and how much time the pack will take."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from data_modules import layout
from data_modules.packing.pack import list_scenes
from data_modules.packing.parts import Parts
from data_modules.packing.scene_writer import RenderSettings, SceneWriter
from data_modules.packing.shards import image_size
from data_modules.packing.workers import Workers, settle_scenes
from data_modules.sources.base import SceneSource
from scaled_ig.errors import UsageError
from scaled_ig.progress import Progress

SCENES_TRIED = 4


@dataclass(frozen=True)
class Estimate:
    """What a pack will take, by a few of its scenes.

    Attributes:
        scenes: number of all scenes.
        views: mean number of views a scene.
        image_size: H, W of the first scene tried.
        bytes: of the whole pack.
        seconds: of the whole call.
        tried: number of scenes tried.
        left_out: those of them that cannot be packed: ``id`` and ``reason``.
    """

    scenes: int
    views: float
    image_size: tuple[int, int]
    bytes: float
    seconds: float
    tried: int
    left_out: list[dict[str, str]]


def try_scenes(source: SceneSource, render: RenderSettings | None, workers: Workers) -> Estimate:
    """Makes up to four scenes, spread over the source's list, in a temporary folder.

    Raises:
        UsageError: none of them can be packed, or their list is not sound.
    """
    ids = [scene["id"] for scene in list_scenes(source)]
    rows = np.unique(np.linspace(0, len(ids) - 1, SCENES_TRIED).astype(int)).tolist()
    with TemporaryDirectory(prefix="scaled-ig-") as folder:
        parts = Parts(Path(folder))
        settled = settle_scenes(SceneWriter(source, ids, parts, render), rows, workers)
        records = [parts.left_out(row) for row in Progress(settled, "trying", len(rows), unit="scene")]
        left_out = [record for record in records if record is not None]
        good = [row for row in rows if parts.views(row).exists()]
        if not good:
            example = f"e.g. not {left_out[0]['id']}, because {left_out[0]['reason']}"
            raise UsageError(f"no scene that was tried can be packed, {example}")
        views = [_num_views(parts.views(row)) for row in good]
        size = image_size(parts.views(good[0]))
        file_sizes = [parts.views(row).stat().st_size for row in good]
        seconds = [_seconds(parts, row) for row in good]
    return Estimate(
        scenes=len(ids),
        views=float(np.mean(views)),
        image_size=size,
        bytes=len(ids) * float(np.mean(file_sizes)),
        seconds=len(ids) * float(np.mean(seconds)) / max(1, min(workers.processes, len(ids))),
        tried=len(rows),
        left_out=left_out,
    )


def _num_views(path: Path) -> int:
    with h5py.File(path, "r") as file:
        return len(file[layout.VIEWS])


def _seconds(parts: Parts, row: int) -> float:
    """How long one process was busy with a scene."""
    return parts.views(row).stat().st_mtime - parts.begun(row).stat().st_mtime
