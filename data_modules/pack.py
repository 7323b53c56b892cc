"""Writes a pack: worker processes render or copy the scenes, whole shards are put together in order.

The bytes of a pack depend neither on the number of processes nor on interruptions: finished scenes wait in
``<out>/scenes.part`` until all scenes of their shard are there.
"""

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_modules import layout
from data_modules.raycast import RayCaster, draw_cameras, scene_generator
from data_modules.shards import publish, write_index, write_json, write_shard
from data_modules.sources.base import Mesh, PosedViews, SceneSource
from scaled_ig.errors import UsageError

JOB_FILE = "job.part.json"
SCENES_FOLDER = "scenes.part"


@dataclass(frozen=True)
class RenderSettings:
    """How views of meshes are made.

    Attributes:
        views: cameras a scene.
        azimuth: degrees, lowest and highest; 0 looks at the front.
        elevation: degrees, lowest and highest, within [-90, 90].
        resolution: height and width in pixels.
        samples_per_pixel: a square number of rays.
        camera_distance: from the origin; above 0.5, the ball that holds the object.
        seed: of the cameras.
    """

    views: int
    azimuth: tuple[float, float]
    elevation: tuple[float, float]
    resolution: int = 128
    samples_per_pixel: int = 16
    camera_distance: float = 1.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views < 1 or self.resolution < 1:
            raise UsageError(f"--views {self.views} and --resolution {self.resolution} must be positive")
        if self.camera_distance <= layout.WORLD_ATTRIBUTES["scene_radius"]:
            raise UsageError(f"--camera_distance {self.camera_distance} is inside the object: give more than 0.5")
        if not -90 <= self.elevation[0] <= self.elevation[1] <= 90:
            raise UsageError(f"--elevation {self.elevation} must be two ascending angles from -90 to 90 degrees")


def _part_file(folder: Path, row: int) -> Path:
    """Where a finished scene waits for its shard."""
    return folder / f"{row:06d}.npz"


class _SceneWriter:
    """Makes one scene after the other in a worker; picklable, sent to every worker once."""

    def __init__(self, source: SceneSource, scene_ids: list[str], folder: Path, render: RenderSettings | None) -> None:
        self.source = source
        self.scene_ids = scene_ids
        self.folder = folder
        self.render = render

    def write(self, row: int) -> int:
        """Leaves the scene's views, cameras and source record in its part file."""
        scene_id = self.scene_ids[row]
        try:
            scene, record = self.source.load(scene_id)
            views = self._render(scene, scene_id) if isinstance(scene, Mesh) else scene
        except UsageError as error:
            raise UsageError(f"scene {scene_id}: {error}") from None
        if self.render is not None:
            record = record | {"seed": self.render.seed}
        path = _part_file(self.folder, row)
        temporary = path.with_suffix(".part.npz")
        np.savez(temporary, record=json.dumps(record, sort_keys=True), **vars(views))
        publish(temporary, path)
        return row

    def _render(self, mesh: Mesh, scene_id: str) -> PosedViews:
        render = self.render
        assert render is not None
        generator = scene_generator(render.seed, scene_id)
        poses, intrinsics = draw_cameras(
            render.views, render.camera_distance, render.azimuth, render.elevation, generator
        )
        caster = RayCaster(mesh, render.samples_per_pixel)
        size = (render.resolution, render.resolution)
        images = [caster.render(pose, pinhole, size) for pose, pinhole in zip(poses, intrinsics, strict=True)]
        return PosedViews(np.stack(images), poses, intrinsics)


_worker: _SceneWriter | None = None


def _start_worker(writer: _SceneWriter) -> None:
    global _worker
    _worker = writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the packing one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker that outlived a killed packing process would write beside the next one."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _write_scene(row: int) -> int:
    assert _worker is not None
    return _worker.write(row)


def write_pack(
    source: SceneSource, out: Path, render: RenderSettings | None, split_rule: str = "first", processes: int = 1
) -> layout.PackIndex:
    """Packs all scenes of a source; the same call goes on where an interrupted one stopped.

    Args:
        source: reader of the scenes.
        out: folder of the pack, made if it is not there.
        render: how meshes are rendered; None for sources of ready views.
        split_rule: see ``layout.split_views``; kept in the index.
        processes: worker processes; 1 works in this process.

    Returns:
        The index of the finished pack.

    Raises:
        UsageError: a scene cannot be read, or ``out`` holds something else.
    """
    scenes = [asdict(scene) for scene in source.scenes()]
    scene_ids = [scene["id"] for scene in scenes]
    if len(set(scene_ids)) < len(scene_ids):
        raise UsageError("two scenes have the same id: give every scene an id of its own")
    job = hashlib.sha256(repr((sorted(vars(source).items()), scenes, render, split_rule)).encode()).hexdigest()
    if _is_done(out, job):
        return layout.PackIndex.open(out)
    created = _begin(out, job)
    parts = out / SCENES_FOLDER
    count = -(-len(scenes) // layout.SCENES_PER_SHARD)
    files = [out / layout.shard_name(shard, count) for shard in range(count)]

    def write_if_whole(shard: int) -> None:
        first = shard * layout.SCENES_PER_SHARD
        members = scenes[first : first + layout.SCENES_PER_SHARD]
        scene_files = [_part_file(parts, first + row) for row in range(len(members))]
        if not files[shard].exists() and all(file.exists() for file in scene_files):
            numbering = {"shard_index": shard, "shard_count": count}
            stamp = {"renderer": _renderer(render), "created_utc": created}
            write_shard(files[shard], members, scene_files, numbering | stamp)
            for file in scene_files:
                file.unlink()

    for shard in range(count):
        write_if_whole(shard)
    todo = [
        row
        for row in range(len(scenes))
        if not files[row // layout.SCENES_PER_SHARD].exists() and not _part_file(parts, row).exists()
    ]
    finished = _run(_SceneWriter(source, scene_ids, parts, render), todo, processes)
    with (
        closing(finished),
        tqdm(desc="packing", total=len(scenes), initial=len(scenes) - len(todo), unit="scene") as bar,
    ):
        for row in finished:
            write_if_whole(row // layout.SCENES_PER_SHARD)
            bar.update()
    shutil.rmtree(parts)
    write_index(out, files, split_rule, job)
    (out / JOB_FILE).unlink()
    return layout.PackIndex.open(out)


def _is_done(out: Path, job: str) -> bool:
    """Whether the folder holds the finished pack of this job."""
    index = out / layout.INDEX_FILE
    if not index.exists():
        return False
    if json.loads(index.read_text(encoding="utf-8")).get("job") != job:
        raise UsageError(f"{out} already holds a pack of other settings: remove it or name another --out")
    return True


def _begin(out: Path, job: str) -> str:
    """Claims the folder for the job of this digest, or finds the job begun there; returns when it was begun."""
    path = out / JOB_FILE
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun["job"] != job:
            raise UsageError(f"{out} holds an unfinished pack of other settings: remove it or name another --out")
        (out / SCENES_FOLDER).mkdir(exist_ok=True)
        return begun["created_utc"]
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: name another --out")
    out.mkdir(parents=True, exist_ok=True)
    # SOURCE_DATE_EPOCH is the custom by which two builds get the same date, hence the same bytes.
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
    write_json(path, {"created_utc": created, "job": job})
    (out / SCENES_FOLDER).mkdir()
    return created


def _run(writer: _SceneWriter, rows: list[int], processes: int) -> Generator[int, None, None]:
    """Yields the rows as they are finished."""
    if processes == 1 or len(rows) < 2:
        yield from map(writer.write, rows)
        return
    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when a worker imports numpy: many small products, one thread each
    context = get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(rows)), context, _start_worker, (writer,)) as pool:
        try:
            for future in as_completed([pool.submit(_write_scene, row) for row in rows]):
                yield future.result()
        except BrokenProcessPool:
            raise UsageError(
                "a worker process was killed, most likely for want of memory: repeat the call with fewer --processes"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
            if threads is None:
                del os.environ["OPENBLAS_NUM_THREADS"]
            else:
                os.environ["OPENBLAS_NUM_THREADS"] = threads


def _renderer(render: RenderSettings | None) -> str:
    if render is None:
        return "none: the views were copied"
    return f"ray caster on embreex {version('embreex')}, {render.samples_per_pixel} samples a pixel"
