"""Writing and streaming a pack of the papers' size: python benchmarks/data.py [--scenes 2000] [--views 160].

The pack is written by the packer from drawn pictures, 2 processes. Then a shuffled epoch is read in blocks, each block
once by the loader that ``fit`` uses and once by a bare h5py loop over the same views, in turns, in 1 and in 4
processes: ranks of one training. The ratios of block times are what to trust; both read from the page cache.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_modules.layout import VIEWS, PackIndex
from data_modules.packing.pack import write_pack
from data_modules.packing.workers import Workers
from data_modules.raycast import draw_cameras
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource, scene_generator
from scaled_ig.distributed.cores import processor_name

SIZE = 128
BATCH = 32  # views of a rank
BLOCK = 50  # batches
WARM_UP = 250  # batches
MAX_BLOCKS = 40
PROCESSES = (1, 4)


class DrawnViews(SceneSource):
    """Shaded discs with a little texture on white: about as hard to compress as rendered cars."""

    viewpoints = None

    def __init__(self, count: int, views: int) -> None:
        self.count, self.views = count, views

    def scenes(self):
        return [SceneEntry(f"drawn-{row:05d}", "drawing") for row in range(self.count)]

    def load(self, scene_id):
        generator = scene_generator(0, scene_id)
        poses, intrinsics = draw_cameras(self.views, 1.3, (-180, 180), (0, 85), generator)
        y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE - 0.5
        images = np.full((self.views, SIZE, SIZE, 3), 255, np.uint8)
        for radius in (0.3, 0.15, 0.1):
            colour = generator.uniform(60, 230, 3).astype(np.float32)
            centre = poses[:, :2, 3] * generator.uniform(0.05, 0.15)
            dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
            inside = dx**2 + 2 * dy**2 < radius**2
            shade = 1 + 0.5 * dx + 0.02 * np.floor(8 * np.sin(40 * dx) * np.sin(40 * dy)) / 8
            images[inside] = np.clip(shade[inside][:, None] * colour, 0, 255).astype(np.uint8)
        return PosedViews(images, poses, intrinsics), {"shape": scene_id, "license": "CC0-1.0"}


def epoch(pack: Path, rank: int, world_size: int):
    """The data module of a rank, streaming, and the batches of its epoch."""
    from data_modules.base import PhaseData
    from data_modules.shapenet import ShapeNetCars  # Lightning, which the packer's processes do not need

    data = ShapeNetCars(str(pack), stage1_scenes=1, batch_size=BATCH * world_size, in_memory=False, num_workers=0)
    data._rank = lambda: (rank, world_size)  # type: ignore[method-assign]
    data = data.for_phase(PhaseData(stage=2))
    return data, list(data.sampler())


_barrier: Any = None


def _meet_at(barrier) -> None:
    global _barrier
    _barrier = barrier


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read(pack: Path, rank: int, world_size: int) -> dict[str, Any]:
    """Seconds of each contestant in each block, and memory; all ranks begin a block together."""
    data, batches = epoch(pack, rank, world_size)
    imports, begun = _peak_bytes(), time.perf_counter()
    data.views(2)
    opened = time.perf_counter() - begun
    stream = iter(data.train_dataloader())
    for _ in range(WARM_UP):
        next(stream)
    peak = _peak_bytes()  # before the bare loop opens its files, with the caches that are h5py's default
    files = [h5py.File(shard.path, "r", locking=False)[VIEWS] for shard in data.index.shards]
    batches = batches[WARM_UP:]
    seconds: dict[str, list[float]] = {"loader": [], "bare": []}
    for block in range(min(MAX_BLOCKS, len(batches) // BLOCK)):
        own = batches[block * BLOCK : (block + 1) * BLOCK]
        places = [place_of(data.index, data.scenes(2)[scene], view) for batch in own for scene, view in batch]
        for contestant in ("loader", "bare") if block % 2 else ("bare", "loader"):
            _barrier.wait(600)
            begun = time.perf_counter()
            if contestant == "loader":
                count = sum(len(next(stream)) for _ in own)
            else:
                count = sum(len(files[shard][row]) // SIZE for shard, row in places)
            seconds[contestant].append(time.perf_counter() - begun)
            assert count == len(own) * BATCH
    return {"seconds": seconds, "opened": opened, "imports": imports, "peak": peak}


def place_of(index: PackIndex, scene: int, view: int) -> tuple[int, int]:
    """Shard of a view, and its row there."""
    shard = index.shard_of(scene)
    return shard, int(index.offsets[scene]) + view - index.shards[shard].first_view


def stream(pack: Path, world_size: int) -> dict[str, Any]:
    """The race in ``world_size`` processes."""
    context = get_context("spawn")
    with ProcessPoolExecutor(world_size, context, _meet_at, (context.Barrier(world_size),)) as pool:
        ranks = [pool.submit(read, pack, rank, world_size) for rank in range(world_size)]
        reports = [rank.result() for rank in ranks]
    # A block of all ranks takes as long as its slowest rank.
    blocks = {name: np.max([report["seconds"][name] for report in reports], axis=0) for name in ("loader", "bare")}
    views = BLOCK * BATCH * world_size
    return {
        "processes": world_size,
        "ratio": float(np.median(blocks["bare"] / blocks["loader"])),
        "check": f"{len(blocks['bare'])} blocks of {views} views, the same views in turns",
        "loader_views_per_second": float(views / np.median(blocks["loader"])),
        "bare_views_per_second": float(views / np.median(blocks["bare"])),
        "peak_mebibytes": max(report["peak"] for report in reports) / 2**20,
        "imports_mebibytes": max(report["imports"] for report in reports) / 2**20,
        "verify_seconds": max(report["opened"] for report in reports),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--views", type=int, default=160)
    parser.add_argument("--pack", type=Path, default=Path("data/bench/pack"), help="written anew")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/data.json"))
    options = parser.parse_args()
    shutil.rmtree(options.pack, ignore_errors=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    write_pack(DrawnViews(options.scenes, options.views), options.pack, render=None, workers=Workers(2))
    written = time.perf_counter() - begun
    _, batches = epoch(options.pack, 0, max(PROCESSES))
    if len(batches) < WARM_UP + BLOCK:
        raise SystemExit(
            f"{options.pack} has {len(batches)} batches of {BATCH} views for each of {max(PROCESSES)} processes: give "
            f"more --scenes or --views, {WARM_UP + BLOCK} batches are needed"
        )
    opening = []
    for _ in range(9):
        begun = time.perf_counter()
        index = PackIndex.open(options.pack)
        opening.append(time.perf_counter() - begun)
    result = {
        "machine": f"{processor_name()}, {os.cpu_count()} cores, h5py {version('h5py')}",
        "date": date.today().isoformat(),
        "scenes": index.num_scenes,
        "views": int(index.offsets[-1]),
        "bytes": sum(shard.bytes for shard in index.shards),
        "write_seconds": written,
        "open_index_seconds": statistics.median(opening),
        "streams": [stream(options.pack, world_size) for world_size in PROCESSES],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
