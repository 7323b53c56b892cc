"""Benchmarks run small, and say what they are to say; their seconds belong to the machine."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import storage
from benchmarks.quality import RECIPES, UNIT
from benchmarks.quality_costs import build
from benchmarks.quality_plot import draw, table
from benchmarks.rgb_rates import Row, Tries
from scaled_ig.runs.encodings import EncodingCost
from tests.conftest import LEAKS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scale(tmp_path_factory):
    """Result of benchmarks/scale.py: 20 scenes in one wave, 40 in two."""
    folder = tmp_path_factory.mktemp("scale")
    options = ("--sizes", "20", "40", "--wave", "20", "--repeats", "2", "--steps", "1")
    paths = ("--scratch", str(folder / "scratch"), "--out", str(folder / "scale.json"))
    clean = {name: value for name, value in os.environ.items() if name not in LEAKS and "SLURM" not in name}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/scale.py"), *options, *paths],
        env=clean | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (folder / "scale.png").stat().st_size > 10_000
    assert not (folder / "scratch").exists()
    return json.loads((folder / "scale.json").read_text())


@pytest.mark.slow("a benchmark of all contenders")
def test_scale_measures_all_contenders_at_all_sizes(scale):
    assert scale["num_scenes"] == scale["dense"]["num_scenes"] == scale["exact_dense"]["num_scenes"] == [20, 40]
    for contender in (scale, scale["dense"], scale["exact_dense"]):
        assert all(len(turns) == 2 * scale["repeats"] for turns in contender["turn_milliseconds"])
        for key in ("step_milliseconds", "optimizer_milliseconds", "resident_mebibytes"):
            assert all(value > 0 for value in contender[key])
    assert all(share > 0 for share in scale["wave_share_milliseconds"])
    first, last = scale["step_milliseconds"]
    assert scale["step_ratio_last_to_first"] == pytest.approx(last / first)
    assert scale["machine"]
    assert scale["versions"]
    assert scale["date"]


@pytest.mark.slow("a benchmark of several ranks")
def test_ranks_exchange_the_shared_parameters_alone(scale):
    wire = scale["bytes_per_step"]
    small, large = wire["num_scenes"]
    assert small < large
    for carried in wire["carried_by"]:
        # Two float32 losses for the log, and DDP's care that buffers are the same: 3 × 12 channels.
        assert carried == {"gradients": wire["shared_parameters"], "all_reduce": 2 * 4, "broadcast_coalesced": 36 * 4}
    assert wire["total"][0] == wire["total"][1] == sum(wire["carried_by"][0].values())
    bases, head = 10 * 3 * 32 * 32 * 22, (32 + 1) * 64 + (64 + 1) * 13
    assert wire["shared_parameters"] == 4 * (bases + head)


@pytest.mark.slow("measures the scale of both tables")
def test_a_dense_table_would_be_exchanged_whole(scale):
    wire = scale["bytes_per_step"]
    assert scale["row_bytes"] == 4 * (3 * 32 * 32 * 10 + 10)
    assert wire["dense"] == [n * scale["row_bytes"] + wire["shared_parameters"] for n in wire["num_scenes"]]


class KnownRow(Tries):
    """Reaches most at micro 0.4, head 0.00025, which are halved in long runs; two doublings of the steps pay."""

    def __init__(self, long: int):
        file = ROOT / "experiments/baselines/demo/tensorf.yaml"
        self.row, self.long = Row([file], "latent_supervision", ("micro", "head"), 100, 3200, []), long

    def psnr(self, rates, steps):
        slower = 2 ** (steps >= self.long)
        short_of = [math.log2(rates[group] * slower / best) for group, best in (("micro", 0.4), ("head", 0.00025))]
        return min(2, math.log2(steps / 100)) - 2 * sum(each**2 for each in short_of)


@pytest.mark.parametrize(("long", "factor"), [(10_000, 1), (200, 0.5)])
def test_rates_and_length_of_a_row_are_found(long, factor):
    tries = KnownRow(long)
    assert tries.row.rates() != (best := {"micro": 0.4, "head": 0.00025})
    assert tries.best_rates() == pytest.approx(best)
    assert tries.plateau(best) == ({group: factor * rate for group, rate in best.items()}, 400)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_the_frontier_can_be_built(name, tmp_path):
    fit = build([*RECIPES[name].arguments(), f"--data.path={tmp_path}", f"--run_dir={tmp_path}"])
    assert ("warm_up" in fit.plan.phases) == RECIPES[name].has_stage1
    assert fit.plan.phases["latent_supervision"].max_steps


def test_the_frontier_is_told_and_drawn(tmp_path):
    row = {"psnr": 31.0, "psnr_sd": 0.1, "seeds": 3, "seconds_per_scene": 2.0, "ratio_to_unit": 0.5}
    row |= {"bytes_per_scene": 4096, "stored_bytes_per_scene": 1024.0, "steps": 1000}
    rows = {"cars": {UNIT: row, "fast": row | {"psnr_sd": None, "seeds": 1}}, "faces": {"fast": row}}
    assert "| cars | whole ball | 31.00 | 0.10 (3) | 2.00 | 0.50 | 4 | 1.0 | 1,000 |" in table(rows).splitlines()
    draw(rows, ROOT / "docs/results/baselines-demo.csv", tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def test_a_stored_scene_is_held_to_both_goals(monkeypatch):
    costs = [
        EncodingCost("stage1", "float32", 122_920.0, 30.0, 0.0),
        EncodingCost("stage1", "int8_difference", 24_000.0, 29.96, -0.04),
        EncodingCost("stage2", "int8_difference", 24_000.0, 29.94, -0.06),
        EncodingCost("added-1", "int8_difference", 25_001.0, 30.01, 0.01),
    ]
    monkeypatch.setattr(storage, "measure_encodings", lambda *_: costs)
    rows = storage.measure(Path("run"), most_bytes=25_000)
    assert {name: row["passed"] for name, row in rows.items()} == {"stage1": True, "stage2": False, "added-1": False}
    assert rows["stage1"]["ratio"] == 20
    assert rows["stage1"]["check"] == "-0.0400 dB at 29.960 dB"


@pytest.mark.slow("packs cars")
def test_a_pack_too_small_to_stream_is_one_sentence(tmp_path):
    options = ("--scenes", "5", "--views", "20", "--pack", str(tmp_path / "pack"), "--out", str(tmp_path / "data.json"))
    clean = {name: value for name, value in os.environ.items() if name not in LEAKS and "SLURM" not in name}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/data.py"), *options],
        env=clean | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if "batches" in line]
    assert sentence.endswith("for each of 4 processes: give more --scenes or --views, 300 batches are needed")
    assert "Traceback" not in done.stderr
