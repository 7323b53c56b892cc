"""Writes a pack: worker processes render or copy the scenes, whole shards are put together of them.

The bytes of a pack depend neither on the number of processes nor on interruptions: finished scenes wait in
``<out>/scenes.part`` until all scenes of their shard are there. Scenes that cannot be read are left out with a record.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.packing.assembly import SCENES_FOLDER, Assembly
from data_modules.packing.scene_writer import RenderSettings, SceneWriter
from data_modules.packing.shards import write_json
from data_modules.packing.workers import Workers
from data_modules.sources.base import SceneSource
from scaled_ig.errors import UsageError

JOB_FILE = "job.part.json"


def write_pack(
    source: SceneSource,
    out: Path,
    render: RenderSettings | None,
    split_rule: str = "first",
    workers: Workers | None = None,
    *,
    append: bool = False,
    strict: bool = False,
) -> PackIndex:
    """Packs all scenes of a source; the same call goes on where an interrupted one stopped.

    Args:
        source: reader of the scenes.
        out: folder of the pack, made if it is not there.
        render: how meshes are rendered; None for sources of ready views.
        split_rule: see ``layout.split_views``; kept in the index.
        workers: processes that make the scenes; None works in this one.
        append: add the scenes to the finished pack in ``out``, as further shards.
        strict: the first scene that cannot be packed ends the job; else it is left out.

    Returns:
        The index of the finished pack.

    Raises:
        UsageError: no scene can be packed, with ``strict`` one cannot, or ``out`` does not take the scenes.
        OSError: ``out`` cannot be written.
    """
    scenes = list_scenes(source)
    job = job_digest(source, scenes, render, split_rule)
    with _alone_in(out):
        index = find_pack(out, scenes, render, split_rule, job, append)
        if index is None or job not in index.document["jobs"]:
            packing = Assembly(out, scenes, _begin(out, job, append), index, render, strict)
            writer = SceneWriter(source, [scene["id"] for scene in scenes], packing.parts, render)
            packing.settle(writer, workers or Workers())
            try:
                packing.write_index(split_rule, job)
            except UsageError:
                _clear(out)
                raise
            _clear(out)
    done = PackIndex.open(out)
    listed = {scene["id"] for scene in scenes}
    lost = [record for record in done.left_out if strict and record["id"] in listed]
    if lost:
        raise UsageError(
            f"{out} was packed without scene {lost[0]['id']} ({lost[0]['reason']}): repair the scene, and add it by a "
            "call with --append that lists it alone"
        )
    return done


def list_scenes(source: SceneSource) -> list[dict[str, str]]:
    """``id`` and ``category`` of all scenes of a source.

    Raises:
        UsageError: two have the same id.
    """
    scenes = [asdict(scene) for scene in source.scenes()]
    if len({scene["id"] for scene in scenes}) < len(scenes):
        raise UsageError("two scenes have the same id: give every scene an id of its own")
    return scenes


def job_digest(
    source: SceneSource, scenes: list[dict[str, str]], render: RenderSettings | None, split_rule: str
) -> str:
    """Digest of all that decides on the scenes of a call and on their views."""
    return hashlib.sha256(repr((sorted(vars(source).items()), scenes, render, split_rule)).encode()).hexdigest()


def find_pack(
    out: Path, scenes: list[dict[str, str]], render: RenderSettings | None, split_rule: str, job: str, append: bool
) -> PackIndex | None:
    """The finished pack in a folder, if there is one and it holds or takes the scenes.

    Raises:
        UsageError: there is none to append to, or it does not take them.
    """
    if not (out / layout.INDEX_FILE).exists():
        if append:
            raise UsageError(f"{out} holds no finished pack to add to: leave out --append")
        return None
    index = PackIndex.open(out)
    begun = _begun_job(out)
    if begun is not None and begun["job"] in index.document["jobs"]:
        _clear(out)  # the job was interrupted after its last deed
    if job in index.document["jobs"]:
        return index
    if not append:
        raise UsageError(
            f"{out} already holds a pack of other settings: add to it with --append, remove it, or name another --out"
        )
    there = set(index.scene_ids)
    known = [scene["id"] for scene in scenes if scene["id"] in there]
    if known:
        raise UsageError(f"{len(known)} scenes, such as {known[0]}, are in {out} already: append only other ones")
    if split_rule != index.split_rule:
        raise UsageError(f"{out} holds out its tests by --split {index.split_rule}: give the same, not {split_rule}")
    height, width = index.image_size
    if render is not None and (height, width) != (render.resolution, render.resolution):
        raise UsageError(f"{out} has views of {height}x{width} pixels: give that --resolution, or name another --out")
    return index


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Keeps other calls out of a folder, made if it is not there, until this one is done or dead."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name another --out")
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another call is packing into {out}: wait for it, or name another --out") from None
    finally:
        os.close(folder)
        if made and not any(out.iterdir()):
            out.rmdir()


def _begun_job(out: Path) -> dict[str, Any] | None:
    path = out / JOB_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _begin(out: Path, job: str, append: bool) -> dict[str, Any]:
    """Claims the folder for the job of this digest, or finds it begun there."""
    begun = _begun_job(out)
    if begun is not None:
        if begun["job"] != job:
            way_out = f"or remove {out / JOB_FILE} to give it up" if append else "remove it, or name another --out"
            raise UsageError(f"{out} holds an unfinished pack of other settings: finish it, {way_out}")
        (out / SCENES_FOLDER).mkdir(exist_ok=True)
        return begun
    if not append and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: name another --out")
    shutil.rmtree(out / SCENES_FOLDER, ignore_errors=True)
    # SOURCE_DATE_EPOCH is the custom by which two builds get the same date, hence the same bytes.
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    # Files that no index names, of a job that was given up, are not written over either.
    taken = [int(file.stem.rpartition("-")[2]) for file in out.glob("pack-*.h5")]
    begun = {
        "created_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        "job": job,
        "first_shard": max(taken, default=-1) + 1,
    }
    write_json(out / JOB_FILE, begun)
    (out / SCENES_FOLDER).mkdir()
    return begun


def _clear(out: Path) -> None:
    """Removes what a job needs while it is not finished; last the file that says so."""
    shutil.rmtree(out / SCENES_FOLDER, ignore_errors=True)
    (out / JOB_FILE).unlink(missing_ok=True)
