"""Every scene of a run in one table: what it is, how well it is rendered, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import spread
from scaled_ig.callbacks.training_table import csv_text
from scaled_ig.progress import Progress
from scaled_ig.report.pictures import encode, shrunk, to_pictures
from scaled_ig.runs.record import RunRecord

MOST_LISTED, MOST_PICTURED = 2000, 240
"""A page lists so many scenes, and shows so many of them, so that it stays small."""
LARGEST_THUMBNAIL, QUALITY = 112, 85


@dataclass(frozen=True)
class SceneRow:
    """A scene.

    Args:
        id: Its name.
        category: As the pack has it; may be empty.
        stage: That learned it.
        psnr: Mean over its test views, dB.
        ssim: Likewise.
        lpips: Likewise; None where it was not measured.
        nearest_view_psnr: Of the nearest training view in place of a test view, dB.
        seconds: Training time of its stage, shared evenly.
        bytes: Of its record in the bank.
    """

    id: str
    category: str
    stage: int
    psnr: float
    ssim: float | None
    lpips: float | None
    nearest_view_psnr: float | None
    seconds: float
    bytes: int


COLUMNS = tuple(field.name for field in fields(SceneRow))


def all_rows(run: RunRecord, data: MultiViewDataModule) -> list[SceneRow]:
    """All measured scenes, from the best to the worst."""
    rows = []
    for stage in run.stages():
        scenes, index = run.scenes(stage), data.index
        categories = {index.scene_ids[place]: index.categories[place] for place in data.scenes(stage)}
        sizes = {record.id: record.bytes for version in run.versions(stage) for record in run.bank.scenes(version)}
        seconds = run.seconds(stage) / len(scenes)
        for scene in scenes:
            name, psnr, ssim, lpips = scene["id"], scene["psnr"], scene.get("ssim"), scene.get("lpips")
            nearest = scene.get("nearest_view_psnr")
            rows.append(SceneRow(name, categories[name], stage, psnr, ssim, lpips, nearest, seconds, sizes[name]))
    return sorted(rows, key=lambda row: -row.psnr)


def as_csv(rows: list[SceneRow]) -> str:
    """The table for other programs."""
    return csv_text(COLUMNS, [asdict(row) for row in rows])


def scene_table(run: RunRecord, data: MultiViewDataModule) -> dict[str, Any]:
    """What the page lists of the scenes, spread evenly over their order where there are too many for it.

    Their ``pictures`` by id are truth and rendering of the first test view, as WebP.
    """
    everything = all_rows(run, data)
    listed = spread(everything, MOST_LISTED)
    by_stage = sorted(spread(listed, MOST_PICTURED), key=lambda row: row.stage)  # views are read by stage
    return {
        "rows": listed,
        "pictures": {row.id: _pictures(run, data, row) for row in Progress(by_stage, "pictures", unit="scene")},
        "of": len(everything),
        "csv": as_csv(everything),
        "has_categories": any(row.category for row in everything),
        "has_lpips": any(row.lpips is not None for row in everything),
    }


@torch.no_grad()
def _pictures(run: RunRecord, data: MultiViewDataModule, row: SceneRow) -> tuple[bytes, ...]:
    place = data.scene_ids(row.stage).index(row.id)
    views = data.split(row.stage, "test")[place]
    if not views:
        return ()
    (batch,) = data.batches(row.stage, [(place, views[0])])
    pair = batch.pixels * 0.5 + 0.5, run.bank[row.id].render(batch.cameras)
    return tuple(encode(shrunk(to_pictures(image[0]), LARGEST_THUMBNAIL), "WEBP", QUALITY) for image in pair)
