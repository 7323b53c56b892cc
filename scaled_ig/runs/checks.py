"""What is wrong with a plan, said before anything is written."""

from __future__ import annotations

import math
from typing import Any

from data_modules.base import MultiViewDataModule
from data_modules.streaming.memory import available_bytes
from scaled_ig.bank.description import describe
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.phases import AdamSettings, RunSettings
from scaled_ig.representations import PlaneRepresentation
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES, HandOver, PhaseConfig, Waves, stage_of
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.scene_model import SceneModel

AT_ONCE = Waves()


def check_phases(phases: dict[str, PhaseConfig], model: SceneModel, data: MultiViewDataModule) -> None:
    """Raise UsageError where a phase, its batch or the pack cannot do what is asked."""
    if not phases:
        raise UsageError(f"this configuration has no phase: give one of phases.{{{','.join(PHASES)}}}")
    height, width = data.index.image_size
    if (height, width) != model.image_size:
        right = height if height == width else f"'[{height}, {width}]'"
        raise UsageError(
            f"{data.path} has views of {height}×{width} pixels, the model is made for "
            f"{model.image_size[0]}×{model.image_size[1]}: give --scene.resolution {right}, or pack with --resolution"
        )
    for name, phase in phases.items():
        if bool(phase.max_epochs) == bool(phase.max_steps):
            raise UsageError(f"phases.{name} needs either max_epochs or max_steps: set the other one to null")
        module = phase.module(model, RunSettings())  # which says what it lacks
        if not any(parameters for part, parameters in module.parts().items() if part in module.trained):
            rates = ", ".join(module.trains)
            raise UsageError(f"phases.{name} trains nothing: all its rates ({rates}) are 0; set it to null instead")
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


def check_hand_over(hand_over: HandOver, model: SceneModel) -> None:
    """Raise UsageError where scenes cannot start from their views."""
    if not hand_over.scene_views:
        return
    if not isinstance(model.representation, PlaneRepresentation):
        raise UsageError(
            f"hand_over.scene_views needs planes, which {type(model.representation).__name__} does not have: set it to "
            "false"
        )
    missing = [name for name in ("scene_mean", "head", "bases") if not getattr(hand_over, name)]
    if missing:
        raise UsageError(f"hand_over.scene_views needs hand_over.{missing[0]}: set both to true, or it to false")


def check_memory(stages: set[int], model: SceneModel, data: MultiViewDataModule, waves: Waves) -> None:
    """Raise UsageError where the parameters of this rank's scenes have no room, moments of the optimiser left aside."""
    tables = model.representation.scene_tables().values()
    scene_bytes = sum(math.prod(table.row_shape) * table.weight.element_size() for table in tables)
    for stage in stages:
        count = len(data.own_scenes(stage))
        count = min(count, waves.scenes or count) if stage == 2 else count
        room = available_bytes()
        if count * scene_bytes > room:
            raise UsageError(
                f"{count} scenes of stage {stage} take {count * scene_bytes / 1e9:.1f} GB, and {room / 1e9:.1f} GB of "
                f"memory are free: lower --data.stage{stage}_scenes, or make scene.representation smaller"
            )


def check_plateau(val_fraction: float, adam: AdamSettings) -> None:
    """Raise UsageError where nothing would tell that a scene is learned, or it would go on moving."""
    if not val_fraction:
        raise UsageError("plateau needs views that are watched: give --data.val_fraction, or plateau: null")
    if adam.clock != "per_scene":
        raise UsageError("plateau needs --adam.clock per_scene: dense Adam moves scenes that are left out of batches")


def check_stage1(
    source: RunFolder, phases: dict[str, PhaseConfig], model: SceneModel, data: MultiViewDataModule
) -> None:
    """Raise UsageError where stage 2 cannot start from the run ``source``."""
    if any(stage_of(name) == 1 for name in phases):
        raise UsageError("init_from brings a finished stage 1: leave it out, or set the phases of stage 1 to null")
    _refuse_unfinished(source)
    _refuse_another_model(source, model)
    _refuse_leaks(source, data)


def _refuse_unfinished(source: RunFolder) -> None:
    configs = source.read_config().get("phases") or {}
    names = [name for name in STAGE1_PHASES if configs.get(name)]
    if not names:
        raise UsageError(f"{source.path} has no phase of stage 1: give another run with --init_from")
    last = source.checkpoint(names[-1])
    if not last.is_file():
        raise UsageError(f"stage 1 of {source.path} is not finished, {last} is missing: go on with --resume true")


def _refuse_another_model(source: RunFolder, model: SceneModel) -> None:
    """What is handed over must mean the same here: planes of another cube would load all the same."""
    source_model, this_model = finished_stage1(source).versions["stage1"].model, describe(model)
    parts = source_model["representation"], this_model["representation"]
    source_part, this_part = ({"class": part["class"], **part["arguments"]} for part in parts)
    keys = sorted({*source_part, *this_part} - {"plane_std", "mixing_std", "seed"})
    changes = [
        f"{key} ({source_part.get(key)} there, {this_part.get(key)} here)"
        for key in keys
        if source_part.get(key) != this_part.get(key)
    ]
    for key, older in (("resolution", None), ("hidden_channels", None), ("own_heads", False)):
        if source_model.get(key, older) != this_model[key]:
            changes.append(f"{key} ({source_model.get(key, older)} there, {this_model[key]} here)")
    if changes:
        raise UsageError(
            f"stage 1 of {source.path} was trained with another scene model: give the same {', '.join(changes)}"
        )


def scenes_of(data: MultiViewDataModule, phases: dict[str, PhaseConfig], waves: Waves = AT_ONCE) -> dict[str, Any]:
    """Content of ``scenes.json``: which scenes the stages train, by id, with the digests of their views and cameras.

    ``waves`` there is how many scenes of stage 2 each wave has.
    """
    stages = sorted({stage_of(name) for name in phases})
    digests_by_stage = {f"stage{s}": dict(zip(data.scene_ids(s), data.scene_digests(s), strict=True)) for s in stages}
    sizes: dict[str, Any] = {}
    if "stage2" in digests_by_stage:
        sizes["waves"] = list(map(len, waves.ranges(len(digests_by_stage["stage2"]))))
        if len(sizes["waves"]) > 1:
            sizes["waves.shared"] = waves.shared
    return {"pack": str(data.path), "split": data.index.split_rule, **digests_by_stage, **sizes}


def refuse_other_scenes(run: RunFolder, scenes: dict[str, Any]) -> None:
    """Raise UsageError where a run that is to go on was begun with other scenes or another split of their views."""
    begun = run.read_json("scenes.json")
    # Planes belong to places in the list: its order counts.
    current = {key: list(value.items()) if isinstance(value, dict) else value for key, value in scenes.items()}
    saved = {key: list(value.items()) if isinstance(value, dict) else value for key, value in begun.items()}
    changed = [key for key in saved if key != "pack" and saved[key] != current.get(key)]
    if changed == ["waves"]:
        raise UsageError(
            f"{run.path} was begun with waves of {saved['waves'][-1]} scenes, not of "
            f"{(current.get('waves') or [0])[-1]}: give the same --waves.scenes, or another --run_dir"
        )
    if changed in (["shared"], ["waves.shared"]):
        raise UsageError(
            f"{run.path} was begun with {changed[0]} {saved[changed[0]]}, not {current.get(changed[0])}: go on as it "
            "was begun, or remove the folder"
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
    stage1_digests = {record.source_sha256 for record in SceneBank.open(source.bank).scenes("stage1")}
    again = stage1_digests & set(data.scene_digests(2))
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
