"""Charts of a run, as SVG: each wide, for a screen or paper, and narrow, for a phone."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaled_ig.bank.scene_bank import spread
from scaled_ig.report.base_planes import BasePlanes
from scaled_ig.report.charts import BAND, BLUE, EDGE, GREEN, GREY, INK, ORANGE, PINK, RULE, SKY, SOFT, YELLOW
from scaled_ig.report.comparison import Contender
from scaled_ig.runs.record import PHASE_NAMES, RunRecord

COLOURS = {"ours": BLUE, "no_prior": GREEN, "rgb": ORANGE}
MORE_COLOURS = (PINK, YELLOW, SKY, INK)
LOSSES = {"reconstruction": ("reconstruction", GREY), "latent": ("latent", PINK), "rgb": ("RGB", ORANGE)}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scaled-ig",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": SOFT,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


WIDE, NARROW = 10.6, 4.8
"""Widths of a chart, inches: letters are as large in both."""
MOST_DRAWN = 300
"""Scenes in a chart, spread evenly over their order: more could not be told apart."""


def in_both_widths(draw: Callable[..., bytes], *arguments: Any) -> tuple[bytes, bytes]:
    """A chart in both widths."""
    return draw(*arguments, WIDE), draw(*arguments, NARROW)


@contextmanager
def _style():
    with plt.rc_context(STYLE):
        yield


def _plain(text: str) -> str:
    """A name as it is: between dollar signs it would be a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    plt.close(figure)
    # Text stays text: it is drawn in the font of the page.
    return (
        stream.getvalue()
        .replace(b"'DejaVu Sans', 'DejaVu Sans'", b"'DejaVu Sans'")
        .replace(b"font-family: 'DejaVu Sans'", f"font-family: {FONT}".encode())
        .replace(b"'DejaVu Sans'", FONT.encode())
    )


def _label(axes: Axes, points: list[tuple[float, float, str, str]], gap: float = 13.0) -> None:
    """Write (x, y, text, colour) beside points, moved apart where they would touch; ``gap`` in points."""
    axes.figure.canvas.draw()
    scale = 72 / axes.figure.dpi
    last = -1e9
    for x, y, text, colour in sorted(points, key=lambda point: point[1]):
        height = axes.transData.transform((x, y))[1] * scale
        place = max(height, last + gap)
        last = place
        axes.annotate(
            text,
            (x, y),
            (9, place - height),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )


def _bands(axes: Axes, run: RunRecord, width: float | None = None) -> float:
    """Shade phases one after another, under their names in a chart of some width; returns the last end in seconds."""
    start, total = 0.0, sum(run.costs["phases"][phase]["seconds"] for phase in run.phases())
    for place, phase in enumerate(run.phases()):
        end = start + run.costs["phases"][phase]["seconds"]
        if place % 2 == 0:
            axes.axvspan(start, end, color=BAND, lw=0, zorder=0)
        if width is not None:
            narrow = (end - start) / total * (width - 2.4) < 1  # inches, less those of labels
            title = PHASE_NAMES[phase].replace(" ", "\n")
            axes.annotate(
                title,
                ((start + end) / 2, 1.02),
                xycoords=("data", "axes fraction"),
                ha="left" if narrow else "center",
                va="bottom",
                rotation=(35 if width == WIDE else 60) if narrow else 0,
                fontsize=9,
                color=SOFT,
            )
        start = end
    axes.set_xlim(0, start)
    axes.grid(axis="x", visible=False)
    return start


def draw_training(run: RunRecord, width: float = WIDE) -> bytes:
    """Losses and PSNR of all phases, one after another, over training seconds."""
    with _style():
        figure, (losses, quality) = plt.subplots(
            2, 1, figsize=(width, 6.2), sharex=True, height_ratios=(1, 1.15), layout="constrained"
        )
        _bands(losses, run, width)
        _bands(quality, run)
        losses.set_yscale("log")
        ends: dict[str, tuple[float, float, str, str]] = {}
        dots, bound, start = [], None, 0.0
        for phase in run.phases():
            for name, (title, colour) in LOSSES.items():
                points = [(start + x, y) for x, y in run.curve(phase, f"train/{name}")]
                losses.plot(*_split(points), color=colour, marker="o" if len(points) == 1 else None, ms=3)
                if points:
                    ends[name] = (*points[-1], title, colour)
            upper = [] if run.is_rgb else [(start + x, y) for x, y in run.curve(phase, "val/autoencoder_psnr")]
            quality.plot(*_split(upper), color=GREY, lw=1.3)
            bound = (*upper[-1], "autoencoder alone", GREY) if upper else bound
            if phase != "autoencoder":
                quality.plot(*_split([(start + x, y) for x, y in run.curve(phase, "val/psnr")]), color=BLUE)
                value = run.test_value(phase, "psnr")
                if value is not None:
                    dots.append((start + run.costs["phases"][phase]["seconds"], value))
            start += run.costs["phases"][phase]["seconds"]
        quality.plot(*_split(dots), "o", color=BLUE, ms=6, mec="white", mew=1, clip_on=False, zorder=5)
        for x, y in dots[:-1]:
            quality.annotate(f"{y:.1f}", (x, y), (-3, 7), textcoords="offset points", ha="right", color=BLUE)
        _label(losses, list(ends.values()))
        last = [(*dots[-1], f"{dots[-1][1]:.1f} dB rendered", BLUE)] if dots else []
        _label(quality, last + ([bound] if bound else []))
        losses.set_ylabel("training loss")
        quality.set_ylabel("PSNR, dB")
        quality.set_xlabel("training seconds")
        return _svg(figure)


def draw_comparison(contenders: list[Contender], nearest: float | None, width: float = WIDE) -> bytes:
    """PSNR of stage 2 over its training seconds: lines on watched views, dots on test views at the ends of phases."""
    with _style():
        figure, axes = plt.subplots(figsize=(width, 4.0), layout="constrained")
        labels = []
        more = cycle(MORE_COLOURS)
        for contender in contenders:
            colour, start = COLOURS.get(contender.kind) or next(more), 0.0
            for phase in contender.run.phases(2):
                points = [(start + x, y) for x, y in contender.run.curve(phase, "val/psnr")]
                axes.plot(*_split(points), color=colour)
                start += contender.run.costs["phases"][phase]["seconds"]
            dots = [(seconds, psnr) for _, seconds, psnr in contender.ends()]
            axes.plot(*_split(dots), "o", color=colour, ms=7, mec="white", mew=1, clip_on=False, zorder=5)
            if dots:
                labels.append((*dots[-1], _plain(f"{contender.label} {dots[-1][1]:.1f} dB"), colour))
        axes.set_xlim(left=0)
        if nearest is not None:
            axes.axhline(nearest, color=GREY, lw=1.2, ls=(0, (4, 3)))
            axes.annotate("nearest view", (0, nearest), (6, 5), textcoords="offset points", color=GREY)
        _label(axes, labels)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("PSNR, dB")
        axes.set_xlabel("training seconds in stage 2")
        return _svg(figure)


def draw_scenes(run: RunRecord, stage: int, width: float = WIDE) -> bytes:
    """PSNR of each scene over that of its nearest views, and the autoencoders' own; of ``MOST_DRAWN`` at most."""
    scenes = spread(sorted(run.scenes(stage), key=lambda scene: scene["psnr"]), MOST_DRAWN)
    named = len(scenes) <= 40
    with _style():
        height = 1.2 + (0.26 * len(scenes) if named else 7)
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        places = range(len(scenes))
        psnrs = [scene["psnr"] for scene in scenes]
        nearest = [scene.get("nearest_view_psnr") or scene["psnr"] for scene in scenes]
        bound = [scene.get("autoencoder_psnr") or scene["psnr"] for scene in scenes]
        size = 7 if named else 3
        axes.hlines(places, nearest, psnrs, color=EDGE, lw=3 if named else 1, zorder=1)
        axes.plot(nearest, places, "o", color="white", mec=GREY, mew=1.5, ms=size, zorder=2, label="nearest view")
        axes.plot(psnrs, places, "o", color=BLUE, mec="white", mew=0.8, ms=size + 1, zorder=3, label="rendered")
        if not run.is_rgb:
            axes.plot(bound, places, "|", color=ORANGE, ms=size + 4, mew=1.8, zorder=2, label="autoencoder alone")
        name = "stage1_autoencoder_psnr"
        stage1 = [(scene[name], float(place)) for place, scene in enumerate(scenes) if scene.get(name)]
        if stage1:
            axes.plot(*_split(stage1), "|", color=GREEN, ms=size + 4, mew=1.8, zorder=2, label="stage 1's autoencoder")
        spacing: Any = {"ncols": 4 if width == WIDE else 1, "handletextpad": 0.2, "borderaxespad": 0.1}
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, **spacing)
        axes.set_yticks(places if named else [], [_plain(scene["id"]) for scene in scenes] if named else [])
        axes.set_ylim(-0.7, len(scenes) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("PSNR, dB")
        return _svg(figure)


def draw_bases(planes: dict[int, BasePlanes], width: float = WIDE) -> bytes:
    """Left the use of each base, most used first, by stages; right the singular values of the newest stage."""
    with _style():
        side_by_side = width == WIDE
        shape, size = ((1, 2), (width, 3.4)) if side_by_side else ((2, 1), (width, 6.4))
        figure, (use, spectra) = plt.subplots(*shape, figsize=size, layout="constrained")
        newest = planes[max(planes)]
        shares = {stage: np.array(bases.numbers["shares"]) for stage, bases in planes.items()}
        order, width = (-shares[max(planes)]).argsort(), 0.8 / len(planes)
        for number, (stage, stage_shares) in enumerate(shares.items()):
            places = np.arange(len(order)) + (number - (len(planes) - 1) / 2) * width
            use.bar(
                places, stage_shares[order] * 100, width, color=BLUE if stage == max(planes) else SKY, label=f"S{stage}"
            )
        use.axhline(100 / len(order), color=GREY, lw=1.2, ls=(0, (4, 3)))
        use.set_xticks(range(len(order)) if len(order) <= 20 else [], order + 1 if len(order) <= 20 else [])
        use.set_xlabel(f"base, most used in S{max(planes)} first")
        use.set_ylabel("use, %")
        use.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
        use.grid(axis="x", visible=False)
        for (title, values), colour in zip(newest.spectra.items(), (BLUE, ORANGE, GREEN), strict=True):
            parts = values / values.sum().clamp(min=1e-30) * 100
            spectra.plot(np.arange(len(parts)) + 1, parts, color=colour, marker="o", ms=3.5, label=title)
        spectra.set_ylim(bottom=0)
        spectra.xaxis.get_major_locator().set_params(integer=True)
        spectra.set_xlabel(f"singular value, S{max(planes)}")
        spectra.set_ylabel("part of the sum, %")
        spectra.legend(frameon=False)
        return _svg(figure)


def _split(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
