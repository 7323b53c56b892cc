"""Settings with which a run goes on that are not those it was begun with: what may change, and what may not.

A resumed run is the same run. What would change shapes, data, geometry or the meaning of what is trained is refused;
what only tells how long, how fast or where to train takes effect, and is written into ``changes.jsonl``.
"""

from __future__ import annotations

import json
import re
from collections import ChainMap
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scaled_ig.errors import UsageError
from scaled_ig.runs.plan import PHASES
from scaled_ig.runs.run_folder import RunFolder

OF_A_CALL = r"run_dir|resume|config(\..*)?"
"""Say what this call does, not what is trained: they are not compared."""

MAY_CHANGE = (
    r"trainer\.(accelerator|devices|num_nodes|strategy|plugins|logger|callbacks|profiler|log_every_n_steps|enable_progress_bar"
    r"|enable_model_summary|detect_anomaly|deterministic|benchmark)(\..*)?",
    r"data\.init_args\.(path|num_workers|in_memory)",
    r"scene\.(kernel|compile_autoencoder)",
    r"(eval|checkpoint)_every_n_steps|keep_checkpoints|rank_timeout|lpips|lpips_weights|bank_encoding|plateau(\..*)?",
)
"""At any time: where and how fast training runs, what watches it, where the same data lie and how scenes are kept."""

MAY_CHANGE_ON_THE_WAY = (
    r"phases\.\w+\.max_(steps|epochs)",
    r"phases\.\w+\.module\.init_args\.(learning_rates|schedule)(\..*)?",
)
"""Of a phase that has begun and is not finished: its rates, and its length."""


@dataclass(frozen=True)
class Change:
    """A setting that is another one than before.

    Args:
        key: Its name.
        saved: Value that the run was begun with.
        value: Value that is asked for.
    """

    key: str
    saved: Any
    value: Any

    def __str__(self) -> str:
        return f"{self.key.replace('.init_args', '')} {_text(self.saved)} → {_text(self.value)}"

    @property
    def phase(self) -> str | None:
        """The phase that it is a setting of."""
        words = self.key.split(".")
        return words[1] if words[0] == "phases" else None


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Args:
        begun: Names of phases of which a step has been saved.
        finished: Names of phases of which nothing is left to do.
        phase: The phase that is gone on with.
        step: Its steps that are saved.
        epoch: Its epochs that are saved.
    """

    begun: Collection[str]
    finished: Collection[str]
    phase: str
    step: int = 0
    epoch: int = 0


def list_changes(saved: dict[str, Any], settings: dict[str, Any]) -> list[Change]:
    """What differs between two configurations, by key.

    A key that one of them does not have, because it was written by another version, cannot be compared.

    Args:
        saved: Configuration of the run.
        settings: That of the call.
    """
    before, now = flat(saved), flat(settings)
    keys = [key for key in dict.fromkeys([*before, *now]) if not re.fullmatch(OF_A_CALL, key)]
    known = [key for key in keys if _says(before, key) and _says(now, key)]
    return [Change(key, before.get(key), now.get(key)) for key in known if before.get(key) != now.get(key)]


def refuse_changes(run: RunFolder, changes: list[Change], progress: Progress) -> None:
    """Raise UsageError where a run cannot go on with other settings as if it were the same run."""
    refused = [change for change in changes if not _may_change(change, progress)]
    if refused:
        listed = ", ".join(map(str, refused[:6])) + (f" and {len(refused) - 6} more" if len(refused) > 6 else "")
        raise UsageError(
            f"{run.path} was begun with other settings: {listed}; go on with those that its config.yaml has, or give "
            "another --run_dir"
        )
    for change in changes:
        unit = change.key.rpartition("_")[2]
        reached = {"steps": progress.step, "epochs": progress.epoch}.get(unit, 0)
        if change.phase == progress.phase and unit in ("steps", "epochs") and (change.value or reached) < reached:
            raise UsageError(
                f"{change}: {progress.phase} has {reached} {unit} behind it: give as many or more, or another --run_dir"
            )


def log_changes(run: RunFolder, changes: list[Change], progress: Progress) -> None:
    """Say what is another setting from here on, and write it into ``changes.jsonl``."""
    place = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "phase": progress.phase, "step": progress.step}
    lines = [place | {"key": change.key, "saved": change.saved, "value": change.value} for change in changes]
    for change in changes:
        print(f"from step {progress.step} of {progress.phase} on: {change}", flush=True)
    run.append_lines("changes.jsonl", [json.dumps(line) for line in lines])


def _may_change(change: Change, progress: Progress) -> bool:
    if not progress.begun:
        return True
    if change.phase is None:
        return any(re.fullmatch(pattern, change.key) for pattern in MAY_CHANGE)
    if change.phase not in progress.begun:  # nor may it be put between phases that have begun
        return PHASES.index(change.phase) > max(PHASES.index(phase) for phase in progress.begun)
    if change.phase in progress.finished:
        return False
    if ".learning_rates." in change.key and not (change.saved and change.value):
        return False  # a part begins or ends to be trained
    return any(re.fullmatch(pattern, change.key) for pattern in MAY_CHANGE_ON_THE_WAY)


def flat(config: Any, key: str = "") -> dict[str, Any]:
    """Values of a configuration by their dotted keys; classes by their names alone, for modules move."""
    if not isinstance(config, dict) or not config:
        return {key: str(config).rpartition(".")[2] if key.endswith(".class_path") else config}
    parts = [flat(value, f"{key}.{name}" if key else str(name)) for name, value in config.items()]
    return dict(ChainMap(*reversed(parts)))


def _says(values: dict[str, Any], key: str) -> bool:
    """Whether a configuration has a key, or null where it would be."""
    words = key.split(".")
    return any(".".join(words[:end]) in values for end in range(1, len(words) + 1))


def _text(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
