"""Files of a run."""

import csv

import pytest

from scaled_ig.errors import UsageError
from scaled_ig.runs.run_folder import RunFolder


def test_names(tmp_path):
    run = RunFolder(str(tmp_path / "run"))
    assert run.checkpoint("joint") == tmp_path / "run" / "checkpoints" / "joint" / "final.ckpt"
    assert run.checkpoint("warm_up", "last") == tmp_path / "run" / "checkpoints" / "warm_up" / "last.ckpt"
    assert run.bank == tmp_path / "run" / "bank"
    assert not run.path.exists(), "asking writes nothing"


def test_json_is_written_whole(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.read_json("costs.json") == {}
    run.write_json("costs.json", {"a": [1, 2.5, None]})
    with pytest.raises(TypeError):
        run.write_json("costs.json", {"b": object()})
    assert run.read_json("costs.json") == {"a": [1, 2.5, None]}
    assert [file.name for file in run.path.iterdir()] == ["costs.json"]


def test_training_is_rows_that_are_added(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.training.read() == []
    run.training.append("joint", 10, 1.23456, {"train/rgb": 0.5, "train/latent": 1e-7})
    run.training.append("joint", 20, 2.0, {"train/rgb": 0.25})
    assert run.training.read() == list(csv.DictReader((run.path / "training.csv").open()))
    read = [(row["phase"], int(row["step"]), row["name"], float(row["value"])) for row in run.training.read()]
    assert read == [
        ("joint", 10, "train/rgb", 0.5),
        ("joint", 10, "train/latent", 1e-7),
        ("joint", 20, "train/rgb", 0.25),
    ]


def test_training_beyond_a_step_is_forgotten(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.training.forget("joint", 0)
    assert not run.path.exists(), "there was nothing to forget"
    for phase in ("warm_up", "joint"):
        for step in (10, 20, 30):
            run.training.append(phase, step, 1.0, {"train/rgb": 0.5})
    run.training.forget("joint", 20)
    run.training.append("joint", 25, 1.5, {"train/rgb": 0.25})
    read = [(row["phase"], int(row["step"])) for row in run.training.read()]
    assert read == [("warm_up", 10), ("warm_up", 20), ("warm_up", 30), ("joint", 10), ("joint", 20), ("joint", 25)]
    assert [file.name for file in run.path.iterdir()] == ["training.csv"]


def test_metrics_are_written_twice(tmp_path):
    run = RunFolder(tmp_path / "run")
    row = {"num_views": 2, "psnr": 20.5, "ssim": 0.5, "lpips": None, "autoencoder_psnr": 30.0}
    scenes = [row | {"id": "b", "stage": 2}, row | {"id": "a", "stage": 1}]
    means = row | {"num_scenes": 1, "psnr_std": 1.5, "lpips_std": None}
    metrics = {"s1": means, "s2": means, "all": means, "scenes": scenes, "protocol": {}}
    run.write_metrics(metrics)
    assert run.read_json("metrics.json") == metrics
    rows = list(csv.reader((run.path / "metrics.csv").open(newline="")))
    assert rows[0] == [
        "split", "scene", "num_views", "psnr", "psnr_pooled", "psnr_small", "ssim", "ssim_signed", "lpips",
        "latent_psnr", "autoencoder_psnr", "stage1_autoencoder_psnr", "nearest_view_psnr",
    ]  # fmt: skip
    numbers, spreads = ["2", "20.5", "", "", "0.5", "", "", "", "30.0", "", ""], ["", "1.5", *[""] * 9]
    named = [("s1", "a"), ("s1", "mean"), ("s2", "b"), ("s2", "mean"), ("all", "mean")]
    assert [row for row in rows[1:] if row[1] != "std"] == [[*names, *numbers] for names in named]
    assert [row for row in rows if row[1] == "std"] == [[split, "std", *spreads] for split in ("s1", "s2", "all")]
    run.write_metrics(metrics | {"scenes": scenes[:1]}, "metrics_0+1_seed0")
    assert run.read_json("metrics_0+1_seed0.json")["scenes"] == scenes[:1]
    assert run.read_json("metrics.json") == metrics


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UsageError, match=r"metrics.json is damaged"):
        RunFolder(tmp_path).read_json("metrics.json")
