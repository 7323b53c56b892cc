"""Where a pack's cameras stand: drawings of a few scenes, and what all of them add up to."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from data_modules.checking.check import CheckResult
from data_modules.checking.findings import printable
from data_modules.layout import split_views
from scaled_ig.report import explorer_figures as page
from scaled_ig.report.explorer_figures import TEST, TRAIN, Bar, bars_of, draw_frusta, draw_histogram

DRAWN_SCENES = 3
DEGREE = "\N{DEGREE SIGN}"
VARIES = 0.01  # relative; less is rounding


def cameras_section(result: CheckResult) -> str:
    """Cameras of a few scenes in space, and histograms over all scenes."""
    drawings = _drawings(result)
    positions, is_test = _all_positions(result)
    if not len(positions):
        return ""
    key = "".join(
        f'<i class="key" style="background:{colour}"></i>{text}&emsp;'
        for colour, text in ((TRAIN, "training"), (TEST, "test"))
    )
    note = (
        f'<p class="note">{key}Azimuth 0{DEGREE} is before the front ({page.MINUS}Y), 90{DEGREE} at +X; the ball has '
        f"radius {result.index.scene_radius:g} and holds the object.</p>"
    )
    return page.section(
        "Cameras",
        note,
        f'<div class="frusta-row">{drawings}</div>',
        f'<div class="charts">{"".join(_histograms(result, positions, is_test))}</div>',
    )


def _drawings(result: CheckResult) -> str:
    known = [scene for scene, report in sorted(result.reports.items()) if report.shown is not None]
    sound = [scene for scene in known if scene not in result.reasons] or known
    chosen = [sound[i] for i in np.unique(np.linspace(0, len(sound) - 1, DRAWN_SCENES).astype(int))] if sound else []
    cells = []
    for scene in chosen:
        shown = result.reports[scene].shown
        if shown is not None and np.isfinite(shown.camera_to_world).all() and np.isfinite(shown.intrinsics).all():
            is_test = _is_test(result, scene)
            svg = draw_frusta(shown.camera_to_world, shown.intrinsics, is_test, result.index.scene_radius)
            name = printable(result.index.scene_ids[scene])
            cells.append(f"<div>{svg}{escape(name)}, {len(is_test)} views</div>")
    return "".join(cells)


def _is_test(result: CheckResult, scene: int) -> NDArray[np.bool_]:
    count = int(result.index.num_views[scene])
    flags = np.zeros(count, bool)
    flags[split_views(count, result.index.split_rule)[1]] = True
    return flags


def _all_positions(result: CheckResult) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Finite positions [N, 3] of all cameras that could be read, and which of them are test views."""
    known = [(scene, report.positions) for scene, report in sorted(result.reports.items())]
    places = [positions for _, positions in known if positions is not None]
    if not places:
        return np.empty((0, 3)), np.empty(0, bool)
    positions = np.concatenate(places).astype(float)
    is_test = np.concatenate([_is_test(result, scene) for scene, _ in known])
    sound = np.isfinite(positions).all(axis=1) & positions.any(axis=1)
    return positions[sound], is_test[sound]


def _histograms(result: CheckResult, positions: NDArray[np.float64], is_test: NDArray[np.bool_]) -> list[str]:
    distance = np.linalg.norm(positions, axis=1)
    elevation = np.degrees(np.arcsin(np.clip(positions[:, 2] / distance, -1, 1)))
    azimuth = np.degrees(np.arctan2(positions[:, 0], -positions[:, 1]))
    angles = bars_of(azimuth, is_test, -180, 180, 10)
    heights = bars_of(elevation, is_test, -90, 90, 5)
    charts = [
        draw_histogram(angles, range(-180, 181, 90), "Azimuth", DEGREE, _span(azimuth, DEGREE)),
        draw_histogram(heights, range(-90, 91, 30), "Elevation", DEGREE, _span(elevation, DEGREE)),
    ]
    low, high = float(distance.min()), float(distance.max())
    if high - low > VARIES * high:
        ticks = np.linspace(low, high, 5)
        bars = bars_of(distance, is_test, low, high, (high - low) / 36)
        charts.append(
            draw_histogram(bars, [float(f"{t:.3g}") for t in ticks], "Distance", "", f"{low:.3g} to {high:.3g}")
        )
    counts = result.index.num_views
    if counts.min() < counts.max():
        charts.append(_views_chart(counts))
    return charts


def _span(values: NDArray[np.float64], unit: str) -> str:
    return f"{values.min():.0f}{unit} to {values.max():.0f}{unit}".replace("-", page.MINUS)


def _views_chart(counts: NDArray[np.int64]) -> str:
    low, high = int(counts.min()), int(counts.max())
    width = max(1, -(-(high - low + 1) // 40))
    bars = bars_of(counts + 0.0, np.zeros(len(counts), bool), low, low + width * (-(-(high - low + 1) // width)), width)
    ticks = sorted({low, int(np.median(counts)), high})
    shifted = [Bar(bar.low - width / 2, bar.high - width / 2, bar.train, 0) for bar in bars]
    return draw_histogram(shifted, ticks, "Views per scene", "", f"{len(counts):,} scenes")
