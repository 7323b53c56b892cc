"""Writes a pack: worker processes render or copy the scenes, whole shards are put together of them.

The bytes of a pack depend neither on the number of processes nor on interruptions: finished scenes wait in
``<out>/scenes.part`` until all scenes of their shard are there. Scenes that cannot be read are left out with a record.

What a call asks for is known by its options, its path and the ids of its scenes, not by the content of files. When an
interrupted call goes on, finished scenes whose file was changed since are made anew. Changes of textures and images
beside that file are not noticed, nor those of scenes that are left out already (``strict`` tries them again). A
finished call is not repeated, whatever was changed.
"""

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_modules import layout
from data_modules.layout import PackIndex, read_source_records
from data_modules.packing.assembly import Assembly
from data_modules.packing.folder import LOCK_FILE, alone, require_empty
from data_modules.packing.origin import is_same
from data_modules.packing.parts import SCENES_FOLDER
from data_modules.packing.scene_writer import RenderSettings, SceneWriter
from data_modules.packing.workers import Workers
from data_modules.sources.base import SceneSource, is_name
from scaled_ig.errors import UsageError
from scaled_ig.files import write_json
from scaled_ig.progress import Progress

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
        append: add the scenes to the finished pack in ``out``, as further shards; those that are there already, of the
            same file, are passed over.
        strict: the first scene that cannot be packed ends the job; else it is left out.

    Returns:
        The index of the finished pack.

    Raises:
        UsageError: no scene can be packed, with ``strict`` one cannot, or ``out`` does not take the scenes.
        OSError: ``out`` cannot be written.
    """
    scenes = list_scenes(source)
    job = job_digest(source, scenes, render, split_rule)
    todo: list[dict[str, str]] = []
    if not _is_finished(out, job):  # that needs no lock, and no folder that can be written
        with alone(out):
            index = find_pack(out, render, split_rule, job, append)
            todo = scenes if index is None else missing_scenes(index, source, scenes, job)
            if todo:
                packing = Assembly(out, source, todo, _begin(out, job, append), index, render, strict)
                writer = SceneWriter(source, [scene["id"] for scene in todo], packing.parts, render)
                packing.settle(writer, workers or Workers())
                try:
                    packing.write_index(split_rule, job)
                except UsageError:
                    _clear(out)
                    raise
                _clear(out)
    if not todo:
        Progress.write(f"{out}: already packed, nothing was done: to pack files anew remove it, or name another --out")
    pack = PackIndex.open(out)
    listed = {scene["id"] for scene in scenes}
    lost = [record for record in pack.left_out if strict and record["id"] in listed]
    if lost:
        raise UsageError(
            f"{out} was packed without scene {lost[0]['id']} ({lost[0]['reason']}): repair the scene, and add it by a "
            "call with --append that lists it alone"
        )
    return pack


def list_scenes(source: SceneSource) -> list[dict[str, str]]:
    """``id`` and ``category`` of all scenes of a source.

    Raises:
        UsageError: two have the same id, or an id or a category cannot be written down.
    """
    scenes = [asdict(scene) for scene in source.scenes()]
    for scene in scenes:
        for key, text in scene.items():
            if not isinstance(text, str) or not is_name(text):
                whose = "" if key == "id" else f" of scene {scene['id']!r}"
                raise UsageError(f"{key} {text!r}{whose} is no text that can be written: give it another")
    if len({scene["id"] for scene in scenes}) < len(scenes):
        raise UsageError("two scenes have the same id: give every scene an id of its own")
    return scenes


def job_digest(
    source: SceneSource, scenes: list[dict[str, str]], render: RenderSettings | None, split_rule: str
) -> str:
    """Digest of all that decides on the scenes of a call and on their views."""
    return hashlib.sha256(repr((sorted(vars(source).items()), scenes, render, split_rule)).encode()).hexdigest()


def find_pack(out: Path, render: RenderSettings | None, split_rule: str, job: str, append: bool) -> PackIndex | None:
    """The finished pack in a folder, if there is one and it holds or takes the scenes of this job.

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
    if split_rule != index.split_rule:
        raise UsageError(f"{out} holds out its tests by --split {index.split_rule}: give the same, not {split_rule}")
    height, width = index.image_size
    if render is not None and (height, width) != (render.resolution, render.resolution):
        raise UsageError(f"{out} has views of {height}x{width} pixels: give that --resolution, or name another --out")
    return index


def missing_scenes(
    index: PackIndex, source: SceneSource, scenes: list[dict[str, str]], job: str
) -> list[dict[str, str]]:
    """Those of a job's scenes that are to be added to a pack.

    Raises:
        UsageError: the pack holds other scenes of the same ids.
    """
    if job in index.document["jobs"]:
        return []
    listed = {scene["id"] for scene in scenes}
    num_packed, conflicts = 0, []
    for shard in index.shards:
        ids = index.scene_ids[shard.first_scene : shard.last_scene]
        if listed.isdisjoint(ids):
            continue
        for name, record in zip(ids, read_source_records(shard), strict=True):
            if name in listed:
                num_packed += 1
                if not is_same(source, record):
                    conflicts.append(name)
    if conflicts:
        raise UsageError(
            f"{index.path} holds scenes of the same ids, made of other files, e.g. {conflicts[0]} "
            f"({len(conflicts)} in all): list only those that are missing, give others new ids, or name another --out"
        )
    if num_packed:
        Progress.write(f"{num_packed} of {len(scenes)} scenes are there already and passed over")
    packed_ids = set(index.scene_ids)
    return [scene for scene in scenes if scene["id"] not in packed_ids]


def _is_finished(out: Path, job: str) -> bool:
    """Whether nothing is left to do, not even to clear up after an interruption."""
    if not (out / layout.INDEX_FILE).exists() or (out / JOB_FILE).exists():
        return False
    return job in PackIndex.open(out).document["jobs"]


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
    if not append:
        require_empty(out, besides=(LOCK_FILE,))
    shutil.rmtree(out / SCENES_FOLDER, ignore_errors=True)
    # SOURCE_DATE_EPOCH is the custom by which two builds get the same date, hence the same bytes.
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    # Files that no index names, of a job that was given up, are not written over either.
    numbers = [int(file.stem.rpartition("-")[2]) for file in out.glob("pack-*.h5")]
    begun = {
        "created_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        "job": job,
        "first_shard": max(numbers, default=-1) + 1,
    }
    write_json(out / JOB_FILE, begun)
    (out / SCENES_FOLDER).mkdir()
    return begun


def _clear(out: Path) -> None:
    """Removes what a job needs while it is not finished; last the file that says so."""
    shutil.rmtree(out / SCENES_FOLDER, ignore_errors=True)
    for draft in out.glob("*.*.part"):  # of a call that was killed
        draft.unlink()
    (out / JOB_FILE).unlink(missing_ok=True)
