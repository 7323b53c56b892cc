"""What a host pays for many scenes besides training them: python benchmarks/cost_model_measure.py [--sizes 10000 ...].

Everything is of the papers' size (160 views a scene, 144 to train on, planes of 3 × 64 × 64 × 10), on one rank, in
processes of their own, with the code that ``scaled-ig fit`` runs. Times are CPU time. Of the pack there is
``pack.json`` alone, of 100 scenes a file; content of records and images is drawn at random. What comes out is copied
into benchmarks/cost_model.py, which makes the tables of docs/scale.md.

Of ``--sizes`` scenes: the pack's index, the deal of stages and splits, ``scenes.json``, ``metrics.json`` and ``.csv``,
the bank's scene table. Of ``--waves`` scenes: views, their order, the keys of their latents, records of their test
views. Of a scene: its row of noise, its record in each encoding, its nearest training views.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in all children

import torch
from scale import machine

from data_modules.base import PhaseData
from data_modules.index_document import INDEX_FILE, SCHEMA_VERSION, json_sha256
from data_modules.shapenet import ShapeNetCars
from data_modules.views import PackViews
from scaled_ig.bank.changes import changing
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import ENCODINGS, encode
from scaled_ig.bank.table import BankRecord, insert
from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras, orbit
from scaled_ig.metrics.evaluation import over_scenes, per_scene
from scaled_ig.metrics.nearest_view import nearest_views
from scaled_ig.representations import MicroMacro
from scaled_ig.runs.checks import scenes_of
from scaled_ig.runs.run_folder import RunFolder

VIEWS, TEST, SCENES_PER_FILE, WAVE = 160, 16, 100, 1000
RECORD = {
    "psnr": 27.356448948383331, "ssim": 0.94682234525680542, "latent_psnr": 35.393137216567993, "lpips": 0.034599998,
    "autoencoder_psnr": 31.564719319343567,
}  # fmt: skip


def written_index(folder: Path, num_scenes: int) -> dict[str, Any]:
    """The index of a pack of so many scenes, whose files are not there."""
    rows = [
        {
            "id": f"{i:032x}",
            "category": "02958343",
            "shape": f"{i:032x}",
            "views": VIEWS,
            "sha256": f"{i:064x}",
            "masks": False,
        }
        for i in range(num_scenes)
    ]
    files = [rows[first : first + SCENES_PER_FILE] for first in range(0, num_scenes, SCENES_PER_FILE)]
    shards = [
        {"file": f"pack-{i:05d}.h5", "bytes": 0, "sha256": f"{i:064x}", "scenes": own} for i, own in enumerate(files)
    ]
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "image_size": [128, 128], "scene_radius": 0.5, "split": "first",
        "jobs": [], "left_out": [], "shards": shards,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / INDEX_FILE).write_text(json.dumps(document | {"sha256": json_sha256(document)}, indent=1))
    return {}


class Meter:
    """CPU seconds, MiB that stay and MiB at most of each thing that is done, by name."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begun = memory()["VmRSS"], time.process_time()
        value = work()
        self.result[f"{name}_seconds"] = round(time.process_time() - begun, 4)
        after = memory()
        self.result[f"{name}_mebibytes"] = round(after["VmRSS"] - before, 1)
        self.result[f"{name}_peak_mebibytes"] = round(after["VmHWM"] - before, 1)
        return value


def memory() -> dict[str, float]:
    """Resident memory of this process, now and at most, MiB."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in ("VmRSS:", "VmHWM:")}


def of_pack(num_scenes: int, folder: Path) -> dict[str, Any]:
    """Opening a pack, dealing its scenes, and the files that list them."""
    meter = Meter()
    data = ShapeNetCars(str(folder / "pack"), stage1_scenes=0)
    meter("open", lambda: data.index)
    meter("deal", lambda: data.scenes(2))
    meter("split", lambda: data.split(2, "train"))
    run = RunFolder(folder / "run")
    meter("scenes_json", lambda: run.write_json("scenes.json", scenes_of(data, {"latent_supervision": None})))  # type: ignore[dict-item]
    scenes = [
        {"id": name, "stage": 2, "num_views": TEST} | RECORD | {"nearest_view_psnr": 17.8} for name in data.scene_ids(2)
    ]
    run.write_metrics({"protocol": {}, "s2": over_scenes(scenes), "scenes": scenes})
    del scenes
    meter("metrics_rewrite", lambda: run.write_metrics(run.read_json("metrics.json")))
    sizes = {"pack_json": folder / "pack" / INDEX_FILE} | {
        name.replace(".", "_"): run.path / name for name in ("scenes.json", "metrics.json", "metrics.csv")
    }
    return meter.result | {f"{name}_bytes": path.stat().st_size for name, path in sizes.items()}


def of_plan(folder: Path) -> dict[str, Any]:
    """What a rank gets from each other rank to compare: the list of all scenes."""
    meter = Meter()
    sent = pickle.dumps(json.loads((folder / "run" / "scenes.json").read_text()))
    meter("plan", lambda: pickle.loads(sent))
    return meter.result | {"plan_bytes": len(sent)}


def of_bank(num_scenes: int, folder: Path) -> dict[str, Any]:
    """One more wave in a scene table that holds all others, and reading all of it."""
    meter, bank = Meter(), folder / "bank"

    def commit(scenes: range) -> None:
        names = ((f"{i:032x}", f"{i // 10000:08d}-{i % 1024:05d}.bin") for i in scenes)
        rows = (BankRecord(n, "stage2-0000", block, 0, 123200, "0" * 64, n * 2) for n, block in names)
        with changing(bank) as change:
            change.commit_scenes({}, partial(insert, records=rows))

    commit(range(num_scenes - WAVE))
    meter("table_change", lambda: commit(range(num_scenes - WAVE, num_scenes)))
    meter("table_list", lambda: list(SceneBank.open(bank)._table.scenes()))
    return meter.result | {"table_bytes": next(bank.glob("scenes-*.sqlite")).stat().st_size}


def of_wave(num_scenes: int, folder: Path) -> dict[str, Any]:
    """What a rank makes for a wave of its own scenes, before it trains and after."""
    meter = Meter()
    data = ShapeNetCars(str(folder / "pack"), stage1_scenes=0, stage2_scenes=num_scenes, batch_size=32)
    data = data.for_phase(PhaseData(2, 32, 1))
    data.scenes(2)
    views = meter("views", lambda: PackViews(data.index, data.scenes(2)))
    sampler = meter("order", lambda: data.sampler())
    meter("first_batch", lambda: next(iter(sampler)))
    del views

    def keys() -> Any:
        shards = {shard: sorted(own) for shard, own in data.own_training_shards().items()}
        every = [key for own in shards.values() for key in own]
        return shards, every, torch.tensor([(scene << 32) | view for scene, view in every])

    meter("latent_keys", keys)
    return meter.result


def of_records(num_scenes: int) -> dict[str, Any]:
    """Records of a wave's test views, of all ranks."""
    meter = Meter()
    records = meter(
        "test_records",
        lambda: [
            {"scene": s, "view": v} | {k: x + s for k, x in RECORD.items()}
            for s in range(num_scenes)
            for v in range(TEST)
        ],
    )
    meter.result["test_records_bytes"] = len(pickle.dumps(records))
    meter("per_scene", lambda: per_scene(records))
    return meter.result


class DrawnViews:
    """Views of random pixels, in memory."""

    with_images = True

    def __init__(self) -> None:
        around = orbit(VIEWS)
        self.cameras = Cameras(*vars(around).values())
        self.images = torch.randint(0, 256, (VIEWS, 3, 128, 128), dtype=torch.uint8)

    def __getitems__(self, keys) -> ViewBatch:
        scene, view = torch.tensor(keys).T
        return ViewBatch(self.cameras[view], scene, view, self.images[view] if self.with_images else None)


def of_scene() -> dict[str, Any]:
    """CPU milliseconds and bytes of one scene of the papers' size."""
    count, result = 32, dict[str, Any]()

    def a_scene(name: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        value = work()
        result[f"{name}_milliseconds"] = round(1000 * (time.process_time() - begun) / count, 3)
        return value

    model = MicroMacro()
    a_scene("noise_row", lambda: model.new_scenes(count, seed=0))
    mean = {name: table.mean() for name, table in model.scene_tables().items()}
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(3, 64, 64, 1, generator=generator) < 0.25  # objects fill a quarter of a plane
    rows = {
        "micro": mean["micro"] + 0.05 * seen * torch.randn(3, 64, 64, 10, generator=generator),
        "mixing": mean["mixing"],
    }
    for encoding in ENCODINGS:
        repeat = partial(lambda kind: [encode(rows, kind, mean) for _ in range(count)], encoding)
        records = a_scene(f"encode_{encoding}", repeat)
        result[f"{encoding}_bytes"] = len(records[0])
    train, test, views = [list(range(TEST, VIEWS))] * count, [list(range(TEST))] * count, DrawnViews()
    a_scene("nearest_views", lambda: nearest_views(views, train, test))
    return result


def alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Do it in a process of its own."""
    with get_context("fork").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--waves", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--scratch", type=Path, default=Path("data/bench/cost_model"), help="written anew")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/cost_model.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "date": date.today().isoformat(), "torch": torch.__version__}
    result |= {"scene": alone(of_scene), "sizes": options.sizes, "of_size": [], "waves": options.waves, "of_wave": []}
    for size in options.sizes:
        shutil.rmtree(options.scratch, ignore_errors=True)
        alone(written_index, options.scratch / "pack", size)
        result["of_size"].append(alone(of_pack, size, options.scratch) | alone(of_plan, options.scratch))
        result["of_size"][-1] |= alone(of_bank, size, options.scratch)
        print(size, result["of_size"][-1], flush=True)
    for wave in options.waves:
        result["of_wave"].append(alone(of_wave, wave, options.scratch) | alone(of_records, wave))
        print(wave, result["of_wave"][-1], flush=True)
    shutil.rmtree(options.scratch)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["scene"], indent=1))


if __name__ == "__main__":
    main()
