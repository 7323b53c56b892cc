"""The bars that a run's renderings must clear (method 8), kept with its other numbers."""

from __future__ import annotations

from data_modules.base import MultiViewDataModule
from scaled_ig.metrics.evaluation import PROTOCOL, with_means
from scaled_ig.metrics.nearest_view import add_nearest_views
from scaled_ig.runs.record import RunRecord


def add_bars(run: RunRecord, data: MultiViewDataModule, rgb: RunRecord | None) -> None:
    """Put ``nearest_view_psnr``, where it is missing, and ``rgb_triplanes_psnr`` into the run's ``metrics.json``.

    Args:
        run: The run; its record changes with the file.
        data: The views that it was trained on.
        rgb: A run of RGB tri-planes on the same scenes; without one, what is known of an earlier one stays.
    """
    metrics = run.metrics
    for stage in run.stages():
        splits = data.split(stage, "train"), data.split(stage, "test")
        add_nearest_views(run.scenes(stage), data.scene_ids(stage), data.views(stage), *splits)
    metrics |= with_means(metrics)
    if rgb is not None and "s2" in metrics:
        metrics["s2"]["rgb_triplanes_psnr"] = rgb.metrics.get("s2", {}).get("psnr")
    metrics["protocol"] = PROTOCOL | metrics.get("protocol", {})
    run.folder.write_metrics(metrics)
