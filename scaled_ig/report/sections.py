"""What a run's page shows, as plain data for its template: a function for a section, in the page's order."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from scaled_ig.cameras import rows_and_columns
from scaled_ig.report import figures
from scaled_ig.report.comparison import PLAIN_FEATURES, Contender, plain_bytes, rows, sentences
from scaled_ig.report.run_costs import RunCosts
from scaled_ig.runs.record import PHASE_NAMES, RunRecord

MEASURED = (
    "psnr",
    "ssim",
    "lpips",
    "nearest_view_psnr",
    "rgb_triplanes_psnr",
    "autoencoder_psnr",
    "stage1_autoencoder_psnr",
)
LARGEST_DOWNLOAD = 1 << 20
"""Files with more bytes are named on the page, not in it."""
PART_NAMES = {
    "micro": "own planes",
    "mixing": "mixing coefficients",
    "hull": "visual hull",
    "bases": "base planes",
    "head": "field head",
    "small_decoder": "small decoder",
    "buffers": "background and buffers",
}


def header(run: RunRecord) -> dict[str, Any]:
    """What was run, and when."""
    return {
        "stage1": len(run.scenes(1)),
        "stage2": len(run.scenes(2)),
        "bases": run.representation().get("num_bases"),
        "pixels": rows_and_columns(run.model["resolution"]),
        "finished": datetime.fromtimestamp((run.folder.path / "costs.json").stat().st_mtime),
    }


def headline(run: RunRecord) -> dict[str, Any]:
    """The numbers that stand first."""
    stage = run.stages()[-1]
    metrics = run.metrics[f"s{stage}"]
    return {
        "stage": stage,
        "scenes": metrics["num_scenes"],
        "views": metrics["num_views"],
        "psnr": metrics["psnr"],
        "nearest": metrics.get("nearest_view_psnr"),
        "seconds": run.seconds(stage) / metrics["num_scenes"],
        "kept_bytes": _kept_bytes(run, stage),
        "bytes": run.bytes_per_scene(),
    }


def quality(run: RunRecord) -> dict[str, Any]:
    """The metrics, and every scene."""
    return {
        "stages": {stage: dict.fromkeys(MEASURED) | run.metrics[f"s{stage}"] for stage in run.stages()},
        "protocol": run.metrics["protocol"],
        "is_rgb": run.is_rgb,
        "has_stage1": any("stage1_autoencoder_psnr" in scene for scene in run.scenes(run.stages()[-1])),
        "drawn": figures.MOST_DRAWN,
        "chart": figures.in_both_widths(figures.draw_scenes, run, run.stages()[-1]),
    }


def training(run: RunRecord) -> dict[str, Any]:
    """How training went."""
    return {"chart": figures.in_both_widths(figures.draw_training, run.first_wave()), "waves": run.num_waves}


def comparison(run: RunRecord, contenders: list[Contender]) -> dict[str, Any] | None:
    """This run at the end of each phase of stage 2, and the others; None where it has no scenes of stage 2."""
    lines = rows(contenders)
    if not lines:
        return None
    nearest = run.metrics.get("s2", {}).get("nearest_view_psnr")
    chart = figures.in_both_widths(figures.draw_comparison, contenders, nearest) if len(contenders) > 1 else None
    return {
        "sentences": sentences(contenders),
        "rows": lines,
        "strong_row": len(contenders[0].ends()) - 1,
        "planes": _beside_plain_planes(run) if "plane_resolution" in run.representation() else None,
        "machines": len({str(sorted(contender.run.costs.get("machine", {}).items())) for contender in contenders}),
        "chart": chart,
    }


def _beside_plain_planes(run: RunRecord) -> dict[str, Any]:
    """What a scene of tri-planes takes, beside plain ones of the same resolution."""
    return {
        "resolution": run.representation()["plane_resolution"],
        "features": run.feature_channels(),
        "bytes": run.bytes_per_scene(),
        "plain_bytes": {features: plain_bytes(run, features) for features in PLAIN_FEATURES},
    }


def costs(run: RunRecord) -> dict[str, Any]:
    """Seconds, bytes and milliseconds, itemised."""
    milliseconds = run.costs.get("milliseconds_per_image", {})
    disk = {f"on disk, stage {stage}": _kept_bytes(run, stage) for stage in run.stages()}
    return {
        "growth": _growth(run) if run.stages() == [1, 2] else None,
        "phases": {PHASE_NAMES[name]: run.costs["phases"][name] for name in run.phases()},
        "scene_bytes": _items(run.costs["bytes_per_scene"]) | disk,
        "shared_bytes": _items(run.costs["shared_bytes"]),
        "milliseconds": {"render": milliseconds.get("render")}
        if run.is_rgb
        else {"render latent": milliseconds.get("render"), "decode": milliseconds.get("decode")},
    }


def _kept_bytes(run: RunRecord, stage: int) -> float:
    """Bytes of a scene's record in the bank, the mean over those of a stage."""
    versions = run.versions(stage)
    scenes = sum(run.bank.versions[name].num_scenes for name in versions)
    return sum(map(run.bank.record_bytes, versions)) / scenes


def downloads(run: RunRecord, scenes_csv: str) -> list[dict[str, Any]]:
    """Files that the page holds: name, kind, how many bytes, and content unless it is too large."""
    names = {"metrics.json": "application/json", "costs.json": "application/json"}
    names |= {"training.csv": "text/csv", "config.yaml": "text/plain"}
    contents = {"scenes.csv": scenes_csv.encode()}
    contents |= {name: path.read_bytes() for name in names if (path := run.folder.path / name).is_file()}
    kinds = {"scenes.csv": "text/csv"} | names
    return [
        {
            "name": name,
            "kind": kinds[name],
            "bytes": len(content),
            "content": content if len(content) <= LARGEST_DOWNLOAD or name == "scenes.csv" else None,
        }
        for name, content in contents.items()
    ]


def _growth(run: RunRecord) -> dict[str, Any]:
    """t(N) and m(N), and what a scene costs when stage 1 is shared out."""
    costs = RunCosts.of(run)
    minutes, memory, scenes = costs.minutes, costs.bytes, costs.num_scenes(2)
    return {
        "first": memory.first,
        "scenes": scenes,
        "versions": len(costs.shared_items()),
        "seconds": {"once": 60 * minutes.once, "each": 60 * minutes.each, "effective": 60 * minutes.effective(scenes)},
        "bytes": {"once": memory.once, "each": memory.each, "effective": memory.effective(scenes)},
    }


def _items(sizes: dict[str, int]) -> dict[str, float]:
    named = {PART_NAMES.get(name, name): size for name, size in sizes.items() if size}
    return {**named, "together": sum(sizes.values())}
