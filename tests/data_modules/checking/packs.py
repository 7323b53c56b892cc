"""Small packs for the tests of the check, written without the packer, which would refuse what is wrong with them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_modules import layout
from data_modules.checking.check import check_pack
from data_modules.layout import PackIndex
from data_modules.packing.shards import index_row, write_index, write_scene, write_shard
from data_modules.raycast import draw_cameras
from data_modules.sources.base import PosedViews
from scaled_ig.files import file_sha256

STAMP = {"renderer": "none", "created_utc": "2026-01-01T00:00:00Z"}


def noisy_views(seed: int, count: int = 10, size: int = 16) -> PosedViews:
    """Noisy grey discs on white with their masks, from cameras on the upper hemisphere."""
    generator = np.random.default_rng(seed)
    poses, intrinsics = draw_cameras(count, 1.3, (-180, 180), (0, 85), generator)
    images = generator.integers(180, 220, (count, size, size, 3), dtype=np.uint8)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    is_disc = np.hypot(x, y) <= 0.4
    images[:, ~is_disc] = 255
    masks = np.repeat(255 * is_disc[None].astype(np.uint8), count, axis=0)
    return PosedViews(images, poses, intrinsics, layout.ball_near_far(poses), masks)


def changed(views: PosedViews, **values: Any) -> PosedViews:
    """A copy with other arrays."""
    return replace(views, **values)


def make_pack(
    folder: Path,
    scenes: dict[str, PosedViews],
    records: dict[str, dict[str, Any]] | None = None,
    split: str = "first",
    per_shard: int = 100,
    left_out: tuple[dict[str, str], ...] = (),
) -> Path:
    """Writes a pack of views as they are; names may end in ``#2`` to have an id twice."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, names = [], list(scenes)
    for shard, first in enumerate(range(0, len(names), per_shard)):
        own, parts = names[first : first + per_shard], []
        for name in own:
            parts.append(folder / f"{name}.part")
            write_scene(parts[-1], scenes[name], (records or {}).get(name, {"license": "CC0-1.0"}))
        entries = [{"id": name.split("#")[0], "category": "thing"} for name in own]
        path = folder / layout.shard_name(shard)
        write_shard(path, entries, parts, {"shard_index": shard, **STAMP})
        rows.append(index_row(path))
        for part in parts:
            part.unlink()
    write_index(folder, rows, split, ["0" * 64], list(left_out))
    return folder


NAMES = ("a", "b", "c")


def sound_scenes(count: int = 10) -> dict[str, PosedViews]:
    """Three scenes that nothing is wrong with; the first has no masks."""
    scenes = {name: noisy_views(seed, count) for seed, name in enumerate(NAMES)}
    return scenes | {"a": changed(scenes["a"], masks=None)}


def lines_of(folder: Path) -> list[str]:
    """The lines of the check."""
    return [str(finding) for finding in check_pack(PackIndex.open(folder), processes=1, quiet=True).findings]


def rehash(folder: Path) -> None:
    """Brings the digests of files in the index to what the files are now, as who writes hostile files would."""
    document = json.loads((folder / layout.INDEX_FILE).read_text())
    for row in document["shards"]:
        path = folder / row["file"]
        row["bytes"], row["sha256"] = path.stat().st_size, file_sha256(path)
    write_document(folder, document)


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Writes the index with its digest."""
    document["sha256"] = layout.json_sha256(document)
    (folder / layout.INDEX_FILE).write_text(json.dumps(document))
