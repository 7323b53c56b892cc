"""A bank of 100,000 scenes of the papers' size: python benchmarks/bank.py [--scenes 100000] [--keep].

Records are random bytes in the int8 encoding, written by the package's own code: 12 GB under runs/bench/bank, removed
at the end. A fresh process then opens the bank, reads random scenes with their digests checked, and verifies all of it.
What of it lies in the page cache by then is not controlled: times are as found.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.bank.blocks import new_block, write_shared
from scaled_ig.bank.changes import changing
from scaled_ig.bank.description import describe
from scaled_ig.bank.index import BankVersion
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import encode
from scaled_ig.bank.table import BankRecord, insert
from scaled_ig.distributed.cores import processor_name
from scaled_ig.distributed.ownership import num_shards, scenes_of_shard
from scaled_ig.progress import Progress
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

READS = 200
POOL_BYTES = 64 * 2**20  # random bytes that records are cut from


def generate(folder: Path, count: int) -> None:
    """A bank of random scenes, in one version."""
    scene = SceneModel(MicroMacro(), SmallAutoencoder(), InsideBall(16))
    scene.representation.new_scenes(1)
    tables = scene.representation.scene_tables()
    mean = {name: table.weight[0].detach() for name, table in tables.items()}
    head = 4 * (50 + 3 * 10)
    values = len(encode(mean, "int8", mean)) - head
    scales = np.random.default_rng(0).uniform(0.001, 0.01, head // 4).astype("<f4").tobytes()
    generator = np.random.default_rng(1)
    pool = memoryview(generator.bytes(POOL_BYTES + values))
    records: list[BankRecord] = []
    with changing(folder) as change:
        for shard in Progress(range(num_shards(count)), "writing", unit="block"):
            with new_block(folder, change.generation, shard) as writer:
                for row in scenes_of_shard(count, shard):
                    start = int(generator.integers(POOL_BYTES))
                    content = scales + bytes(pool[start : start + values])
                    records.append(writer.add(f"scene-{row:07d}", "stage2", f"{row:064x}", content))
        digest = write_shared(folder, scene.shared_state(), mean)
        version = BankVersion("stage2", describe(scene), digest, "int8", count)
        change.commit_scenes({"stage2": version}, lambda connection: insert(connection, records))


def measure(folder: Path) -> dict[str, Any]:
    """Times of a fresh process."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    bank = SceneBank.open(folder)
    opened = time.perf_counter() - begun
    names = [f"scene-{row:07d}" for row in np.random.default_rng(2).integers(len(bank), size=READS + 1)]
    begun = time.perf_counter()
    assert bank[names[0]].rows["micro"].shape == (3, 64, 64, 10)
    first, reads = time.perf_counter() - begun, []
    for name in names[1:]:
        begun = time.perf_counter()
        assert bank[name].record.id == name
        reads.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    findings = bank.verify()
    seconds = time.perf_counter() - begun
    assert not findings, findings[:3]
    return {
        "open_seconds": opened,
        "first_scene_seconds": first,
        "read_milliseconds": {"median": 1e3 * statistics.median(reads), "worst": 1e3 * max(reads), "of": READS},
        "verify_seconds": seconds,
        "verify_megabytes_per_second": bank.record_bytes() / 1e6 / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=100_000)
    parser.add_argument("--bank", type=Path, default=Path("runs/bench/bank"), help="written anew")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/bank.json"))
    parser.add_argument("--keep", action="store_true", help="leave the bank")
    options = parser.parse_args()
    shutil.rmtree(options.bank, ignore_errors=True)
    try:
        begun = time.perf_counter()
        generate(options.bank, options.scenes)
        written = time.perf_counter() - begun
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            measured = pool.submit(measure, options.bank).result()
        sizes = {path.suffix: path.stat().st_size for path in options.bank.iterdir() if path.is_file()}
        blocks = [path.stat().st_size for path in options.bank.glob("blocks/*")]
        result = {
            "machine": f"{processor_name()}, {os.cpu_count()} cores",
            "date": date.today().isoformat(),
            "scenes": options.scenes,
            "blocks": len(blocks),
            "block_bytes": sum(blocks),
            "index_bytes": sizes[".json"],
            "table_bytes": sizes[".sqlite"],
            "write_seconds": written,
            "cache": "as found",
            **measured,
        }
    finally:
        if not options.keep:
            shutil.rmtree(options.bank, ignore_errors=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    read = result["read_milliseconds"]
    print(
        f"{result['scenes']:,} scenes, {sum(blocks) / 1e9:.1f} GB in {len(blocks):,} blocks, as found in the page cache"
    )
    for title, value in {
        "write": f"{written:.1f} s",
        "open": f"{1e3 * result['open_seconds']:.2f} ms",
        "first scene, with its model": f"{result['first_scene_seconds']:.2f} s",
        "another scene, median": f"{read['median']:.2f} ms",
        f"another scene, worst of {READS}": f"{read['worst']:.2f} ms",
        "verify": f"{result['verify_megabytes_per_second']:.0f} MB/s",
        "scene table": f"{result['table_bytes'] / 1e6:.1f} MB",
    }.items():
        print(f"{title:<32}{value:>12}")


if __name__ == "__main__":
    main()
