"""Checkpoints' rows, whole and in files of every rank.

``python benchmarks/saved_rows.py [--gibibytes 1 2 4] [--ranks 1 2 4]``

Every call of the code that ``scaled-ig fit`` saves and loads with is measured in gloo processes of its own: seconds
until the checkpoint lies synced on the disk, and the anonymous memory of rank 0 above what it held before. Rows are
weights and both moments, of 512 KiB a scene and tensor.
"""

from __future__ import annotations

import argparse
import os
import shutil
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in all children

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from scaled_ig.optim import SceneAdam
from scaled_ig.phases.checkpoints import AtomicCheckpointIO
from scaled_ig.phases.saved_rows import Place, put_together, read_shards, take_own, write_shards
from scaled_ig.representations.scene_table import SceneTable

ROW_SHAPE = (2, 256, 256)
SLOTS = ("step", "exp_avg", "exp_avg_sq")


class Measured(AbstractContextManager):
    """Seconds, and the peak of this process's anonymous memory above what it was, in MiB."""

    def __enter__(self) -> Measured:
        self.before = self.peak = self._anonymous()
        self.begin, self.running = time.perf_counter(), True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.running = False
        self.thread.join()
        self.seconds, self.mebibytes = time.perf_counter() - self.begin, self.peak - self.before

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, self._anonymous())
            time.sleep(0.003)

    @staticmethod
    def _anonymous() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("RssAnon"))


def places_of(table: SceneTable, weights: dict, state: dict) -> list[Place]:
    return [Place("micro", table, weights, "weight"), *(Place(f"micro.{slot}", table, state, slot) for slot in SLOTS)]


def save(table: SceneTable, adam: SceneAdam, folder: Path, in_files: bool) -> None:
    weights, optimizer = dict(table.state_dict()), adam.state_dict()
    state = optimizer["state"][0] = dict(optimizer["state"][0])
    places = places_of(table, weights, state)
    if in_files:
        write_shards(places, folder / "rows-0")
    else:
        put_together(places, folder)
    if table.rank == 0:
        named = {"rows": "rows-0"} if in_files else {}
        files = AtomicCheckpointIO()
        files.save_checkpoint({"weights": weights, "optimizer": optimizer, "scaled_ig": named}, folder / "last.ckpt")


def load(table: SceneTable, folder: Path) -> SceneAdam:
    content = AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt")
    state, weights = content["optimizer"]["state"][0], content["weights"]
    in_files = "rows" in content["scaled_ig"]
    if not in_files:
        take_own(places_of(table, weights, state))
        table.load_state_dict(weights)
    adam = optimizer_of(table)
    if in_files:
        read_shards(places_of(table, {"weight": table.weight.detach()}, adam.state[table.weight]), folder / "rows-0")
    adam.load_state_dict(content["optimizer"])
    return adam


def optimizer_of(table: SceneTable) -> SceneAdam:
    return SceneAdam([{"name": "micro", "params": [table.weight], "lr": 1e-2, "rows": True}])


def work(rank: int, ranks: int, gibibytes: float, in_files: bool, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    table = SceneTable(ROW_SHAPE, std=1.0)
    table.shard(rank, ranks)
    table.new_scenes(round(gibibytes * 2**30 / (3 * 2**19)), seed=0, start=torch.full(ROW_SHAPE, 0.5))
    adam = optimizer_of(table)
    for moments in adam.state[table.weight].values():
        moments.fill_(1.5)
    dist.barrier()
    with Measured() as saved:
        save(table, adam, folder, in_files)
        dist.barrier()
    nn.init.zeros_(table.weight)
    del adam
    with Measured() as loaded:
        adam = load(table, folder)
    assert (table.weight == 0.5).all()
    assert all((moments == 1.5).all() for moments in adam.state[table.weight].values())
    if rank == 0:
        kept = 2 * table.weight.nbytes / 2**20
        form = "in files of every rank" if in_files else "whole"
        print(
            f"{gibibytes:g} GiB, {ranks} ranks, {form}: saved in {saved.seconds:.1f} s with {saved.mebibytes:.0f} MiB "
            f"more, loaded in {loaded.seconds:.1f} s with {loaded.mebibytes - kept:.0f} MiB beside the moments",
            flush=True,
        )
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gibibytes", type=float, nargs="+", default=[1, 2, 4])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--scratch", type=Path, default=Path("runs/bench/saved_rows"), help="on the disk in question")
    arguments = parser.parse_args()
    for gibibytes in arguments.gibibytes:
        for ranks in arguments.ranks:
            for in_files in (False, True):
                folder = arguments.scratch.resolve()
                folder.mkdir(parents=True)
                try:
                    mp.spawn(work, (ranks, gibibytes, in_files, folder), nprocs=ranks)
                finally:
                    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
