"""What is wrong with a plan, said before anything is written."""

from __future__ import annotations

from typing import Any

from data_modules.base import MultiViewDataModule
from scaled_ig.commands.plan import PHASES, PhaseConfig, stage_of
from scaled_ig.description import describe
from scaled_ig.errors import UsageError
from scaled_ig.run_folder import RunFolder
from scaled_ig.scene_bank import SceneBank
from scaled_ig.scene_model import SceneModel


def check_phases(phases: dict[str, PhaseConfig], scene: SceneModel, data: MultiViewDataModule) -> None:
    """Raise UsageError where a phase, its batch or the pack cannot do what is asked."""
    if not phases:
        raise UsageError(f"this configuration has no phase: give one of phases.{{{','.join(PHASES)}}}")
    height, width = data.index.image_size
    if (height, width) != (scene.resolution, scene.resolution):
        raise UsageError(
            f"{data.path} has views of {height}×{width} pixels, the model is made for "
            f"{scene.resolution}×{scene.resolution}: give --scene.resolution or pack with --resolution"
        )
    for name, phase in phases.items():
        if bool(phase.max_epochs) == bool(phase.max_steps):
            raise UsageError(f"phases.{name} needs either max_epochs or max_steps: set the other one to null")
        data.sampler(stage_of(name), phase.batch_size or data.batch_size, phase.views_per_scene or data.views_per_scene)
        if not all(data.split(stage_of(name), "test")):
            raise UsageError(
                f"{data.path}: a scene of stage {stage_of(name)} has no test view: it needs 10 views, or a pack made "
                "with --split every_tenth"
            )


def check_stage1(
    source: RunFolder, phases: dict[str, PhaseConfig], scene: SceneModel, data: MultiViewDataModule
) -> None:
    """Raise UsageError where stage 2 cannot start from the run ``source``."""
    if any(stage_of(name) == 1 for name in phases):
        raise UsageError("init_from brings a finished stage 1: leave it out, or set the phases of stage 1 to null")
    _refuse_another_model(source, scene)
    _refuse_leaks(source, data)


def _refuse_another_model(source: RunFolder, scene: SceneModel) -> None:
    """What is handed over must mean the same here: planes of another cube would load all the same."""
    theirs, ours = stage1_description(source), describe(scene)
    parts = theirs["representation"], ours["representation"]
    there, here = ({"class": part["class"], **part["arguments"]} for part in parts)
    keys = sorted({*there, *here} - {"plane_std", "mixing_std", "seed"})
    changes = [
        f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in keys if there.get(key) != here.get(key)
    ]
    if theirs["resolution"] != ours["resolution"]:
        changes.append(f"resolution ({theirs['resolution']} there, {ours['resolution']} here)")
    if changes:
        raise UsageError(
            f"stage 1 of {source.path} was trained with another scene model: give the same {', '.join(changes)}"
        )


def scenes_of(data: MultiViewDataModule, phases: dict[str, PhaseConfig]) -> dict[str, Any]:
    """Content of ``scenes.json``: which scenes the stages train, by id, with the digests of their views and cameras."""
    stages = sorted({stage_of(name) for name in phases})
    chosen = {f"stage{s}": dict(zip(data.scene_ids(s), data.scene_digests(s), strict=True)) for s in stages}
    return {"pack": str(data.path), "split": data.index.split_rule, **chosen}


def refuse_other_scenes(run: RunFolder, scenes: dict[str, Any]) -> None:
    """Raise UsageError where a run that is to go on was begun with other scenes or another split of their views."""
    begun = run.read_json("scenes.json")
    # Planes belong to places in the list: its order counts.
    now = {key: list(value.items()) if isinstance(value, dict) else value for key, value in scenes.items()}
    then = {key: list(value.items()) if isinstance(value, dict) else value for key, value in begun.items()}
    changed = [key for key in then if key != "pack" and then[key] != now.get(key)]
    if changed:
        raise UsageError(
            f"{run.path} was begun with another {changed[0]} (its scenes.json lists it): restore the pack and the data "
            "settings, or give another --run_dir"
        )


def _refuse_leaks(source: RunFolder, data: MultiViewDataModule) -> None:
    """Stage 2 must not learn scenes that stage 1 has seen."""
    records = SceneBank.open(source.bank).index["scenes"]
    seen = {record["source_sha256"] for record in records if record["version"] == "stage1"}
    again = seen & set(data.scene_digests(2))
    if again:
        raise UsageError(
            f"{len(again)} scenes of stage 2 were trained in stage 1 of {source.path}: "
            "give the same --data.stage1_scenes and --data.split_seed"
        )


def stage1_description(run: RunFolder) -> dict[str, Any]:
    """How the model of a stage-1 run is built; see :mod:`scaled_ig.description`.

    Raises:
        UsageError: It is no run of stage 1.
    """
    try:
        return SceneBank.open(run.bank).index["versions"]["stage1"]["model"]
    except (UsageError, KeyError):
        raise UsageError(
            f"{run.path} is no run with a finished stage 1: train it with scaled-ig fit --config "
            f"experiments/stage1.yaml --run_dir {run.path}, or give another run with --init_from"
        ) from None
