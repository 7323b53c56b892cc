"""Scenes that turn: the film of a run, and the same frames on its page, where they can be dragged."""

from __future__ import annotations

from typing import Any

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import spread
from scaled_ig.metrics.nearest_view import cameras_of
from scaled_ig.progress import Progress
from scaled_ig.report import orbits, pictures
from scaled_ig.runs.record import RunRecord

FRAMES, FRAMES_PER_SECOND = 60, 20
MOST_SCENES = 24
COLUMNS = 10
"""Of frames in the sheet of a scene."""
LARGEST_FRAME = 160
"""Frames on the page have at most so many pixels on their longer side; those of the film are not reduced."""
QUALITY = 85


def turn_scenes(run: RunRecord, data: MultiViewDataModule) -> dict[str, Any]:
    """Write ``orbit.mp4``; returns its scenes, each with one picture that holds all of its frames, and their layout."""
    stage = run.stages()[-1]
    ids = [scene["id"] for scene in run.scenes(stage)]
    shown = spread(ids, MOST_SCENES)
    cameras = cameras_of(data.views(stage), spread(data.own_views(stage, "train"), 500))
    path = orbits.orbit_like(cameras, FRAMES)
    frames = list(Progress(pictures.render_orbits(run.bank, shown, path), "orbits", len(shown), unit="scene"))
    pictures.write_film(run.folder.path / "orbit.mp4", pictures.film_frames(frames), FRAMES_PER_SECOND)
    return {
        "scenes": dict(zip(shown, map(_sheet, frames), strict=True)),
        "stage": stage,
        "of": len(ids),
        "pixels": frames[0].shape[1:3],
        "frames": FRAMES,
        "frames_per_second": FRAMES_PER_SECOND,
        "columns": COLUMNS,
        "rows": FRAMES // COLUMNS,
    }


def _sheet(frames: pictures.Picture) -> bytes:
    small = [pictures.shrunk(frame, LARGEST_FRAME) for frame in frames]
    return pictures.encode(pictures.mosaic(small, COLUMNS), "WEBP", QUALITY)
