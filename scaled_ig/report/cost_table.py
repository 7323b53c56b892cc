"""Costs of runs as Markdown and CSV, from what ``cost_table.json`` holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scaled_ig.metrics.accounting import MEBIBYTE, MEGABYTE
from scaled_ig.report.page import DASH

Table = dict[str, Any]
"""What :meth:`scaled_ig.report.run_costs.RunCosts.table` gives; with ``break_even`` where there is a baseline."""

TIMES = {"t1": "t1", "tau": "τ, a scene", "t_eff": "t_eff = t1/N2 + τ, a scene"}


def number(value: float | None) -> str:
    """Three digits at least."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.3g}"


def size(count: float | None) -> str:
    """Bytes in MB = 10⁶ bytes and in MiB; few of them as they are."""
    if count is not None and count < MEGABYTE / 100:
        return f"{count:,.0f} bytes"
    return DASH if count is None else f"{number(count / MEGABYTE)} MB ({number(count / MEBIBYTE)} MiB)"


def markdown_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def markdown(tables: Sequence[Table]) -> str:
    """One column a run, one row a cost and an item of it."""
    rows = [*_times(tables), *_bytes(tables), *_disk(tables), *_even(tables)]
    text = markdown_lines(["", *(table["label"] for table in tables)], rows)
    machines = [table[name] for table in tables for name in ("machine", "stage1_machine") if table[name]]
    if any(machine != machines[0] for machine in machines):
        text += "\n\nNot all of this was trained on the same machine: these minutes cannot be compared."
    return text


def _times(tables: Sequence[Table]) -> Iterator[list[str]]:
    yield ["scenes, N1 + N2", *("{n1:,} + {n2:,}".format(**table["num_scenes"]) for table in tables)]
    qualities = [table["psnr_db"] for table in tables]
    yield ["PSNR on unseen views, dB", *(DASH if psnr is None else f"{psnr:.2f}" for psnr in qualities)]
    yield ["trained on", *map(_machine, tables)]
    for unit, title in (("wall_minutes", "wall minutes"), ("gpu_minutes", "GPU-minutes")):
        if any(table[unit] for table in tables):
            for key, name in TIMES.items():
                yield [f"{name}, {title}", *(number((table[unit] or {}).get(key)) for table in tables)]
    for key, name in (("render", "rendering"), ("decode", "decoding")):
        values = [table["milliseconds_per_image"].get(key) for table in tables]
        yield [f"{name}, ms an image (warm, median)", *map(number, values)]


def _machine(table: Table) -> str:
    machine, gpus = table["machine"], table["num_gpus"]
    ranks = machine.get("ranks", 1)
    if not any(gpus.values()):
        return f"{machine.get('name', 'unknown')}, {ranks} × {machine.get('threads', 1)} threads, no GPU took part"
    if len(set(gpus.values())) > 1:
        return f"{gpus['stage1']} and {gpus['stage2']} GPUs (stage 1 and 2), {machine.get('name')}"
    return f"{ranks} × {machine.get('name')}"


def _bytes(tables: Sequence[Table]) -> Iterator[list[str]]:
    yield ["trainable floats a scene", *(f"{table['trainable_floats_per_scene']:,}" for table in tables)]
    yield ["μ, a scene, raw float32", *(size(table["bytes"]["mu"]) for table in tables)]
    for name in _keys(table["bytes_per_scene"] for table in tables):
        yield [f"– {name}", *(size(table["bytes_per_scene"].get(name)) for table in tables)]
    yield ["m1, once, raw float32", *(size(table["bytes"]["m1"]) for table in tables)]
    for name in _keys(items for table in tables for items in table["shared_bytes"].values()):
        yield [f"– {name}", *(_versions(table, name) for table in tables)]
    yield ["– scenes of stage 1", *(size(table["stage1_scene_bytes"]) for table in tables)]
    yield ["m_eff = m1/N2 + μ, a scene", *(size(table["bytes"]["m_eff"]) for table in tables)]
    for stage in (1, 2):
        sums = [sum(table["adam_moment_bytes"][f"stage{stage}"].values()) or None for table in tables]
        yield [f"Adam's moments, in training of stage {stage} alone", *map(size, sums)]


def _keys(items: Iterable[dict[str, int]]) -> list[str]:
    return list(dict.fromkeys(key for item in items for key in item))


def _versions(table: Table, name: str) -> str:
    """A shared part, over all versions that are kept."""
    sizes = [items[name] for items in table["shared_bytes"].values() if name in items]
    return f"{size(sum(sizes))}, versions: {len(sizes)}" if sizes else DASH


def _disk(tables: Sequence[Table]) -> Iterator[list[str]]:
    titles = {
        "records": "records of scenes",
        "shared": "shared parts",
        "index": "index, scene table",
        "other": "others",
    }
    for group, title in titles.items():
        sums = [_on_disk(table, group) for table in tables]
        if any(sums):
            yield [f"on disk: {title}", *(size(total or None) for total in sums)]
    for key, title in (("items", "these items together"), ("files", "files of the bank")):
        yield [f"on disk: {title}", *(size(sum(s[key] for s in table["disk_sums"].values())) for table in tables)]


def _on_disk(table: Table, group: str) -> int:
    banks = table["disk_bytes"].values()
    return sum(sum(items.values()) for bank in banks for name, items in bank.items() if name.partition(" ")[0] == group)


def _even(tables: Sequence[Table]) -> Iterator[list[str]]:
    named = [table["break_even"]["baseline"] for table in tables if "break_even" in table]
    for key, title in (("wall_minutes", "in time"), ("bytes", "in memory")):
        if named:
            yield [f"cheaper than {named[0]} {title}", *(_since(table, key) for table in tables)]


def _since(table: Table, key: str) -> str:
    if "break_even" not in table:
        return DASH
    break_even, once = table["break_even"][key], "t1" if key == "wall_minutes" else "m1"
    scenes, n1 = break_even["scenes"], table["num_scenes"]["n1"]
    when = "at no N" if scenes is None else "from N1 on" if scenes <= n1 else f"from N = {scenes:,} on"
    return f"{when}; {once} is worth {number(break_even['once_worth_scenes'])} scenes of it"


def csv_text(tables: Sequence[Table]) -> str:
    """Every number of the tables: a row a quantity, named by its keys, and a column a run."""
    flat = [dict(_flattened(table)) for table in tables]
    return csv_lines(
        ["quantity", *(table["label"] for table in tables)],
        [[name, *(column.get(name, "") for column in flat)] for name in _keys(flat)],
    )


def csv_lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; what is None is an empty field."""
    stream = io.StringIO()
    csv.writer(stream).writerows([head, *rows])
    return stream.getvalue()


def _flattened(table: Table, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{above}{name} / ")
        else:
            yield f"{above}{name}", value
