"""What is wrong with a plan, said before anything is written."""

from __future__ import annotations

from typing import Any

import yaml

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.description import describe
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.phases import AdamSettings, RunSettings
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES, PhaseConfig, Waves, stage_of
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel

AT_ONCE = Waves()


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
        module = phase.module(scene, RunSettings())  # which says what it lacks
        if not any(parameters for part, parameters in module.parts().items() if part in module.trained):
            raise UsageError(f"phases.{name} trains nothing: all its learning rates are 0; set it to null instead")
        if getattr(module, "decoder", None) == "small" and "joint" in phases and "distillation" not in phases:
            raise UsageError(
                f"phases.{name} goes through the small decoder, which nothing has trained: add phases.distillation "
                "(experiments/presets/small_decoder.yaml)"
            )
        if not all(data.split(stage_of(name), "test")):
            raise UsageError(
                f"{data.path}: a scene of stage {stage_of(name)} has no test view: it needs 10 views, or a pack made "
                "with --split every_tenth"
            )


def check_plateau(val_fraction: float, adam: AdamSettings) -> None:
    """Raise UsageError where nothing would tell that a scene is learned, or it would go on moving."""
    if not val_fraction:
        raise UsageError("plateau needs views that are watched: give --data.val_fraction, or plateau: null")
    if adam.clock != "per_scene":
        raise UsageError("plateau needs --adam.clock per_scene: dense Adam moves scenes that are left out of batches")


def check_stage1(
    source: RunFolder, phases: dict[str, PhaseConfig], scene: SceneModel, data: MultiViewDataModule
) -> None:
    """Raise UsageError where stage 2 cannot start from the run ``source``."""
    if any(stage_of(name) == 1 for name in phases):
        raise UsageError("init_from brings a finished stage 1: leave it out, or set the phases of stage 1 to null")
    _refuse_unfinished(source)
    _refuse_another_model(source, scene)
    _refuse_leaks(source, data)


def _refuse_unfinished(source: RunFolder) -> None:
    asked = yaml.safe_load((source.path / "config.yaml").read_text())["phases"]
    last = source.checkpoint([name for name in STAGE1_PHASES if asked.get(name)][-1])
    if not last.is_file():
        raise UsageError(f"stage 1 of {source.path} is not finished, {last} is missing: go on with --resume true")


def _refuse_another_model(source: RunFolder, scene: SceneModel) -> None:
    """What is handed over must mean the same here: planes of another cube would load all the same."""
    theirs, ours = finished_stage1(source).versions["stage1"].model, describe(scene)
    parts = theirs["representation"], ours["representation"]
    there, here = ({"class": part["class"], **part["arguments"]} for part in parts)
    keys = sorted({*there, *here} - {"plane_std", "mixing_std", "seed"})
    changes = [
        f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in keys if there.get(key) != here.get(key)
    ]
    for key, older in (("resolution", None), ("hidden_channels", None), ("own_heads", False)):
        if theirs.get(key, older) != ours[key]:
            changes.append(f"{key} ({theirs.get(key, older)} there, {ours[key]} here)")
    if changes:
        raise UsageError(
            f"stage 1 of {source.path} was trained with another scene model: give the same {', '.join(changes)}"
        )


def scenes_of(data: MultiViewDataModule, phases: dict[str, PhaseConfig], waves: Waves = AT_ONCE) -> dict[str, Any]:
    """Content of ``scenes.json``: which scenes the stages train, by id, with the digests of their views and cameras.

    ``waves`` there is how many scenes of stage 2 each wave has.
    """
    stages = sorted({stage_of(name) for name in phases})
    chosen = {f"stage{s}": dict(zip(data.scene_ids(s), data.scene_digests(s), strict=True)) for s in stages}
    sizes: dict[str, Any] = {}
    if "stage2" in chosen:
        sizes["waves"] = list(map(len, waves.ranges(len(chosen["stage2"]))))
        if len(sizes["waves"]) > 1:
            sizes["waves.shared"] = waves.shared
    return {"pack": str(data.path), "split": data.index.split_rule, **chosen, **sizes}


def refuse_other_scenes(run: RunFolder, scenes: dict[str, Any]) -> None:
    """Raise UsageError where a run that is to go on was begun with other scenes or another split of their views."""
    begun = run.read_json("scenes.json")
    # Planes belong to places in the list: its order counts.
    now = {key: list(value.items()) if isinstance(value, dict) else value for key, value in scenes.items()}
    then = {key: list(value.items()) if isinstance(value, dict) else value for key, value in begun.items()}
    changed = [key for key in then if key != "pack" and then[key] != now.get(key)]
    if changed == ["waves"]:
        raise UsageError(
            f"{run.path} was begun with waves of {then['waves'][-1]} scenes, not of {(now.get('waves') or [0])[-1]}: "
            "give the same --waves.scenes, or another --run_dir"
        )
    if changed in (["shared"], ["waves.shared"]):
        raise UsageError(
            f"{run.path} was begun with {changed[0]} {then[changed[0]]}, not {now.get(changed[0])}: go on as it was "
            "begun, or remove the folder"
        )
    if changed:
        raise UsageError(
            f"{run.path} was begun with another {changed[0]} (its scenes.json lists it): restore the pack and the data "
            "settings, or give another --run_dir"
        )


def check_visible(run: RunFolder) -> None:
    """Raise UsageError on a rank that does not see what the first one has written."""
    if not (run.path / "scenes.json").is_file():
        raise UsageError(f"{run.path} of the first rank is not seen by all: give a --run_dir on storage that all share")


def _refuse_leaks(source: RunFolder, data: MultiViewDataModule) -> None:
    """Stage 2 must not learn scenes that stage 1 has seen."""
    seen = {record.source_sha256 for record in SceneBank.open(source.bank).scenes("stage1")}
    again = seen & set(data.scene_digests(2))
    if again:
        raise UsageError(
            f"{len(again)} scenes of stage 2 were trained in stage 1 of {source.path}: "
            "give the same --data.stage1_scenes and --data.split_seed"
        )


def finished_stage1(run: RunFolder) -> SceneBank:
    """The bank of a stage-1 run.

    Raises:
        UsageError: It is no run of stage 1.
    """
    try:
        bank = SceneBank.open(run.bank)
    except UsageError:
        bank = None
    if bank is None or "stage1" not in bank.versions:
        raise UsageError(
            f"{run.path} is no run with a finished stage 1: train it with scaled-ig fit --config "
            f"experiments/stage1.yaml --run_dir {run.path}, or give another run with --init_from"
        )
    return bank
