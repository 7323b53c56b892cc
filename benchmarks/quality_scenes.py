"""Scenes of benchmarks/quality.py: its packs, and which of their scenes and views it trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from data_modules.layout import PackIndex, split_views

STAGE2_SCENES, STAGE1_SCENES = 16, 8
SCENES = 28  # of packs that it makes itself
FEW_VIEWS = 6
MANY = "many"


def synthesize(what: str, packs: Path) -> Path:
    """A pack of procedural cars or faces."""
    pack, folder = packs / what, packs / f"{what}_source"
    if not (pack / "pack.json").is_file():
        scenes = ["--scenes", str(SCENES)]
        _scaled_ig("synthesize", what, *(scenes if what == "cars" else []), "--out", str(folder))
        source = ["shapenet", str(folder)] if what == "cars" else ["basel", str(folder / "face_model.h5"), *scenes]
        _scaled_ig("pack", *source, "--views", "40", "--out", str(pack))
    return pack


def _scaled_ig(*arguments: str) -> None:
    """In a process of its own: the program leaves when it is done."""
    program = "from scaled_ig.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)


def choose_scenes(pack: Path, folder: Path) -> dict[str, Path]:
    """Lists of ids: 16 scenes of stage 2, one of each shape; 8 and all scenes of other shapes for stage 1.

    Returns:
        Files by ``stage2``, ``few`` and ``many``.
    """
    index = PackIndex.open(pack)
    scenes: dict[str, list[str]] = {}
    for scene, shape in zip(index.scene_ids, index.shapes, strict=True):
        scenes.setdefault(shape, []).append(scene)
    shapes = np.random.default_rng(0).permutation(sorted(scenes)).tolist()
    new, others = shapes[:STAGE2_SCENES], shapes[STAGE2_SCENES:]
    lists = {
        "stage2": [scenes[shape][0] for shape in new],
        "few": [scenes[shape][0] for shape in others[:STAGE1_SCENES]],
        MANY: [scene for shape in others for scene in scenes[shape]],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(ids) + "\n")
    return {name: folder / f"{name}.txt" for name in lists}


def training_views(pack: Path) -> int:
    """Training views of a scene."""
    index = PackIndex.open(pack)
    return len(split_views(int(index.num_views[0]), index.split_rule)[0])


def leave_views(pack: Path, count: int) -> float:
    """``val_fraction`` that leaves ``count`` training views a scene."""
    views = training_views(pack)
    return (views - count - 0.5) / views
