"""``scaled-ig costs``: what the scenes of runs cost, itemised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaled_ig.commands import say_next
from scaled_ig.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ("wall_minutes", "bytes")


def costs(runs: list[str], *, stage1: str | None = None, baseline: str | None = None, out: str | None = None) -> int:
    """Itemises what scenes of runs cost in minutes and bytes, and draws how that grows with their number.

    Prints a table in Markdown. Writes cost_table.json and cost_table.csv, growth.png and growth.csv (t(N) and m(N)),
    landscape.png and landscape.csv (PSNR against minutes and bytes a scene).

    Examples:
        scaled-ig costs runs/mine
        scaled-ig costs runs/mine runs/other --baseline runs/plain --out costs

    Args:
        runs: Folders of finished runs.
        stage1: Run with the stage 1 of those runs that have none, where the one that they began from is gone.
        baseline: Run, such as RGB tri-planes, of which is said from how many scenes on the others cost less.
        out: Folder to write to; the folder costs of the first run unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: A run is not finished, its stage 1 or its bank is gone, or an option has no effect.
    """
    import json
    from pathlib import Path

    from scaled_ig.report import cost_table
    from scaled_ig.report.run_costs import break_even

    folders = list(dict.fromkeys(str(Path(folder)) for folder in [*runs, *([baseline] if baseline else [])]))
    costs_of_runs = _opened(folders, stage1)
    rival = costs_of_runs[folders.index(str(Path(baseline)))] if baseline else None
    if rival is not None and not rival.num_scenes(2):
        raise UsageError(
            f"--baseline {baseline} has no stage 2, so what a further scene costs is not known: name another"
        )
    tables = [one.table() for one in costs_of_runs]
    for one, table in zip(costs_of_runs, tables, strict=True):
        if rival is not None and one is not rival and one.num_scenes(2):
            table["break_even"] = break_even(one, rival)
    target = Path(out) if out else Path(runs[0]) / "costs"
    print(cost_table.markdown(tables))
    target.mkdir(parents=True, exist_ok=True)
    (target / "cost_table.json").write_text(json.dumps({"runs": tables}, indent=1, ensure_ascii=False) + "\n")
    (target / "cost_table.csv").write_text(cost_table.csv_text(tables))
    curves, points = _charted(costs_of_runs)
    _draw(target, curves, points, _most_scenes(costs_of_runs, tables))
    print(f"{target}: cost_table, growth, landscape")
    say_next("report", runs[0])
    return 0


def _most_scenes(costs_of_runs, tables) -> int:
    """How far charts reach: ten times the scenes that there are, and where a run breaks even."""
    even = [table["break_even"][unit]["scenes"] or 0 for table in tables if "break_even" in table for unit in UNITS]
    return max(10 * max(one.num_scenes(1) + one.num_scenes(2) for one in costs_of_runs), *even, 0)


def _opened(folders: list[str], stage1: str | None):
    """Costs of runs, called by the names of their folders, by the whole paths where two have the same."""
    from pathlib import Path

    from scaled_ig.report.run_costs import RunCosts
    from scaled_ig.runs.record import RunRecord

    names = [Path(folder).resolve().name for folder in folders]
    labels = [name if names.count(name) == 1 else folder for name, folder in zip(names, folders, strict=True)]
    records = [RunRecord.open(folder) for folder in folders]
    if stage1 and all(record.phases(1) for record in records):
        raise UsageError("--stage1 has no effect: each of these runs has a stage 1 of its own; leave it out")
    return [RunCosts.of(record, label, stage1) for record, label in zip(records, labels, strict=True)]


def _charted(costs_of_runs):
    """Runs that have a stage 2, as charts show them."""
    from scaled_ig.metrics.accounting import MEGABYTE
    from scaled_ig.report.cost_figures import Curve, Point

    known = [one for one in costs_of_runs if one.num_scenes(2)]
    curves = [Curve(one.label, one.minutes, one.bytes) for one in known]
    points = []
    for one in known:
        costs = (one.minutes.each, one.bytes.each / MEGABYTE)
        n2, psnr = one.num_scenes(2), one.psnr()
        shared_out = (one.minutes.effective(n2), one.bytes.effective(n2) / MEGABYTE)
        points += [Point(one.label, psnr, costs, shared_out)] if psnr is not None else []
    return curves, points


def _draw(folder: Path, curves, points, most: int) -> None:
    """Put the charts and their numbers into a folder, as far as there is something to show."""
    from scaled_ig.report import cost_figures
    from scaled_ig.report.cost_table import csv_lines

    if curves:
        (folder / "growth.png").write_bytes(cost_figures.draw_growth(curves, most))
        head = ["scenes", *(f"{curve.label} / {unit}" for curve in curves for unit in ("minutes", "MB"))]
        rows = [
            [count, *(value for curve in curves for value in curve.at(count) or (None, None))]
            for count in cost_figures.scene_counts(curves, most)
        ]
        (folder / "growth.csv").write_text(csv_lines(head, rows))
    if points:
        dot, ring = "τ, μ: a further scene", "stage 1 shared out over N2"
        (folder / "landscape.png").write_bytes(cost_figures.draw_landscape(points, dot, ring))
        head = ["", "PSNR dB", *(f"{unit} a scene, {how}" for how in (dot, ring) for unit in ("minutes", "MB"))]
        lines = [[point.label, point.psnr, *point.cost, *(point.other or (None, None))] for point in points]
        (folder / "landscape.csv").write_text(csv_lines(head, lines))
