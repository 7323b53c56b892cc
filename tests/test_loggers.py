"""What loggers of a run hear, read back with the libraries that their files are for: of a run that was killed once."""

import csv
import json
import re
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from scaled_ig.bank.scene_bank import SceneBank
from tests.rounding import PHASES, checkpoint
from tests.test_checkpoint import KILLER
from tests.wandb_files import artifacts, config, files_of, history, run_of, summary, tables

pytestmark = pytest.mark.slow("a run with three loggers, killed and gone on with")
STEPS = {"autoencoder": 4} | dict.fromkeys(PHASES[1:], 12)
CUT = 4 + 12 + 9  # where the run is killed: W&B has not written its last rows by then
LOGGERS = """
trainer:
  log_every_n_steps: 2
  logger:
  - class_path: RunLogger
    init_args: {group: a table, job_type: a row, name: a run, tags: [demo, cars], artifacts: [bank]}
  - TensorBoardLogger
  - CSVLogger
  callbacks:
  - class_path: killer.Counting
"""
COUNTING = """
class Counting(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        module.log("mine/steps", float(trainer.global_step))
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory, run_scaled_ig, tiny_config) -> Path:
    """The tiny run with three loggers and a callback of the user's, killed in its third phase and gone on with."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "killer.py").write_text(KILLER + COUNTING)
    (folder / "loggers.yaml").write_text(LOGGERS)
    (folder / "kill.yaml").write_text(
        "trainer: {callbacks: [{class_path: killer.KillAt, init_args: {phase: joint, step: 9}}]}\n"
    )
    call = ("fit", "--config", tiny_config, "--config", folder / "loggers.yaml", "--run_dir", folder / "run")
    allowed = {"PYTHONPATH": str(folder)}
    packages = ("--allow-package", "killer")
    status, output = run_scaled_ig(*call, "--config", folder / "kill.yaml", *packages, **allowed)
    assert status == -9, output[-3000:]
    status, output = run_scaled_ig(*call, "--resume", "true", *packages, **allowed)
    assert status == 0, output[-3000:]
    assert "anonymous" not in output
    return folder / "run"


def events(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard"), {"images": 0, "scalars": 0, "histograms": 0}).Reload()


def test_logging_changes_nothing_that_is_learned(logged, tiny_run):
    for phase in PHASES:
        states = [checkpoint(run, phase)["state_dict"] for run in (logged, tiny_run)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), phase


def test_all_loggers_hear_the_same_numbers_on_one_axis(logged):
    by_logger: dict[str, dict[tuple[str, int], float]] = {}
    by_logger["wandb"] = {
        (key, row["trainer/global_step"]): value
        for file in files_of(logged)
        for row in history(file, is_finished=file == files_of(logged)[-1])
        for key, value in row.items()
        if isinstance(value, float | int) and "trainer/global_step" in row
    }
    read = events(logged)
    by_logger["tensorboard"] = {
        (name, event.step): event.value for name in read.Tags()["scalars"] for event in read.Scalars(name)
    }
    by_logger["csv"] = {
        (name, int(row["step"])): float(value)
        for version in (0, 1)
        for row in csv.DictReader((logged / "csv" / f"version_{version}" / "metrics.csv").open())
        for name, value in row.items()
        if value and name != "step"
    }
    for key in ("train/total", "mine/steps", "lr/micro", "test/psnr", "axes/images", "axes/phase", "quality/s2/psnr"):
        series = {
            logger: {step: value for (name, step), value in values.items() if name == key}
            for logger, values in by_logger.items()
        }
        assert series["wandb"], key
        for logger in ("tensorboard", "csv"):
            assert series["wandb"].keys() <= series[logger].keys(), (key, logger)
            assert max([*series[logger].keys() - series["wandb"].keys(), 0]) < CUT, (
                "W&B loses a second of what is killed"
            )
            for step, value in series["wandb"].items():
                assert series[logger][step] == pytest.approx(value, rel=1e-6), (key, logger, step)
        assert series["csv"].keys() == series["tensorboard"].keys()
    assert sorted(step for name, step in by_logger["csv"] if name == "train/total") == list(range(1, 52, 2))
    assert by_logger["csv"]["mine/steps", 51] == 12, "the last step of the last phase"


def test_axes_go_on_over_phases_and_resumptions(logged):
    rows = [row for file in files_of(logged) for row in history(file, file == files_of(logged)[-1])]
    rows = [row for row in rows if "axes/seconds" in row]
    assert all({"axes/phase", "axes/images", "axes/scenes", "trainer/global_step"} <= row.keys() for row in rows)
    assert all(row["axes/images"] == 4 * row["trainer/global_step"] for row in rows)
    costs = json.loads((logged / "costs.json").read_text())["phases"]
    assert rows[-1]["axes/seconds"] == pytest.approx(sum(phase["seconds"] for phase in costs.values()), abs=0.05)
    started, before = 0, 0.0
    for number, name in ((1, "autoencoder"), (2, "warm_up"), (3, "joint"), (5, "latent_supervision")):
        phase_rows = [row for row in rows if row["axes/phase"] == number]
        assert {row["axes/scenes"] for row in phase_rows} == {8 if number > 3 else 4}
        assert min(row["trainer/global_step"] for row in phase_rows) >= started
        assert min(row["axes/seconds"] for row in phase_rows) >= before - 0.001
        started, before = started + STEPS[name], before + costs[name]["seconds"]
    assert [row["axes/phase"] for row in rows if "test/num_views" in row] == [1, 2, 3, 5, 6]


def test_one_run_of_wandb_bears_all_of_it(logged):
    files = files_of(logged)
    assert len(files) == 2, "an offline run has a file for each process"
    runs = [run_of(file) for file in files]
    assert {run.run_id for run in runs} == {(logged / "wandb" / "run_id").read_text().strip()}
    assert [(run.run_group, run.job_type, run.display_name) for run in runs] == [("a table", "a row", "a run")] * 2
    assert list(runs[0].tags) == ["demo", "cars"]
    written = config(files[-1])
    asked = yaml.safe_load((logged / "config.yaml").read_text())
    assert written["phases"]["joint"]["max_steps"] == 12
    assert written["scene"] == asked["scene"]
    assert written["data"] == asked["data"]
    facts = json.loads((logged / "provenance.jsonl").read_text().splitlines()[-1])
    for key in ("commit", "versions", "pack_sha256", "seed"):
        assert written["provenance"][key] == facts[key]
    metrics = json.loads((logged / "metrics.json").read_text())
    assert summary(files[-1])["quality/s2/psnr"] == metrics["s2"]["psnr"]


def test_the_page_on_loggers_lists_every_key(logged):
    page = (Path(__file__).parents[1] / "docs" / "wandb.md").read_text().partition("## What is logged")[2]
    first_cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = [key for cell in first_cells for key in re.findall(r"`(.*?)`", cell)]
    keys = {key for file in files_of(logged) for row in history(file, file == files_of(logged)[-1]) for key in row}
    keys -= {"_step", "_runtime", "_timestamp", "trainer/global_step"} | {
        key for key in keys if key.startswith("mine/")
    }
    keys = {key.removesuffix("_table") for key in keys}
    assert not {key for key in keys if not any(fnmatch(key, form) for form in listed)}, "not listed"
    val = {"val/*"}  # the tiny run watches none
    assert {form for form in listed if not any(fnmatch(key, form) for key in keys)} == val, "not logged"
    assert set(re.findall(r"`((?:cost|scenes|pictures|quality|axes)/\w[\w/]*)`", page)) <= keys


def test_wandb_keeps_scenes_curves_and_the_bank(logged):
    file = files_of(logged)[-1]
    of_phases = tables(file, "scenes/stage2")
    assert [len(rows) for rows in of_phases] == [4, 4], "one at the end of each phase of stage 2"
    measured = {scene["id"]: scene for scene in json.loads((logged / "metrics.json").read_text())["scenes"]}
    for row in of_phases[-1]:
        assert row["PSNR"] == measured[row["scene"]]["psnr"]
        assert np.asarray(Image.open(row["rendering"])).shape == (32, 32, 3)
    (curve,) = tables(file, "cost/bytes_table")
    costs = json.loads((logged / "costs.json").read_text())
    shared, each = (sum(costs[name].values()) for name in ("shared_bytes", "bytes_per_scene"))
    assert [row["bytes a scene"] for row in curve] == pytest.approx([shared / row["scenes"] + each for row in curve])
    assert curve[0]["scenes"] == 5, "the first four are learned together"
    (bank,) = artifacts(file, "bank")
    names = {str(path.relative_to(logged / "bank")) for path in (logged / "bank").rglob("*") if path.is_file()}
    assert {name for name in names if not name.endswith(".lock")} <= bank.keys()
    copy = logged.parent / "copy"
    for name, path in bank.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(path.read_bytes())
    assert SceneBank.open(copy).ids == SceneBank.open(logged / "bank").ids


def test_tensorboard_shows_pictures_and_histograms(logged):
    read = events(logged)
    assert set(read.Tags()["images"]) == {"pictures/grid", "pictures/orbit"}
    grids = read.Images("pictures/grid")
    assert [(grid.step, grid.width, grid.height) for grid in grids] == [
        (4, 2 * 32, 8 * 32), *((step, 7 * 32, 8 * 32) for step in (16, 28, 40, 52))
    ]  # fmt: skip
    assert read.Histograms("scenes/psnr")[-1].histogram_value.num == 4
    settings = yaml.safe_load((logged / "tensorboard" / "hparams.yaml").read_text())
    assert settings["phases"]["joint"]["max_steps"] == 12
    assert yaml.safe_load((logged / "csv" / "version_1" / "hparams.yaml").read_text())["provenance"]["seed"] == 3
