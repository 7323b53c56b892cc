"""Files of a run."""

import csv

import pytest

from scaled_ig.run_folder import RunFolder


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


def test_metrics_are_rows_that_are_added(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.read_metrics() == []
    run.append_metrics("joint", 10, 1.23456, {"train/rgb": 0.5, "train/latent": 1e-7})
    run.append_metrics("joint", 20, 2.0, {"train/rgb": 0.25})
    assert run.read_metrics() == list(csv.DictReader((run.path / "metrics.csv").open()))
    read = [(row["phase"], int(row["step"]), row["name"], float(row["value"])) for row in run.read_metrics()]
    assert read == [
        ("joint", 10, "train/rgb", 0.5),
        ("joint", 10, "train/latent", 1e-7),
        ("joint", 20, "train/rgb", 0.25),
    ]
