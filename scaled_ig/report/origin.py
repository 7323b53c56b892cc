"""Where a run came from, and the commands that make it, its page, and something of its bank again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.base import MultiViewDataModule
from scaled_ig.allowed import PACKAGES
from scaled_ig.runs.provenance import UNKNOWN, read_provenance
from scaled_ig.runs.record import RunRecord


def origin(run: RunRecord, data: MultiViewDataModule) -> dict[str, Any]:
    """What trained the run, and on what; of a run that was gone on with, by the last call and by all before it.

    Args:
        run: The run.
        data: The views that it was trained on, wherever they lie now.
    """
    calls = read_provenance(run.folder)
    last = calls[-1] if calls else {}
    return {
        "commits": list(dict.fromkeys(call.get("commit", UNKNOWN) for call in calls)) or [UNKNOWN],
        "versions": last.get("versions") or {"torch": run.costs.get("machine", {}).get("torch", UNKNOWN)},
        "system": last.get("system", UNKNOWN),
        "machine": _machine(run),
        "seed": run.config.get("seed_everything"),
        "pack": str(data.index.path.resolve()),
        "pack_sha256": data.index.document["sha256"],
        "calls": len(calls),
        "changed": (run.folder.path / "changes.jsonl").is_file(),
        "bank": str(run.folder.bank.resolve()),
    }


def repeat_command(run: RunRecord, data: MultiViewDataModule) -> str:
    """What trains the run once more, into a folder beside it, from wherever it is called."""
    folder = run.folder.path.resolve()
    words = ["scaled-ig", "fit", "--config", f"{folder}/config.yaml", "--data.path", str(data.index.path.resolve())]
    words += ["--run_dir", f"{folder}-again", "--resume", "false"]
    for package in sorted(set(_packages(run.config)) - set(PACKAGES)):
        words += ["--allow-package", package]
    calls = read_provenance(run.folder)
    directory = calls[-1].get("directory", "") if calls else ""  # where relative paths of the configuration begin
    there = ["cd", directory, "&&"] if directory and Path(directory).is_dir() else []
    return " ".join(word if word == "&&" else shlex.quote(word) for word in there + words)


def page_command(run: RunRecord, options: dict[str, str | None], compare: list[str], pack: str | None) -> str:
    """What writes the page once more.

    Args:
        run: The run.
        options: Paths of the call, by option.
        compare: Further runs, each LABEL=RUN.
        pack: Where the views are, if no longer where the run read them.
    """
    words = ["scaled-ig", "report", str(run.folder.path.resolve())]
    for option, value in (options | {"--pack": pack}).items():
        words += [option, str(Path(value).resolve())] if value else []
    for pair in compare:
        label, _, folder = pair.partition("=")
        words += ["--compare", f"{label}={Path(folder).resolve()}"]
    return shlex.join(words)


def bank_commands(run: RunRecord) -> list[str]:
    """What can be done with the scenes."""
    bank, scene = str(run.folder.bank.resolve()), run.bank.ids[-1]
    return [
        shlex.join(["scaled-ig", "bank", "info", bank]),
        shlex.join(["scaled-ig", "bank", "verify", bank]),
        shlex.join(["scaled-ig", "render", bank, "--scenes", scene, "--out", "orbit.mp4"]),
    ]


def _packages(config: Any) -> Iterator[str]:
    """Packages of the classes that a configuration names."""
    if isinstance(config, dict):
        path = config.get("class_path")
        if isinstance(path, str) and "." in path:
            yield path.partition(".")[0]
        for value in config.values():
            yield from _packages(value)
    elif isinstance(config, list):
        for value in config:
            yield from _packages(value)


def _machine(run: RunRecord) -> str:
    machine = run.costs.get("machine", {})
    ranks, threads = machine.get("ranks", 1), machine.get("threads", UNKNOWN)
    device = machine.get("name") or machine.get("device", UNKNOWN)
    return f"{device}, {ranks} process{'es' if ranks > 1 else ''} of {threads} thread{'s' if threads != 1 else ''}"
