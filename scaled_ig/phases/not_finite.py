"""What a phase would save and is not finite, and what it says then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scaled_ig.finite import names_not_finite, rows_not_finite
from scaled_ig.phases.checkpoint_files import last_checkpoint
from scaled_ig.phases.saved_rows import Place

_NAMED = 5


def parts_not_finite(
    state: dict[str, Any], places: Sequence[Place], scene_ids: Callable[[], Sequence[str]]
) -> list[str]:
    """Scenes of this rank and shared parts that are not finite, in words.

    Args:
        state: ``state_dict`` and ``optimizer_states`` of a checkpoint, with the rows of this rank.
        places: All rows in it.
        scene_ids: Makes the ids of all scenes.
    """
    tables: dict[str, list[int]] = {}
    for place in places:
        rows = rows_not_finite(place.rows.detach())
        if rows:
            first = place.table.owned.start
            tables[place.name.removeprefix("scene.representation.")] = [first + row for row in rows]
    row_keys = {place.key for place in places if place.container is state["state_dict"]}
    shared = {name.removeprefix("scene."): value for name, value in state["state_dict"].items() if name not in row_keys}
    for saved in state["optimizer_states"]:
        for group in saved["param_groups"]:
            for number, key in enumerate(group["params"] if not group["rows"] else ()):
                moments = saved["state"].get(key, {}).items()
                shared |= {f"{group['name']}.{number}.{slot}": value for slot, value in moments}
    scenes = sorted({scene for rows in tables.values() for scene in rows})
    scene_parts = [f"{name_scenes(scenes, scene_ids())} ({', '.join(tables)})"] if scenes else []
    return scene_parts + shorten(names_not_finite(shared))


def name_scenes(
    scenes: Collection[int], ids: Sequence[str], views: Mapping[int, Sequence[int]] = MappingProxyType({})
) -> str:
    """Scenes in words: their ids, the first of them where they are many.

    Args:
        scenes: Places in the list of ids.
        ids: Of all scenes.
        views: Of each scene, where it matters which.
    """
    word = "scene" if len(scenes) == 1 else "scenes"
    named = (repr(ids[scene]) + _name_views(views.get(scene, ())) for scene in scenes)
    return f"{word} {', '.join(shorten(named))}"


def _name_views(views: Sequence[int]) -> str:
    return f" (view{'s' * (len(views) > 1)} {', '.join(shorten(map(str, views)))})" if views else ""


def shorten(names: Iterable[str]) -> list[str]:
    """The first few of names, and how many are left out."""
    listed = list(names)
    left = len(listed) - _NAMED
    return listed[:_NAMED] + ([f"{left} more"] if left > 0 else [])


def explain_parts(parts: Sequence[str], phase: str, step: int, stage: int, folder: Path | None) -> str:
    """What is said of parts that are not finite, with the way out.

    Args:
        parts: In words.
        phase: That is trained.
        step: Its steps that are done.
        stage: Its stage.
        folder: Of its checkpoints; None where it writes none.
    """
    last = last_checkpoint(folder) if folder is not None else None
    kept = f"{last} stays" if last is not None and last.is_file() else "nothing of it is saved"
    return (
        f"not finite after step {step} of phase {phase}: {', '.join(parts)}; {kept}; go on with --resume true and "
        f"lower --phases.{phase}.module.learning_rates, or train without such scenes (--data.stage{stage}_scenes) in "
        "another --run_dir"
    )
