"""What loggers are told of a run beside its training: where phases begin, what they came to, what scenes cost."""

from __future__ import annotations

from typing import Any

from scaled_ig.callbacks import Beginning, RunLog
from scaled_ig.metrics.accounting import Growth
from scaled_ig.runs.phase_runs import PhaseRun
from scaled_ig.runs.plan import PHASES, stage_of
from scaled_ig.runs.run_folder import RunFolder

CURVE_SCENES = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
"""Numbers of scenes for which costs are told."""


def beginning(run: RunFolder, phase_run: PhaseRun, before: list[PhaseRun], scenes: int, batches: int) -> Beginning:
    """Where a phase run begins on the axes of its run.

    Args:
        run: Whose ``costs.json`` knows what came before.
        phase_run: Which begins.
        before: All phase runs before it.
        scenes: That it trains.
        batches: Global batches of a step.
    """
    phases = run.read_json("costs.json").get("phases", {})
    spent = [_spent(phases, earlier) for earlier in before]
    views, by_set = 0, dict[tuple[int, int], int]()
    for earlier, cost in zip(before, spent, strict=True):
        views += (earlier.config.batch_size or 0) * cost.get("steps", 0)
        by_set[earlier.stage, earlier.wave] = cost.get("scenes", 0)
    by_set[phase_run.stage, phase_run.wave] = scenes
    return Beginning(
        phase=1 + PHASES.index(phase_run.phase),
        steps=sum(cost.get("steps", 0) for cost in spent),
        seconds=sum(cost.get("seconds", 0.0) for cost in spent),
        images=batches * views,
        scenes=sum(by_set.values()),
        images_per_step=batches * (phase_run.config.batch_size or 0),
    )


def _spent(phases: dict[str, Any], phase_run: PhaseRun) -> dict[str, Any]:
    phase = phases.get(phase_run.phase, {})
    return phase.get("waves", {}).get(str(phase_run.wave), {}) if phase_run.waves > 1 else phase


def results(run: RunFolder, phase: str) -> dict[str, float]:
    """Numbers that a phase leaves: ``quality/<split>/*`` of ``metrics.json`` and ``cost/*`` of ``costs.json``."""
    metrics, costs = run.read_json("metrics.json"), run.read_json("costs.json")
    numbers = {
        f"quality/{split}/{name}": value
        for split in ("s1", "s2", "all")
        for name, value in metrics.get(split, {}).items()
    }
    spent = costs["phases"][phase]
    numbers |= {f"cost/{name}": spent[name] for name in ("seconds_per_scene", "peak_mebibytes")}
    numbers |= {f"cost/{name}": sum(costs[name].values()) for name in ("bytes_per_scene", "shared_bytes")}
    numbers |= {f"cost/milliseconds_{name}": value for name, value in costs["milliseconds_per_image"].items()}
    return {name: value for name, value in numbers.items() if value is not None}


def cost_curve(run: RunFolder, stage1: RunFolder | None = None) -> list[dict[str, float]]:
    """Seconds and bytes of a scene against the number of scenes: what is spent once is shared out (method 8).

    Args:
        run: The run; without stage 2 there is no curve.
        stage1: Where its stage 1 was trained, if elsewhere.
    """
    costs = run.read_json("costs.json")
    earlier = stage1.read_json("costs.json").get("phases", {}) if stage1 else {}
    phases = {name: phase for name, phase in {**earlier, **costs["phases"]}.items() if name in PHASES}
    once = [phase for name, phase in phases.items() if stage_of(name) == 1]
    each = [phase for name, phase in phases.items() if stage_of(name) == 2]
    if not each:
        return []
    seconds_each = sum(phase["seconds_per_scene"] for phase in each)
    seconds = Growth(sum(phase["seconds"] for phase in once), seconds_each, max((p["scenes"] for p in once), default=0))
    size = Growth(sum(costs["shared_bytes"].values()), sum(costs["bytes_per_scene"].values()))
    return [
        {"scenes": count, "seconds a scene": seconds.at(count) / count, "bytes a scene": size.at(count) / count}
        for count in CURVE_SCENES
        if count >= max(seconds.first, 1)
    ]


def log_end(log: RunLog, run: RunFolder, stage1: RunFolder | None) -> None:
    """The curves of the costs, once all phases are done."""
    rows = cost_curve(run, stage1)
    for name in ("seconds", "bytes") if rows else ():
        log.log_curve(f"cost/{name}", rows, "scenes", f"{name} a scene")
