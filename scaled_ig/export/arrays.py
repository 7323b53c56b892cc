"""Planes of scenes, and all that renders them, as arrays: NPZ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.export.places import require_free
from scaled_ig.files import replacing


def write_npz(bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object]) -> str:
    """Write one NPZ file, which ``numpy.load`` opens; all planes are in memory together."""
    require_free(out)
    planes = []
    for scene_id in ids:
        scene = bank[scene_id]
        for name, table in scene.model.representation.scene_tables().items():
            table.weight[0] = scene.rows[name]
        first = torch.zeros(1, dtype=torch.long)
        planes.append(scene.model.representation.planes(first)[0].permute(0, 3, 1, 2))  # type: ignore[operator]
        progress(1)
    with replacing(out) as draft, draft.open("wb") as stream:
        np.savez(stream, planes=torch.stack(planes).numpy(), ids=np.array(ids))
    return f"{out}: {len(ids)} scenes"
