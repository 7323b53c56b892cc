"""A folder of rows as a section of the page of tables: what is written, drawn and kept as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scaled_ig.errors import UsageError
from scaled_ig.report import results, scaling, scaling_figures
from scaled_ig.report.base_planes import SCENES, VIEWS
from scaled_ig.report.results import Row
from scaled_ig.report.scaling import Sizes

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """A part of the page, from top to bottom.

    Args:
        records: Of its table.
        text: Markdown beneath the table; a picture's is ``![what it shows](FILE)``.
        pictures: PNG by the name of their file.
        further: Tables that are kept as CSV alone, by the name of their file.
        left_out: Sentences on what could not be made.
    """

    records: Records
    text: list[str]
    pictures: dict[str, bytes]
    further: dict[str, Records] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def section(name: str, rows: Sequence[Row], at: int) -> Section:
    """The section of a folder.

    Args:
        name: Begins the names of its files.
        rows: Of the folder.
        at: N for which costs are extrapolated.
    """
    return _sizes(name, Sizes.of(rows), at) if results.differ_in_size(rows) else _papers(name, rows, at)


def _papers(name: str, rows: Sequence[Row], at: int) -> Section:
    text = [
        results.verdict(rows),
        results.provenance(rows),
        f"![PSNR against cost]({name}.png)",
        results.insight(rows),
    ]
    return Section(results.columns(rows, at), text, {f"{name}.png": results.landscape(rows)})


def _sizes(name: str, sizes: Sizes, at: int) -> Section:
    if sizes.differ_in_views:
        charts = {"views": (scaling_figures.views(sizes), "PSNR against the number of training views of a scene")}
    else:
        growth = scaling_figures.growth(sizes, at)
        charts = {
            "quality": (scaling_figures.quality(sizes), "PSNR against the number of scenes in stage 1"),
            "growth": (growth, "Minutes and megabytes of N scenes; rings: no more than the baseline"),
        }
    charts["spread"] = scaling_figures.spread(sizes), "PSNR of each scene, its median and middle half"
    num_charts = len(charts)
    further = {f"{name}-scenes.csv": sizes.scenes(), f"{name}-spread.csv": sizes.spreads()}
    tables, left_out = [results.markdown(sizes.spreads())], []
    try:
        bases = scaling.bases(sizes)
        further |= {f"{name}-bases.csv": bases}
        about = (
            "Effective rank is exp of the entropy of the singular values' shares. The effective number of bases is "
            "that of their use, mean |w| · ‖base‖. PSNR, whole and with a part of every scene left out, is of "
            f"{SCENES} scenes, {VIEWS} views of each."
        )
        tables += [results.markdown(bases), about]
        charts["worst"] = scaling_figures.worst(sizes), "The worst scenes: truth, and what each way renders"
    except UsageError as error:  # the pack is elsewhere: what is measured still stands
        left_out = [f"base planes and the worst scenes: {error}"]
    files = {f"{name}-{chart}.png": png for chart, (png, _) in charts.items()}
    shown = [f"![{title}]({file})" for file, (_, title) in zip(files, charts.values(), strict=True)]
    text = [sizes.provenance(), *shown[:num_charts], *tables, *shown[num_charts:]]
    return Section(sizes.records(at), text, files, further, left_out)
