"""One file a scene, in a folder that an interrupted export goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.export.places import path_of
from scaled_ig.files import write_whole


def write_scenes(
    bank: SceneBank,
    ids: list[str],
    out: Path,
    suffix: str,
    content: Callable[[BankScene], bytes],
    progress: Callable[[int], object],
) -> str:
    """Write ``<id><suffix>`` of each scene, whole or not at all.

    Args:
        bank: The bank.
        ids: Of the scenes.
        out: Folder.
        suffix: Of the files.
        content: Of the file of a scene; safe from any number of threads.
        progress: Told of each scene that is done.

    Returns:
        A sentence that says what was written.
    """
    paths = {scene_id: out / f"{path_of(scene_id)}{suffix}" for scene_id in ids}

    def work(scene_id: str) -> int:
        encoded = content(bank[scene_id])
        write_whole(paths[scene_id], encoded)
        return len(encoded)

    size = 0
    for written in in_threads(work, ids):
        size += written
        progress(1)
    each = size / max(len(ids), 1)
    return f"{out}: {len(ids):,} scene{'s' if len(ids) != 1 else ''} as {suffix}, {each / 1e6:.2f} MB each"


def in_threads(work: Callable[[str], Any], ids: list[str]) -> Iterator[Any]:
    """What ``work`` returns for each scene, as many scenes at a time as torch may use threads, each on one thread.

    Scenes side by side need not wait for each other; threads that share a scene meet after each of its steps.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(ids) == 1:
        yield from map(work, ids)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, ids)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what a thread sets reaches some of the libraries of all
