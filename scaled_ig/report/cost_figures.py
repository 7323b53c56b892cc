"""Charts of what scenes cost, as PNG: t(N) and m(N) (Fig. 5), and quality against cost (Fig. 1)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from scaled_ig.metrics.accounting import MEGABYTE, Growth
from scaled_ig.report.figures import BLUE, GREEN, GREY, MORE_COLOURS, ORANGE, STYLE

PALETTE = (BLUE, ORANGE, GREEN, *MORE_COLOURS)
OFFSETS = sorted(
    ((right, up) for right in (10, -10, 0) for up in range(-117, 118, 13) if right or up),
    key=lambda offset: (abs(offset[1]) + (offset[0] == 0), -offset[0], -offset[1]),
)
"""Where a label may stand about its point, in points; the nearest first, right of it before left."""


NOISE = 0.1
"""Share by which τ of the same steps differs from run to run on a machine that does other work."""


@dataclass(frozen=True)
class Curve:
    """What one way of learning N scenes costs.

    Args:
        label: What the chart calls it.
        minutes: t(N).
        bytes: m(N).
    """

    label: str
    minutes: Growth
    bytes: Growth

    def at(self, scenes: int) -> tuple[float, float] | None:
        """Minutes and megabytes of N scenes; None below N1."""
        is_known = scenes >= max(1, self.minutes.first)
        return (self.minutes.at(scenes), self.bytes.at(scenes) / MEGABYTE) if is_known else None


@dataclass(frozen=True)
class Point:
    """A way of learning scenes in the landscape.

    Args:
        label: What the chart calls it.
        psnr: dB.
        cost: Minutes and megabytes a scene.
        other: Both counted in another way, drawn as a ring; None where there is none.
    """

    label: str
    psnr: float
    cost: tuple[float, float]
    other: tuple[float, float] | None = None


def scene_counts(curves: Sequence[Curve], most: int) -> list[int]:
    """N at even steps of its logarithm, every N1 among them, from 1 to the power of ten above ``most``."""
    end = math.ceil(math.log10(max(most, 10)))
    return sorted(
        {round(n) for n in np.logspace(0, end, 20 * end + 1)} | {max(1, curve.minutes.first) for curve in curves}
    )


def draw_growth(curves: Sequence[Curve], most: int, baseline: Curve | None = None, time: str = "wall minutes") -> bytes:
    """Minutes and megabytes of N scenes; a curve begins with a dot at its N1.

    Args:
        curves: The ways.
        most: Scenes that the chart reaches at least.
        baseline: One of them, with which a ring marks where others cost as much from there on.
        time: What the minutes are.
    """
    counts = scene_counts(curves, most)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
        for place, (axes, unit) in enumerate(zip(panels, (f"{time}, t(N)", "raw float32 MB, m(N)"), strict=True)):
            for curve, colour in zip(curves, cycle(PALETTE), strict=False):
                points = [(n, cost[place]) for n in counts if (cost := curve.at(n))]
                axes.plot(*zip(*points, strict=True), color=colour, label=curve.label)
                axes.plot(*points[0], "o", color=colour, ms=6, mec="white", mew=1, zorder=5)
                crossing = _crossing(curve, baseline, place)
                if crossing and crossing[0] <= counts[-1]:
                    axes.plot(*crossing, "o", color="white", mec=colour, ms=9, mew=1.8, zorder=4)
            axes.set(xscale="log", yscale="log", xlabel="scenes, N", ylabel=unit, xlim=(counts[0], counts[-1]))
            plain_numbers(axes.xaxis, axes.yaxis)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False)
        return png(figure)


def _crossing(curve: Curve, baseline: Curve | None, place: int) -> tuple[int, float] | None:
    """N from which on a curve costs no more than the baseline, and its minutes (place 0) or megabytes (1) there."""
    if baseline is None or curve == baseline:
        return None
    pairs = (curve.minutes, baseline.minutes), (curve.bytes, baseline.bytes)
    growth, other = pairs[place]
    scenes = growth.break_even(other)
    cost = curve.at(scenes) if scenes else None
    meet_by_chance = growth.is_parallel(other, NOISE if place == 0 else 0.01)
    return (scenes, cost[place]) if scenes and cost and not meet_by_chance else None


def draw_landscape(points: Sequence[Point], dot: str, ring: str, time: str = "wall minutes") -> bytes:
    """PSNR against minutes and megabytes a scene.

    Args:
        points: The ways.
        dot: What filled dots say.
        ring: What rings say; a thin line joins them to their dot.
        time: What minutes are.
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4.8), sharey=True, layout="constrained")
        for place, (axes, unit) in enumerate(zip(panels, (f"{time} a scene", "raw float32 MB a scene"), strict=True)):
            axes.set(xscale="log", xlabel=unit)
            for point, colour in zip(points, cycle(PALETTE), strict=False):
                if point.other:
                    axes.plot((point.cost[place], point.other[place]), (point.psnr,) * 2, color=colour, lw=1, alpha=0.6)
                    axes.plot(point.other[place], point.psnr, "o", color="white", mec=colour, mew=1.5, ms=7)
                axes.plot(point.cost[place], point.psnr, "o", color=colour, ms=8, mec="white", mew=1, zorder=5)
            axes.margins(0.12, 0.14)
            plain_numbers(axes.xaxis)
        panels[0].set_ylabel("PSNR on unseen views, dB")
        for style, text in (({"color": GREY}, dot), ({"color": "white", "mec": GREY, "mew": 1.5}, ring)):
            panels[0].plot([], [], "o", ms=7, label=text, **style)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.2)
        for place, axes in enumerate(panels):
            labelled = zip(points, cycle(PALETTE), strict=False)
            _annotate(
                figure, axes, [(point.cost[place], point.psnr, point.label, colour) for point, colour in labelled]
            )
        return png(figure)


def _annotate(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write (x, y, text, colour) beside points: the nearest place within the axes that covers no line and no text."""
    figure.canvas.draw()
    boxes = [
        _around(point, 4.0) for line in axes.lines for point in _along(axes.transData.transform(line.get_xydata()))
    ]
    for x, y, text, colour in points:
        tried: list[tuple[int, int, Annotation]] = []
        for right, up in OFFSETS:
            note = axes.annotate(
                text,
                (x, y),
                (right, up),
                textcoords="offset points",
                ha="center" if right == 0 else "left" if right > 0 else "right",
                va="center",
                color=colour,
                fontsize=9.5,
                zorder=6,
                in_layout=False,
            )
            box = note.get_window_extent()
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            tried.append((box.count_overlaps(boxes) + (not inside), len(tried), note))
            if tried[-1][0] == 0:
                break
        best = min(tried)[1]
        for _, number, note in tried:
            if number != best:
                note.remove()
        boxes.append(tried[best][2].get_window_extent())


def plain_numbers(*axes: Axis, ticks: bool = True) -> None:
    """Logarithmic axes with 100 in place of 10²; those of less than three decades have 2 and 5 between.

    Args:
        axes: The axes.
        ticks: Whether they get ticks, or have some.
    """
    for axis in axes:
        start, end = axis.get_view_interval()
        if ticks:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if end / start < 1000 else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def _along(points: np.ndarray) -> np.ndarray:
    """Points [n, 2] with others between them, so that no gap is wide."""
    if len(points) < 2:
        return points
    steps = [np.linspace(start, end, 1 + int(np.hypot(*(end - start)) // 6), False) for start, end in pairwise(points)]
    return np.concatenate([*steps, points[-1:]])


def _around(point: np.ndarray, margin: float) -> Bbox:
    return Bbox([point - margin, point + margin])


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()
