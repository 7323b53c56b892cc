"""What W&B wrote offline, read back: the public reader of its files prints text alone."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2


def frames_of(path: Path) -> Iterator[bytes]:
    """Records of a W&B file: a header of 7 bytes, then LevelDB's log frames in blocks of 32 KiB."""
    raw = path.read_bytes()
    assert raw[:4] == b":W&B"
    position, whole = 7, b""
    while position + 7 <= len(raw):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", raw[position : position + 7])
        if kind == 0 and length == 0:
            break
        part = raw[position + 7 : position + 7 + length]
        position += 7 + length
        if len(part) < length:  # of a process that was killed
            break
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            yield whole


def records_of(path: Path, is_finished: bool = True) -> list[wandb_internal_pb2.Record]:
    """Records of a run; where it was finished, W&B's process may write the last ones a little later."""
    for _ in range(120):
        records = [wandb_internal_pb2.Record.FromString(frame) for frame in frames_of(path)]
        if not is_finished or any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.5)
    return records


def files_of(folder: Path) -> list[Path]:
    """W&B's files below a folder, one for each process that logged, in their order."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.parent.name)


def history(path: Path, is_finished: bool = True) -> list[dict[str, Any]]:
    """Rows that were logged, in their order."""
    rows = []
    for record in records_of(path, is_finished):
        if record.WhichOneof("record_type") == "history":
            rows.append(_nested(record.history.item))
    return rows


def config(path: Path) -> dict[str, Any]:
    """The configuration that was logged."""
    config: dict[str, Any] = {}
    for record in records_of(path):
        if record.WhichOneof("record_type") == "run":
            config |= _nested(record.run.config.update)
        if record.WhichOneof("record_type") == "config":
            config |= _nested(record.config.update)
    return config


def run_of(path: Path) -> wandb_internal_pb2.RunRecord:
    """Id, names, group, tags and job type."""
    return next(
        record.run for record in records_of(path, is_finished=False) if record.WhichOneof("record_type") == "run"
    )


def summary(path: Path) -> dict[str, Any]:
    """The last value of each key."""
    values: dict[str, Any] = {}
    for row in history(path):
        values |= row
    return values


def media(path: Path, entry: dict[str, Any]) -> Path:
    """File of a picture or film that was logged."""
    return path.parent / "files" / (entry["path"] if "path" in entry else entry["filenames"][0])


def artifacts(path: Path, kind: str) -> list[dict[str, Path]]:
    """Files of each artifact of a kind, by their names in it."""
    records = [record.artifact for record in records_of(path) if record.WhichOneof("record_type") == "artifact"]
    return [
        {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
        for artifact in records
        if artifact.type == kind
    ]


def tables(path: Path, key: str) -> list[list[dict[str, Any]]]:
    """Rows of each table that was logged; pictures are files."""
    logged = []
    for files in artifacts(path, "run_table"):
        if f"{key}.table.json" in files:
            table = json.loads(files[f"{key}.table.json"].read_text())
            cells = [[files[cell["path"]] if isinstance(cell, dict) else cell for cell in row] for row in table["data"]]
            logged.append([dict(zip(table["columns"], row, strict=True)) for row in cells])
    return logged


def _nested(items) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = row
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)
    return row
