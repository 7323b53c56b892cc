"""``scaled-ig costs``: the items of a run add up to its files, and its charts can be read."""

import csv
import io
import json
import shutil

import matplotlib.pyplot as plt
import pytest
import yaml
from PIL import Image

from scaled_ig.commands.costs import costs
from scaled_ig.errors import UsageError
from scaled_ig.metrics.accounting import Growth
from scaled_ig.metrics.costs import bytes_per_scene, shared_bytes
from scaled_ig.report import cost_figures
from scaled_ig.report.cost_figures import Curve, Point, draw_landscape
from scaled_ig.report.run_costs import RunCosts
from scaled_ig.runs.record import RunRecord
from tests.scaled_ig.metrics.test_costs import size_of

IGNORED = shutil.ignore_patterns("checkpoints", "latents")


@pytest.fixture(scope="module")
def itemised(tmp_path_factory, tiny_run):
    """A copy of a run, a twin whose stage 2 took half the time on four GPUs, and the folder with their costs."""
    folder = tmp_path_factory.mktemp("costs")
    ours, twin = (shutil.copytree(tiny_run, folder / name, ignore=IGNORED) for name in ("ours", "twin"))
    written = json.loads((twin / "costs.json").read_text())
    for phase in written["phases"].values():
        phase["seconds"] /= 2 if phase["stage"] == 2 else 1
    written["machine"] |= {"device": "cuda:0", "ranks": 4}
    (twin / "costs.json").write_text(json.dumps(written))
    assert costs([str(ours), str(twin)], baseline=str(ours), out=str(folder / "out")) == 0
    return ours, twin, folder / "out"


def tables(itemised):
    return json.loads((itemised[2] / "cost_table.json").read_text())["runs"]


def test_items_add_up_to_the_bytes_on_disk(itemised):
    run, table = itemised[0], tables(itemised)[0]
    ((folder, sums),) = table["disk_sums"].items()
    assert folder == str(run / "bank")
    assert sums == {"items": size_of(run / "bank"), "files": size_of(run / "bank")}
    overhead = sum(table["disk_bytes"][folder]["index"].values())
    overhead += sum(sizes["contents"] for name, sizes in table["disk_bytes"][folder].items() if name[:6] == "shared")
    raw = table["bytes"]["m1"] + table["num_scenes"]["n2"] * table["bytes"]["mu"]
    assert raw == sums["files"] - overhead  # float32 records: nothing but the finding of them is added


def test_raw_bytes_are_those_of_the_model(itemised):
    model, table = RunRecord.open(itemised[0]).bank.load_version("stage2"), tables(itemised)[0]
    assert table["bytes_per_scene"] == bytes_per_scene(model)
    assert table["bytes"]["mu"] == 4 * table["trainable_floats_per_scene"] == sum(bytes_per_scene(model).values())
    shared = {name: size for name, size in shared_bytes(model).items() if size} | {"mean scene": table["bytes"]["mu"]}
    assert table["shared_bytes"] == {"stage1": shared, "stage2": shared}
    assert table["bytes"]["m1"] == 2 * sum(shared.values()) + 4 * table["bytes"]["mu"]
    assert table["bytes"]["m_eff"] == table["bytes"]["m1"] / 4 + table["bytes"]["mu"]


def test_moments_are_twice_what_a_phase_trains(itemised):
    table = tables(itemised)[0]
    own, shared = table["bytes_per_scene"], table["shared_bytes"]["stage1"]
    parts = {"bases", "head", "encoder", "decoder"}
    expected = {name: 2 * shared[name] for name in parts} | {name: 2 * 4 * size for name, size in own.items()}
    assert table["adam_moment_bytes"]["stage1"] == expected  # those of joint training
    del expected["encoder"]
    assert table["adam_moment_bytes"]["stage2"] == expected  # those of RGB alignment


@pytest.mark.parametrize(
    ("options", "part", "is_trained"),
    [({"encoder_follows": True}, "encoder", True), ({"decoder": "small"}, "decoder", False)],
)
def test_moments_are_of_what_the_options_of_alignment_train(itemised, tmp_path, options, part, is_trained):
    folder = shutil.copytree(itemised[0], tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["phases"]["rgb_alignment"]["module"]["init_args"] |= options
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    moments = RunCosts.of(RunRecord.open(folder)).moment_items(2)
    assert (part in moments) == is_trained


def test_scenes_that_keep_a_part_of_their_rows_train_all_of_them(itemised, tmp_path):
    """Moments and the mean scene are as long as rows are in memory."""
    usual = RunCosts.of(RunRecord.open(itemised[0]))
    folder = shutil.copytree(itemised[0], tmp_path / "hulls")
    written = json.loads((folder / "costs.json").read_text())
    assert written["row_bytes"] == written["bytes_per_scene"], "of scenes without hulls"
    written["bytes_per_scene"]["micro"] //= 4
    (folder / "costs.json").write_text(json.dumps(written))
    found = RunCosts.of(RunRecord.open(folder))
    assert found.bytes.each < usual.bytes.each
    assert found.moment_items(2) == usual.moment_items(2)
    assert found.shared_items() == usual.shared_items()
    del written["row_bytes"]  # as runs were before
    written["bytes_per_scene"]["micro"] *= 4
    (folder / "costs.json").write_text(json.dumps(written))
    assert RunCosts.of(RunRecord.open(folder)).bytes == usual.bytes


def test_minutes_and_gpu_minutes(itemised):
    ours, twin = tables(itemised)
    phases = json.loads((itemised[0] / "costs.json").read_text())["phases"]
    seconds = {stage: sum(one["seconds"] for one in phases.values() if one["stage"] == stage) for stage in (1, 2)}
    assert ours["wall_minutes"]["t1"] == pytest.approx(seconds[1] / 60)
    assert ours["wall_minutes"]["tau"] == pytest.approx(seconds[2] / 60 / 4)
    assert ours["wall_minutes"]["t_eff"] == pytest.approx(seconds[1] / 60 / 4 + seconds[2] / 60 / 4)
    assert ours["gpu_minutes"] is None
    assert twin["wall_minutes"]["tau"] == pytest.approx(ours["wall_minutes"]["tau"] / 2)
    assert twin["gpu_minutes"] == pytest.approx({name: 4 * value for name, value in twin["wall_minutes"].items()})
    assert "break_even" not in ours
    assert twin["break_even"]["wall_minutes"]["scenes"] == 4  # from N1 on
    assert twin["break_even"]["baseline"] == "ours"


def test_files_can_be_read(itemised):
    out = itemised[2]
    rows = {row["quantity"]: row for row in csv.DictReader((out / "cost_table.csv").open())}
    assert float(rows["wall_minutes / tau"]["ours"]) == tables(itemised)[0]["wall_minutes"]["tau"]
    growth = list(csv.DictReader((out / "growth.csv").open()))
    last, table = growth[-1], tables(itemised)[0]
    grown = table["wall_minutes"]["t1"] + (int(last["scenes"]) - 4) * table["wall_minutes"]["tau"]
    assert float(last["ours / minutes"]) == pytest.approx(grown)
    assert growth[0] == {"scenes": "1"} | dict.fromkeys(list(last)[1:], "")  # below N1 there is none
    assert len(list(csv.DictReader((out / "landscape.csv").open()))) == 2
    for name in ("growth.png", "landscape.png"):
        Image.open(out / name).verify()


def test_a_run_of_stage_2_has_the_stage_1_that_it_began_from(itemised, tmp_path):
    ours = itemised[0]
    second = shutil.copytree(ours, tmp_path / "second")
    config, written = (
        yaml.safe_load((second / "config.yaml").read_text()),
        json.loads((second / "costs.json").read_text()),
    )
    written["phases"] = {name: phase for name, phase in written["phases"].items() if phase["stage"] == 2}
    config["phases"] = {name: phase for name, phase in config["phases"].items() if name in written["phases"]}
    (second / "costs.json").write_text(json.dumps(written))
    (second / "config.yaml").write_text(yaml.safe_dump(config))
    alone, whole = RunCosts.of(RunRecord.open(second)), RunCosts.of(RunRecord.open(ours))
    assert (alone.minutes.once, alone.minutes.first) == (0, 0)
    for source, stage1 in ((ours, None), (tmp_path / "moved", str(ours))):
        (second / "config.yaml").write_text(yaml.safe_dump(config | {"init_from": str(source)}))
        found = RunCosts.of(RunRecord.open(second), stage1=stage1)
        assert (found.minutes, found.bytes) == (whole.minutes, whole.bytes)  # equal versions are counted once
    with pytest.raises(UsageError, match="--stage1 names it"):
        RunCosts.of(RunRecord.open(second))
    with pytest.raises(UsageError, match="--stage1 has no effect"):
        costs([str(ours)], stage1=str(ours))


def test_labels_cover_neither_each_other_nor_a_line(monkeypatch):
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    points = [Point(f"a way to learn {row}", 30 + 0.1 * row, (1.0, 1.0), (1.1, 9.0)) for row in range(6)]
    points.append(Point("far away", 20, (10.0, 20.0)))
    assert Image.open(io.BytesIO(draw_landscape(points, "dot", "ring"))).size[0] > 1000
    kept[0].canvas.draw()
    for axes in kept[0].axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == len(points)
        assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
        dots = [axes.transData.transform(point) for line in axes.lines for point in line.get_xydata()]
        assert not any(box.contains(*dot) for box in boxes for dot in dots)


def test_counts_hold_every_n1_and_no_curve_starts_before_its_own():
    curves = [Curve("a", Growth(5, 1, 37), Growth(5e6, 1e6, 37)), Curve("b", Growth(0, 1), Growth(0, 1e6))]
    counts = cost_figures.scene_counts(curves, 900)
    assert (counts[0], counts[-1]) == (1, 1000)
    assert 37 in counts
    assert curves[0].at(36) is None
    assert curves[0].at(40) == (8, 8)
    assert curves[1].at(1) == (1, 1)
