"""Cost of a step against the number of scenes: python benchmarks/scale.py [--sizes 100 1000 10000 100000].

Latent supervision of the model of experiments/recipes/latent.yaml, batches of 16 views of 16 scenes. Every size has a
process of its own; they take turns of 20 steps, so that whatever else the machine does meets all alike. Times are
CPU time of the process, medians over turns. Contenders:

- ``waves``: at most ``--wave`` scenes at a time are in memory with their Adam state, by a clock of their own; the
  others lie in the bank. Turns are taken in the first and in the last wave. A step's time includes its share of what
  the last wave costs besides steps: making its rows, their state, the index of its views and their order; encoding it
  as int8 differences into a bank that holds all other scenes; forgetting it. A scene is trained on 250 views, as in
  recipes/latent.yaml. All waves train the shared parts too.
- ``exact_dense``: all scenes in one table, stepped by row so as to equal dense Adam, in the middle of training.
- ``dense``: all scenes in one ordinary table, all of it stepped by torch.optim.Adam (fused), as plain DDP would.

Tables of all scenes are measured where they fit into half of the free memory.

Of size N are: the pack's index, the stages, ids and splits, a wave's choice of views and their order, the bank's scene
table; records between the first and the last wave are rows of that table without content. Not measured are: reading
pixels and cameras from files; latent caches, which grow with the wave (1.7 MiB a scene of 36 views) and not with N, and
of which 64 random latents take the place; Lightning's loop and its checkpoints.

Bytes on the wire are counted in two ranks of a real Trainer, see benchmarks/scale_wire.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in all children

import torch
from scale_report import draw, table
from scale_worker import BATCH, Kind, row_bytes, serve

from data_modules.layout.index_document import INDEX_FILE, SCHEMA_VERSION, json_sha256
from data_modules.streaming.memory import available_bytes
from scaled_ig.distributed.cores import processor_name

VISITS = 250  # views that a scene is trained on
VIEWS = 40  # of a scene
SCENES_PER_FILE = 1000
# Bytes in memory of a table beside its rows: Adam's moments, and a gradient of the whole.
COPIES: dict[Kind, int] = {"waves": 3, "exact_dense": 3, "dense": 4}
KINDS: tuple[Kind, ...] = ("waves", "exact_dense", "dense")


def write_index(folder: Path, num_scenes: int) -> Path:
    """The index of a pack of so many scenes, whose files are not there."""
    names = [f"scene-{scene:06d}" for scene in range(num_scenes)]
    scenes = [
        {"id": n, "category": "none", "shape": n, "views": VIEWS, "sha256": f"{i:064x}", "masks": False}
        for i, n in enumerate(names)
    ]
    files = [scenes[first : first + SCENES_PER_FILE] for first in range(0, num_scenes, SCENES_PER_FILE)]
    shards = [{"file": f"views-{i:05d}.h5", "bytes": 0, "sha256": "", "scenes": own} for i, own in enumerate(files)]
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "image_size": [128, 128], "scene_radius": 0.5, "split": "first",
        "jobs": [], "left_out": [], "shards": shards,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / INDEX_FILE).write_text(json.dumps(document | {"sha256": json_sha256(document)}))
    return folder


class Child:
    """A contender in a process of its own.

    Args:
        kind: Which.
        num_scenes: N.
        wave: Scenes of a wave.
        steps: Of a turn.
        folder: Where its pack and its bank are.
    """

    def __init__(self, kind: Kind, num_scenes: int, wave: int, steps: int, folder: Path) -> None:
        self.kind, self.num_scenes = kind, num_scenes
        self.steps = steps if kind != "dense" or num_scenes <= 1000 else 2  # dense steps take seconds
        self.turns: list[float] = []  # milliseconds a step
        self.optimizing: list[float] = []  # the optimiser's part of them
        self.costs: dict[str, Any] = {}
        self.mebibytes = 0.0
        context = get_context("fork")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, kind, folder / f"pack-{num_scenes}", num_scenes, wave, folder / f"bank-{num_scenes}")
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self._receive()

    def ask(self, *message: Any) -> None:
        """Have it do something and wait."""
        self.connection.send(message)
        self._receive()

    def take_turn(self) -> None:
        """Have it train."""
        self.ask("run", self.steps)
        self.turns.append(1000 * self.costs.pop("run").cpu_seconds / self.steps)
        self.optimizing.append(1000 * self.costs.pop("optimizer").cpu_seconds / self.steps)
        self.resident = self.mebibytes

    def _receive(self) -> None:
        answer = self.connection.recv()
        self.mebibytes = answer.pop("mebibytes")
        self.costs |= answer

    def end(self) -> None:
        """Stop the process."""
        self.connection.send(None)
        self.process.join(60)


def race(sizes: list[int], repeats: int, steps: int, wave: int, folder: Path) -> list[Child]:
    """All contenders that fit into memory; turns in the first wave, then as many in the last."""
    children = []
    for size in sizes:
        write_index(folder / f"pack-{size}", size)
        for kind in KINDS:
            held = min(size, wave) if kind == "waves" else size
            if COPIES[kind] * held * row_bytes() < available_bytes() / 2:
                children.append(Child(kind, size, wave, steps, folder))
                print(f"{kind} of {size:,} scenes: ready", file=sys.stderr, flush=True)
    for half in range(2):
        for repeat in range(repeats):
            for child in children[repeat:] + children[:repeat]:
                child.take_turn()
        for child in children:
            if child.kind == "waves":
                child.ask("change" if half == 0 else "finish")
        print(f"turns in the {'first' if half == 0 else 'last'} wave: done", file=sys.stderr, flush=True)
    for child in children:
        child.end()
    return children


def summary(children: list[Child], wave: int) -> dict[str, Any]:
    """Lists over the sizes of each contender."""
    lists: dict[str, dict[str, list[Any]]] = {kind: defaultdict(list) for kind in KINDS}
    for child in children:
        own = lists[child.kind]
        own["num_scenes"].append(child.num_scenes)
        own["resident_mebibytes"].append(round(child.resident, 1))
        own["turn_milliseconds"].append([round(turn, 3) for turn in child.turns])
        own["optimizer_milliseconds"].append(statistics.median(child.optimizing))
        step, share = statistics.median(child.turns), 0.0
        if child.kind == "waves":
            half, rows, write = len(child.turns) // 2, child.costs["rows"], child.costs["write"]
            share = 1000 * (rows.cpu_seconds + write.cpu_seconds) / (min(child.num_scenes, wave) * VISITS / BATCH)
            own["first_wave_milliseconds"].append(statistics.median(child.turns[:half]))
            own["last_wave_milliseconds"].append(statistics.median(child.turns[half:]))
            own["training_milliseconds"].append(step)
            own["wave_share_milliseconds"].append(share)
            own["make_rows_seconds"].append(rows.cpu_seconds)
            own["write_and_forget_seconds"].append(write.cpu_seconds)
            own["write_and_forget_wall_seconds"].append(write.wall_seconds)
        own["step_milliseconds"].append(step + share)
    waves = lists.pop("waves")
    first, last = waves["turn_milliseconds"][0], waves["turn_milliseconds"][-1]
    return {
        **waves,
        "step_ratio_last_to_first": waves["step_milliseconds"][-1] / waves["step_milliseconds"][0],
        "training_ratio_of_paired_turns": statistics.median(b / a for a, b in zip(first, last, strict=True)),
        **lists,
    }


def count_bytes(folder: Path) -> dict[str, Any]:
    """Bytes on the wire, counted by scale_wire.py in processes of their own."""
    out = folder / "wire.json"
    script = [
        sys.executable,
        str(Path(__file__).with_name("scale_wire.py")),
        "--folder",
        str(folder),
        "--out",
        str(out),
    ]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"counting bytes failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return json.loads(out.read_text())


def machine() -> str:
    """Processor, cores and memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor_name()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5, help="turns in the first wave, and in the last")
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    parser.add_argument("--wave", type=int, default=2000, help="most scenes in memory")
    parser.add_argument("--scratch", type=Path, default=Path("data/bench/scale"), help="written anew")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/scale.json"), help="and a .png beside it")
    options = parser.parse_args()
    if min(options.sizes) < BATCH:
        parser.error(f"a batch has views of {BATCH} scenes: sizes must be {BATCH} or more")
    shutil.rmtree(options.scratch, ignore_errors=True)
    children = race(sorted(options.sizes), options.repeats, options.steps, options.wave, options.scratch)
    result = {
        "machine": machine(),
        "versions": f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        "date": date.today().isoformat(),
        "wave": options.wave,
        "repeats": options.repeats,
        "steps_of_a_turn": options.steps,
        "row_bytes": row_bytes(),
        **summary(children, options.wave),
        "bytes_per_step": count_bytes(options.scratch),
    }
    shutil.rmtree(options.scratch)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    draw(result, options.out.with_suffix(".png"))
    print(f"{result['machine']}, {result['versions']}, {result['date']}\n{table(result)}")


if __name__ == "__main__":
    main()
