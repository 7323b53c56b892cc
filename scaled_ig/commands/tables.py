"""``scaled-ig tables``: the papers' tables from the runs that were made for them."""

from __future__ import annotations

from typing import Annotated, Literal

from scaled_ig.commands import say_next
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Range, checked


@checked
def tables(
    folders: list[str],
    *,
    out: str | None = None,
    num_scenes: Annotated[int, Range(1, 1_000_000_000)] = 2000,
    wandb: Literal["auto", "online", "offline", "disabled"] = "disabled",
) -> int:
    """Builds a page of tables from the files of finished runs; each table also as CSV, and charts of it as PNG.

    Rows whose stages 1 differ in size, as those of ``make scale``, are compared on 100 scenes of stage 2 that all of
    them learned, and get further charts and the worst ten scenes.

    Examples:
        scaled-ig tables runs/ablations/demo --out results.md

    Args:
        folders: Folders with one folder a row, as ``make ablations``, ``make baselines`` and ``make scale`` fill them.
        out: The page, NAME.md, whose tables and charts are put into NAME; ``results.md`` in the first folder unless
            given.
        num_scenes: N that costs are extrapolated to.
        wandb: Whether the tables also become a run of Weights & Biases.

    Returns:
        Exit code 0.

    Raises:
        UsageError: A folder holds no finished run, runs of one folder learned different scenes, or two folders have
            the same name.
    """
    from pathlib import Path

    from scaled_ig.report import results, table_sections
    from scaled_ig.report.cost_table import csv_lines

    page = Path(out) if out else Path(folders[0]) / "results.md"
    rows_by_folder = {
        "-".join(Path(folder).resolve().parts[-2:]): results.read_rows(Path(folder)) for folder in folders
    }
    headings = dict(zip(rows_by_folder, map(results.heading, map(Path, folders)), strict=False))
    if len(rows_by_folder) < len(folders):
        raise UsageError("two of the folders have the same name, and so would their tables: give each once")
    beside = page.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Results",
        f"`scaled-ig tables {' '.join(folders)}` wrote this page from the files of the runs.",
        results.LEGEND,
    ]
    records = {}
    for name, (rows, left_out) in rows_by_folder.items():
        section = table_sections.section(name, rows, num_scenes)
        for sentence in [*left_out, *section.left_out]:
            print(f"left out: {sentence}")
        records[name], table = section.records, results.markdown(section.records)
        print(table, section.text[0], sep="\n\n")
        text = [part.replace("](", f"]({beside.name}/") if part.startswith("![") else part for part in section.text]
        parts += [f"## {headings[name]}", table, *text]
        for file, png in section.pictures.items():
            (beside / file).write_bytes(png)
        for file, kept in {f"{name}.csv": section.records, **section.further}.items():
            heads = results.names(kept)
            (beside / file).write_text(csv_lines(heads, [[record.get(head) for head in heads] for record in kept]))
    page.write_text("\n\n".join(filter(None, parts)) + "\n")
    if wandb != "disabled":
        _log(page.parent, records, wandb)
    print(f"{page}: {len(records)} table{'s' if len(records) > 1 else ''}, each also as CSV, with charts, in {beside}")
    first_rows, _ = next(iter(rows_by_folder.values()))
    say_next("report", str(first_rows[0].runs[0].folder.path))
    return 0


def _log(folder, records, mode) -> None:
    """The tables as a run of W&B, the same one for the same folder."""
    from wandb import Table

    from scaled_ig.callbacks import RunLogger
    from scaled_ig.report import results

    logger = RunLogger(mode=mode)
    logger.belong_to(folder)
    for name, own in records.items():
        heads = results.names(own)
        data = [[record.get(head) for head in heads] for record in own]
        logger.experiment.log({name: Table(columns=[head or "row" for head in heads], data=data)})
    logger.experiment.finish()
