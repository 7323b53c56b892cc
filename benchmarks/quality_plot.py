"""Table and figure of what benchmarks/quality.py measured."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

Rows = dict[str, dict[str, dict[str, Any]]]  # by set and recipe
BASELINE = "0.55"  # grey
ABOVE = ("TensoRF", "Vanilla-NeRF", "Tri-Planes (RGB), one head")  # labels that would meet others below


def table(rows: Rows) -> str:
    """Every set and recipe: decibels, seconds and kibibytes a scene, as Markdown."""
    lines = [
        "| scenes | recipe | PSNR, dB | ± seeds | s a scene | of whole ball | KiB, float32 | KiB stored | steps |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for scenes, recipes in rows.items():
        for name, row in recipes.items():
            spread = "–" if row["psnr_sd"] is None else f"{row['psnr_sd']:.2f} ({row['seeds']})"
            costs = f"{row['seconds_per_scene']:.2f} | {row['ratio_to_unit']:.2f}"
            sizes = f"{row['bytes_per_scene'] / 1024:.0f} | {row['stored_bytes_per_scene'] / 1024:.1f}"
            lines.append(f"| {scenes} | {name} | {row['psnr']:.2f} | {spread} | {costs} | {sizes} | {row['steps']:,} |")
    return "\n".join(lines)


def baselines(path: Path) -> dict[str, tuple[float, float]]:
    """Seconds a scene and PSNR, dB, of the baselines of Table 4 that ``make results`` wrote; none without its file."""
    if not path.is_file():
        return {}
    with path.open(newline="") as stream:
        found = [row for row in csv.DictReader(stream) if row["latent space"] == "False"]
    return {row[""]: (float(row["τ, s a scene"]), float(row["PSNR S2, dB"])) for row in found}


def draw(rows: Rows, table4: Path, path: Path) -> None:
    """A column a set: PSNR against seconds a scene, and against stored bytes.

    Args:
        rows: By :func:`benchmarks.quality.collect`.
        table4: Table of baselines that learned the cars.
        path: Of the picture.
    """
    figure, axes = plt.subplots(2, len(rows), figsize=(1.5 + 4.5 * len(rows), 8), squeeze=False)
    for number, (scenes, recipes) in enumerate(rows.items()):
        times, sizes = axes[:, number]
        for place, (name, row) in enumerate(recipes.items()):
            for panel, cost in ((times, row["seconds_per_scene"]), (sizes, row["stored_bytes_per_scene"] / 1024)):
                panel.errorbar(cost, row["psnr"], row["psnr_sd"], fmt="o", color=f"C{place}", capsize=2)
                _label(panel, name, (cost, row["psnr"]), f"C{place}", above=place % 2 == 0)
        if scenes == "cars":
            for name, point in baselines(table4).items():
                times.plot(*point, "^", color=BASELINE)
                _label(times, name.replace("Tri-Planes (RGB), ", "Tri-Planes,\n"), point, BASELINE, name in ABOVE)
        times.set(title=scenes, xlabel="seconds a scene of stage 2, one thread")
        sizes.set(xlabel="stored KiB a scene")
        for panel in (times, sizes):
            panel.set(xscale="log", ylabel="PSNR of unseen views, dB")
            panel.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
            panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.margins(0.22, 0.12)
            panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _label(axes: Axes, text: str, point: tuple[float, float], colour: str, above: bool) -> None:
    given: dict[str, Any] = {"ha": "center", "va": "bottom" if above else "top", "fontsize": 8, "color": colour}
    axes.annotate(text, point, (0, 6 if above else -6), textcoords="offset points", **given)
