"""A file or a folder for each scene, side by side in one folder, where an export that was interrupted goes on."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from data_modules.sources.files import read_json_object
from data_modules.sources.transforms import MAP_FILE
from scaled_ig import __version__
from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.export.places import path_of, require_free
from scaled_ig.files import remove_drafts, write_json

RECORD_FILE = "export.json"
SHOWN_FAULTS = 20


def write_scenes(
    bank: SceneBank,
    ids: list[str],
    out: Path,
    suffixes: tuple[str, ...],
    write: Callable[[BankScene, Path], object],
    progress: Callable[[int], object],
    options: dict[str, Any],
) -> str:
    """Write each scene at ``<id><suffixes[0]>``, several at a time; those that the same call has written already stay.

    Args:
        bank: The bank.
        ids: Of the scenes.
        out: Folder.
        suffixes: Of the names; empty for folders. Further ones are of files that are written before the first.
        write: Writes a scene to a path, whole or not at all, from any thread.
        progress: Told of each scene that is done.
        options: Of the export, by which it is known again.

    Returns:
        A sentence that says what was written, and one for each scene that could not be.

    Raises:
        UsageError: The folder holds something else, ids cannot be paths in it, or no scene could be written.
    """
    files = {scene_id: [out / f"{path_of(scene_id)}{suffix}" for suffix in suffixes] for scene_id in ids}
    _require_apart(out, files)
    _begin(out, {"scaled_ig": __version__, **options, "scenes": _digest(bank, ids)})
    left = [scene_id for scene_id in ids if not all(map(_bytes, files[scene_id]))]
    progress(len(ids) - len(left))
    faults = []

    def work(scene_id: str) -> None:
        try:
            write(bank[scene_id], files[scene_id][0])
        except UsageError as error:  # one bad scene costs the others nothing
            faults.append(str(error))

    for _ in _in_threads(work, left):
        progress(1)
    written = len(ids) - len(faults)
    if not written:
        raise UsageError(faults[0])
    before = f", {len(ids) - len(left):,} of them before" if len(left) < len(ids) else ""
    each = sum(_bytes(file) for paths in files.values() for file in paths) / written
    said = f"{out}: {written:,} {'scene' if written == 1 else 'scenes'}{before}; {each / 1e6:.2f} MB each"
    listed = "".join(f"\nleft out: {fault}" for fault in faults[:SHOWN_FAULTS])
    more = f"\nand {len(faults) - SHOWN_FAULTS:,} more" if len(faults) > SHOWN_FAULTS else ""
    return f"{said}{listed}{more}"


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A draft beside a folder that takes its place at the end; one that fails is removed, see :func:`replacing`."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _require_apart(out: Path, files: dict[str, list[Path]]) -> None:
    """Raise UsageError where a scene lies within another, or where the export keeps a file."""
    taken = {out / RECORD_FILE: "the export's record", out / MAP_FILE: "the export's list of categories"}
    taken |= {path: f"scene {scene_id!r}" for scene_id, paths in files.items() for path in paths}
    for scene_id, paths in files.items():
        for path in paths:
            if path in (out / RECORD_FILE, out / MAP_FILE):
                raise UsageError(f"scene {scene_id!r} has the name of a file of the export: leave it out by --scenes")
            for folder in path.parents:
                if folder in taken:
                    raise UsageError(
                        f"scene {scene_id!r} would lie within {taken[folder]}: export one of them, by --scenes"
                    )


def _begin(out: Path, record: dict[str, Any]) -> None:
    """Take a folder that is free, that the same call has begun to fill, or where another call has written no scene."""
    path = out / RECORD_FILE
    if not path.is_file():
        require_free(out)
    remove_drafts(out, path)
    is_filled = any(file.is_file() and file != path for file in out.rglob("*"))
    if is_filled and read_json_object(path) != record:
        raise UsageError(f"{out} holds another export, as its {RECORD_FILE} says: name another --out, or remove it")
    write_json(path, record)


def _digest(bank: SceneBank, ids: list[str]) -> str:
    """Of the content of scenes, in hexadecimal digits."""
    digest = hashlib.sha256()
    for record in map(bank.record, ids):
        digest.update(f"{record.id}\0{record.sha256}\0{bank.versions[record.version].shared_sha256}\n".encode())
    return digest.hexdigest()


def _in_threads(work: Callable[[str], object], ids: list[str]) -> Iterator[object]:
    """Work on scenes, as many at a time as torch may use threads, each on one: no thread waits for another's step."""
    threads = torch.get_num_threads()
    if threads == 1 or len(ids) < 2:
        yield from map(work, ids)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, ids)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what a thread has set reaches some of the libraries of all


def _bytes(path: Path) -> int:
    """Of a file, or of all in a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
