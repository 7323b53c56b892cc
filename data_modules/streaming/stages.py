"""Which scenes of a pack each stage trains: drawn by seed, or chosen; never one shape in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_modules.layout import PackIndex
from data_modules.streaming.choice import SceneChoice
from scaled_ig.errors import UsageError


def both_stages(index: PackIndex) -> str:
    """Options that deal a small pack to both stages: a third of its shapes to stage 1, a scene each."""
    shapes = len(set(index.shapes))
    stage1 = max(1, shapes // 3)
    return f"--data.stage1_scenes {stage1} --data.stage2_scenes {max(1, shapes - stage1)}"


def deal_stages(
    index: PackIndex,
    pool: Sequence[int],
    stage1: int | SceneChoice,
    stage2: int | SceneChoice | None,
    split_seed: int | None,
) -> dict[int, list[int]]:
    """Deals scenes to the two stages; variants of one shape stay together.

    Args:
        index: The pack.
        pool: Scenes to deal, ascending.
        stage1: How many, or which.
        stage2: How many others, or which; all that are left where it is None.
        split_seed: Seed of the draw of shapes; the pack's order is kept where it is None.

    Returns:
        Scenes of stage 1 and of stage 2, ascending: neighbours share files.

    Raises:
        UsageError: There are too few scenes, or one shape or one content would be in both stages.
    """
    named = {s: c.scenes(index, pool) for s, c in ((1, stage1), (2, stage2)) if isinstance(c, SceneChoice)}
    used_shapes = {index.shapes[scene] for scenes in named.values() for scene in scenes}
    shapes: dict[str, list[int]] = {}
    for scene in pool:
        if index.shapes[scene] not in used_shapes:
            shapes.setdefault(index.shapes[scene], []).append(scene)
    order = list(shapes)
    if split_seed is not None:
        order = np.random.default_rng(split_seed).permutation(sorted(shapes)).tolist()
    pools: dict[int, list[int]] = {1: [], 2: []}
    for shape in order:
        first = isinstance(stage1, int) and len(pools[1]) < stage1
        pools[1 if first else 2] += shapes[shape]
    pools[1] = pools[1][:stage1] if isinstance(stage1, int) else []
    pools[2] = pools[2][:stage2] if not isinstance(stage2, SceneChoice) else []
    dealt = {stage: sorted(named.get(stage, pools[stage])) for stage in (1, 2)}
    _refuse_leaks(index, dealt)
    return dealt


def _refuse_leaks(index: PackIndex, dealt: dict[int, list[int]]) -> None:
    for names, what in ((index.shapes, "are of one shape"), (index.digests, "have the same views")):
        first = {names[scene]: scene for scene in dealt[1]}
        for scene in dealt[2]:
            if names[scene] in first:
                second_id, first_id = index.scene_ids[scene], index.scene_ids[first[names[scene]]]
                raise UsageError(
                    f"{index.path}: {first_id} of stage 1 and {second_id} of stage 2 {what}: choose stages that do not "
                    "share them with --data.stage1_scenes and --data.stage2_scenes"
                )
