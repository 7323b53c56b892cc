"""What a phase leaves in the run folder: scenes, quality, costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_modules.base import MultiViewDataModule
from scaled_ig.callbacks.clock import TrainingClock, peak_mebibytes
from scaled_ig.metrics.costs import describe_machine, milliseconds_per_image, row_bytes, shared_bytes
from scaled_ig.metrics.evaluation import PROTOCOL, over_scenes, with_means
from scaled_ig.metrics.nearest_view import add_nearest_views
from scaled_ig.runs.phase_runs import PhaseRun
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel


def write_quality(
    run: RunFolder, data: MultiViewDataModule, phase_run: PhaseRun, scenes: list[dict[str, Any]], seconds: float
) -> None:
    """Put the test views' quality into ``metrics.json`` and ``metrics.csv``, and say it.

    Args:
        run: The run.
        data: Its data.
        phase_run: What was trained.
        scenes: Records of :func:`scaled_ig.metrics.evaluation.per_scene`.
        seconds: Training time of the phase.
    """
    if phase_run.phase == "autoencoder":
        return
    metrics = with_quality(run.read_json("metrics.json"), data, phase_run.stage, scenes)
    run.write_metrics(metrics)
    means = over_scenes(scenes)
    views = means["num_views"]
    print(
        f"{phase_run.phase}: {means['psnr']:.2f} dB on {views} unseen view{'s' * (views != 1)}, {seconds:.1f} s",
        flush=True,
    )


def with_quality(
    metrics: dict[str, Any],
    data: MultiViewDataModule,
    stage: int,
    scenes: list[dict[str, Any]],
    kept: Sequence[str] = ("nearest_view_psnr",),
) -> dict[str, Any]:
    """Content of ``metrics.json`` with a stage measured anew.

    Args:
        metrics: The present content.
        data: The run's data.
        stage: 1 or 2.
        scenes: Records of :func:`scaled_ig.metrics.evaluation.per_scene` on the test views.
        kept: What is taken from the old content, for it cannot have changed; training changes all but the views.
    """
    ids = data.scene_ids(stage)
    old = metrics.get("scenes", [])
    old_values = {
        scene["id"]: {name: scene[name] for name in kept if name in scene} for scene in old if scene["stage"] == stage
    }
    rows = []
    for scene in scenes:
        name = ids[scene["scene"]]
        values = {key: value for key, value in scene.items() if key != "scene"}
        rows.append({"id": name, "stage": stage} | values | old_values.get(name, {}))
    add_nearest_views(rows, ids, data.views(stage), data.split(stage, "train"), data.split(stage, "test"))
    measured = {row["id"] for row in rows}
    other_scenes = [
        scene for scene in old if scene["stage"] != stage or scene["id"] not in measured
    ]  # of other waves too
    everything = sorted(other_scenes + rows, key=lambda scene: scene["stage"])
    return with_means(metrics | {"protocol": PROTOCOL, "scenes": everything})


def write_costs(
    run: RunFolder,
    model: SceneModel,
    phase_run: PhaseRun,
    steps: int,
    clock: TrainingClock,
    ranks: int,
    scene_bytes: dict[str, int],
) -> None:
    """Put what the phase cost into ``costs.json``: of all waves together.

    Args:
        run: The run.
        model: The model.
        phase_run: What was trained.
        steps: Training steps of the phase.
        clock: Its training time.
        ranks: How many there were.
        scene_bytes: Bytes that are kept of a scene, see :func:`scaled_ig.metrics.costs.bytes_per_scene`.
    """
    device = model.background.device
    costs = run.read_json("costs.json")
    phases = costs.setdefault("phases", {})
    waves = phases.get(phase_run.phase, {}).get("waves", {}) if phase_run.wave else {}
    waves[str(phase_run.wave)] = {
        "scenes": model.representation.num_scenes,
        "steps": steps,
        "seconds": clock.seconds,
        "processor_seconds": clock.processor_seconds,
    }
    names = set.intersection(*(set(wave) for wave in waves.values()))  # those of earlier versions have fewer
    totals = {name: sum(wave[name] for wave in waves.values()) for name in sorted(names)}
    phases[phase_run.phase] = {
        "stage": phase_run.stage,
        **totals,
        "seconds_per_scene": totals["seconds"] / totals["scenes"],
        "peak_mebibytes": peak_mebibytes(),
    } | ({"waves": waves} if phase_run.waves > 1 else {})
    costs |= {
        "machine": describe_machine(device) | {"ranks": ranks},
        "bytes_per_scene": scene_bytes,
        "row_bytes": row_bytes(model),
        "shared_bytes": shared_bytes(model),
        "milliseconds_per_image": milliseconds_per_image(model),
    }
    run.write_json("costs.json", costs)
