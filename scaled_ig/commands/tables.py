"""``scaled-ig tables``: the papers' tables from the runs that were made for them."""

from __future__ import annotations

from typing import Literal


def tables(
    folders: list[str],
    *,
    out: str | None = None,
    num_scenes: int = 2000,
    wandb: Literal["auto", "online", "offline", "disabled"] = "disabled",
) -> int:
    """Builds a page of tables from the files of finished runs, and beside it each table as CSV.

    Args:
        folders: Folders with one folder a row, as ``make ablations`` and ``make baselines`` fill them.
        out: The page; ``results.md`` in the first folder unless given.
        num_scenes: N that costs are extrapolated to.
        wandb: Whether the tables also become a run of Weights & Biases.

    Returns:
        Exit code 0.

    Raises:
        UsageError: A folder holds no finished run.
    """
    import csv
    from pathlib import Path

    from scaled_ig.report import results

    page = Path(out) if out else Path(folders[0]) / "results.md"
    parts = ["# Results\n", f"Written by `scaled-ig tables {' '.join(folders)}` from the files of the runs.\n"]
    records = {}
    for folder in folders:
        rows = results.read_rows(Path(folder))
        name = "-".join(Path(folder).parts[-2:])
        records[name] = results.columns(rows, num_scenes)
        table = results.markdown(records[name])
        print(table, results.verdict(rows), sep="\n\n")
        parts += [f"## {name}\n", table + "\n", results.provenance(rows) + "\n", results.verdict(rows) + "\n"]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(part for part in parts if part.strip()))
    for name, own in records.items():
        with (page.parent / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(key for record in own for key in record)))
            writer.writeheader()
            writer.writerows(own)
    if wandb != "disabled":
        _log(page.parent, records, wandb)
    print(f"{page}: {len(records)} table{'s' if len(records) > 1 else ''}, each also as CSV beside it")
    return 0


def _log(folder, records, mode) -> None:
    """The tables as a run of W&B, the same one for the same folder."""
    from wandb import Table

    from scaled_ig.callbacks import RunLogger

    logger = RunLogger(mode=mode)
    logger.belong_to(folder)
    for name, own in records.items():
        heads = list(dict.fromkeys(key for record in own for key in record))
        data = [[record.get(head) for head in heads] for record in own]
        logger.experiment.log({name: Table(columns=[head or "row" for head in heads], data=data)})
    logger.experiment.finish()
