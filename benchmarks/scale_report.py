"""The table and the figure of benchmarks/scale.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from scaled_ig.report.figures import BLUE, GREEN, GREY, ORANGE, STYLE

CONTENDERS = {"exact_dense": ("rows of one table", GREEN), "dense": ("dense table and Adam", ORANGE)}


def table(result: dict[str, Any]) -> str:
    """What was measured, to be read: CPU milliseconds a step (of which the optimiser's), resident MiB."""
    lines = [f"{'scenes':>7} |{'waves':^32}|{'rows of one table':^32}|{'dense table':^32}| of waves: share of a change"]
    contenders = [_cells(result), _cells(result["exact_dense"]), _cells(result["dense"])]
    for size, share in zip(result["num_scenes"], result["wave_share_milliseconds"], strict=True):
        cells = "|".join(f"{cells.get(size, 'not held'):>31} " for cells in contenders)
        lines.append(f"{size:>7,} |{cells}| {share:.3f} ms")
    wire = result["bytes_per_step"]
    lines.append(f"step of waves, last to first: {result['step_ratio_last_to_first']:.4f}")
    for size, ours, dense in zip(wire["num_scenes"], wire["total"], wire["dense"], strict=True):
        lines.append(f"bytes a step and rank, {size} scenes: {ours:,}; dense table: {dense:,}")
    return "\n".join(lines)


def _cells(own: dict[str, list[float]]) -> dict[float, str]:
    columns = (own[name] for name in ("step_milliseconds", "optimizer_milliseconds", "resident_mebibytes"))
    return {
        size: f"{step:.2f} ms ({part:.2f}), {mebibytes:,.0f} MiB"
        for size, step, part, mebibytes in zip(own["num_scenes"], *columns, strict=True)
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Time, memory and bytes on the wire against the number of scenes."""
    with plt.rc_context(STYLE):
        figure, (time, memory, wire) = plt.subplots(1, 3, figsize=(13.2, 4.2), layout="constrained")
        for axes, key, title in (
            (time, "step_milliseconds", "CPU milliseconds a step"),
            (memory, "resident_mebibytes", "resident MiB"),
        ):
            for name, (_, colour) in CONTENDERS.items():
                axes.plot(result[name]["num_scenes"], result[name][key], "o-", color=colour, ms=5)
            axes.plot(result["num_scenes"], result[key], "o-", color=BLUE, ms=6)
            _log(axes, title)
        _wire(wire, result)
        names = {"waves": (f"waves of {result['wave']:,} scenes", BLUE), **CONTENDERS}
        handles = [plt.Line2D([], [], color=colour, marker="o", label=label) for label, colour in names.values()]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False)
        figure.savefig(path, dpi=150, metadata={"Software": None})
        plt.close(figure)


def _wire(axes: Axes, result: dict[str, Any]) -> None:
    """Dots are counted, lines are what the sizes of the parameters say."""
    wire = result["bytes_per_step"]
    sizes = np.geomspace(min(wire["num_scenes"]), max(*result["num_scenes"], *wire["num_scenes"]), 99)
    ours, dense = wire["total"], sizes * result["row_bytes"] + wire["shared_parameters"]
    for values, counted, colour in ((0 * sizes + ours[0], ours, BLUE), (dense, wire["dense"], ORANGE)):
        axes.plot(sizes, values / 2**20, color=colour)
        axes.plot(wire["num_scenes"], [value / 2**20 for value in counted], "o", color=colour, ms=6)
    _log(axes, "MiB all-reduced a step and rank")
    axes.annotate("dots: counted in two ranks", (0.03, 0.95), xycoords="axes fraction", color=GREY, fontsize=9)


def _log(axes: Axes, title: str) -> None:
    """Whole decades, so that a slope looks as large as it is."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("scenes")
    axes.set_ylabel(title)
