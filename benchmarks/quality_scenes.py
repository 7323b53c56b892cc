"""Scenes of benchmarks/quality.py: its packs, and which of their scenes are trained in either stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from data_modules.layout import PackIndex

STAGE1_SCENES, STAGE2_SCENES = 8, 16


def synthesize(what: str, packs: Path) -> Path:
    """A pack of 24 procedural cars or faces, as many as both stages take; 40 views of each."""
    pack, folder = packs / what, packs / f"{what}_source"
    if not (pack / "pack.json").is_file():
        scenes = ["--scenes", str(STAGE1_SCENES + STAGE2_SCENES)]
        _scaled_ig("synthesize", what, *(scenes if what == "cars" else []), "--out", str(folder))
        source = ["shapenet", str(folder)] if what == "cars" else ["basel", str(folder / "face_model.h5"), *scenes]
        _scaled_ig("pack", *source, "--views", "40", "--out", str(pack))
    return pack


def _scaled_ig(*arguments: str) -> None:
    """In a process of its own: the program leaves when it is done."""
    program = "from scaled_ig.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)


def choose_scenes(pack: Path, folder: Path) -> dict[str, Path]:
    """Lists of ids: 16 scenes of stage 2, one of each shape, and 8 of other shapes for stage 1.

    Returns:
        Files by ``stage1`` and ``stage2``.
    """
    index = PackIndex.open(pack)
    first: dict[str, str] = {}
    for scene, shape in zip(index.scene_ids, index.shapes, strict=True):
        first.setdefault(shape, scene)
    if len(first) < STAGE1_SCENES + STAGE2_SCENES:
        raise SystemExit(f"{pack} has {len(first)} shapes: {STAGE1_SCENES + STAGE2_SCENES} are needed")
    shapes = np.random.default_rng(0).permutation(sorted(first)).tolist()
    new, others = shapes[:STAGE2_SCENES], shapes[STAGE2_SCENES:][:STAGE1_SCENES]
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, chosen in {"stage1": others, "stage2": new}.items():
        files[name] = folder / f"{name}.txt"
        files[name].write_text("".join(f"{first[shape]}\n" for shape in chosen))
    return files
