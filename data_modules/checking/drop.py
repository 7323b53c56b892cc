"""Writes a pack anew without the scenes that are not sound."""

import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_modules import layout
from data_modules.checking.check import CheckResult
from data_modules.layout import Shard
from data_modules.packing.disk import new_hdf5
from data_modules.packing.folder import require_empty
from data_modules.packing.parts import SCENES_FOLDER
from data_modules.packing.shards import CAMERAS, copy_views, create_views, index_row, write_index, write_shard
from data_modules.processes import BEAT, DONE, Lost, run_tasks
from scaled_ig.distributed.cores import usable_cpus
from scaled_ig.errors import UsageError
from scaled_ig.progress import Progress

SILENCE_SECONDS = 600.0  # the disk may take long over a whole shard


@dataclass(frozen=True)
class ShardCopy:
    """A shard to be written anew: ``rows`` of its scenes, with ids, categories and first and last view of each."""

    shard: Shard
    target: Path
    number: int
    rows: tuple[int, ...]
    scenes: tuple[dict[str, str], ...]
    views: tuple[tuple[int, int], ...]


def write_sound_scenes(result: CheckResult, out: Path, quiet: bool = False) -> layout.PackIndex:
    """Copies the scenes without findings to a new pack; compressed views are copied as they are.

    Args:
        result: of a check of the whole pack.
        out: folder of the new pack, empty or not there.
        quiet: no progress bar.

    Returns:
        The index of the new pack, whose ``left_out`` says what was left out, and why.

    Raises:
        UsageError: ``out`` is not empty, no scene is sound, or the disk is full.
    """
    index = result.index
    require_empty(out)
    if not result.num_sound:
        raise UsageError(f"{index.path} has no sound scene to keep: write the pack again from its source")
    out.mkdir(parents=True, exist_ok=True)
    copies = list(_copies(result, out))
    rows: dict[Path, dict[str, Any]] = {}
    messages = run_tasks(copy_shard, deque(copies), usable_cpus(), SILENCE_SECONDS, disposable=True)
    with closing(messages), Progress(total=result.num_sound, desc="copying", unit="scene", disable=quiet) as progress:
        for copy, message in messages:
            if isinstance(message, Lost):
                raise UsageError(f"{copy.target} could not be written (it {message.reason}): check --out and repeat")
            if message != DONE:
                rows[copy.target] = message
                progress.update(len(copy.rows))
    left_out = [{"id": index.scene_ids[scene], "reason": result.reasons[scene]} for scene in sorted(result.reasons)]
    shutil.rmtree(out / SCENES_FOLDER)
    ordered = [rows[copy.target] for copy in copies]
    jobs: list[str] = []  # the calls that are done can be repeated, to add the scenes that were left out
    write_index(out, ordered, index.split_rule, jobs, [*index.left_out, *left_out])
    return layout.PackIndex.open(out)


def _copies(result: CheckResult, out: Path) -> Iterator[ShardCopy]:
    """Shards keep their limits, and with them their attributes; empty ones vanish."""
    index, number = result.index, 0
    for shard in index.shards:
        sound_scenes = [scene for scene in range(shard.first_scene, shard.last_scene) if scene not in result.reasons]
        if sound_scenes:
            yield ShardCopy(
                shard,
                out / layout.shard_name(number),
                number,
                tuple(scene - shard.first_scene for scene in sound_scenes),
                tuple({"id": index.scene_ids[scene], "category": index.categories[scene]} for scene in sound_scenes),
                tuple(tuple((index.offsets[scene : scene + 2] - shard.first_view).tolist()) for scene in sound_scenes),
            )
            number += 1


def copy_shard(copy: ShardCopy) -> Iterator[Any]:
    """Writes one new shard in a child process; yields ``BEAT``, at last the row of the index."""
    folder = copy.target.parent / SCENES_FOLDER
    folder.mkdir(exist_ok=True)
    parts = []
    with h5py.File(copy.shard.path, "r", locking=False) as file:
        attributes = {name: v.decode() if isinstance(v, bytes) else v for name, v in file.attrs.items()}
        for row, (first, last) in zip(copy.rows, copy.views, strict=True):
            parts.append(folder / f"{copy.number:05d}-{row:06d}.h5")
            _copy_scene(file, row, first, last, parts[-1])
            yield BEAT
    write_shard(copy.target, list(copy.scenes), parts, attributes | {"shard_index": copy.number})
    for part in parts:
        part.unlink()
    yield index_row(copy.target)


def _copy_scene(file: h5py.File, row: int, first: int, last: int, part: Path) -> None:
    """Takes one scene out of a shard, as ``shards.write_scene`` would have written it."""
    has_masks = layout.MASKED in file and file[layout.MASKED][row]
    with new_hdf5(part) as scene:
        for name in (layout.VIEWS, layout.MASKS) if has_masks else (layout.VIEWS,):
            shape = (last - first, *file[name].shape[1:])
            copy_views(file[name], range(first, last), create_views(scene, name, shape), 0)
        for name in CAMERAS:
            scene.create_dataset(name, data=file[name][first:last], dtype="f4")
        scene[layout.SHA256] = np.bytes_(file[layout.SHA256][row])
        scene[layout.SOURCE] = np.bytes_(file[layout.SOURCE][row])
