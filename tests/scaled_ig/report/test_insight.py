"""Latents across views and base planes in the report, and ``insight.json``."""

import json
import shutil

import pytest
import torch

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.batch import to_unit_range
from scaled_ig.commands.report import report
from scaled_ig.metrics.images import psnr
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.report.awareness import encoder_before, measure_awareness
from scaled_ig.report.base_planes import measure_bases
from scaled_ig.representations import TriPlanes
from scaled_ig.runs.record import RunRecord
from scaled_ig.scene_model import SceneModel


@pytest.fixture
def run(tiny_run, tmp_path):
    """A run whose scenes of stage 2 fill the ball: twelve steps have not yet made a surface."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("latents"))
    model = SceneBank.open(folder / "bank").load_version("stage2")
    model.renderer.head.out.bias[0] += 100
    return put(folder, model)


def put(folder, model):
    """Give a run other scenes of stage 2."""
    record = RunRecord.open(folder)
    scenes = record.bank.scenes("stage2")
    ids, digests = [scene.id for scene in scenes], [scene.source_sha256 for scene in scenes]
    SceneBank.write(folder / "bank", model, ids, "stage2", digests)
    return folder


def measured(folder):
    record = RunRecord.open(folder)
    return record, record.open_data()


def test_views_of_a_run_are_compared_before_and_after_stage_1(run):
    found = measure_awareness(*measured(run))
    numbers = found.numbers
    assert (numbers["stage"], numbers["scenes"], numbers["pairs"]) == (2, 4, 24)
    assert numbers["pixels"] > 100
    assert 0 < numbers["mean_degrees"] < 90
    assert all(0 < numbers[name] < 2 for name in ("images", "before", "after"))
    assert numbers["before"] != numbers["after"]
    assert [len(row) for row in found.pictures.values()] == [6, 6, 6]
    assert {name: row[0].shape for name, row in found.pictures.items()} == {
        "images": (32, 32, 3), "before": (8, 8, 3), "after": (8, 8, 3),
    }  # fmt: skip


def test_the_autoencoder_before_is_that_of_its_own_phase(run):
    record, _ = measured(run)
    now = record.bank[record.scenes(2)[0]["id"]].model.autoencoder
    before, kept = encoder_before(record, now), {name: value.clone() for name, value in now.state_dict().items()}
    saved = torch.load(run / "checkpoints" / "autoencoder" / "final.ckpt", weights_only=True)["state_dict"]
    for name, value in before.state_dict().items():
        assert torch.equal(value, saved[f"scene.autoencoder.{name}"])
    assert all(torch.equal(value, kept[name]) for name, value in now.state_dict().items())
    assert any(not torch.equal(value, kept[name]) for name, value in before.state_dict().items())


def test_stage_2_alone_looks_for_it_in_the_run_that_it_took_over(run, tmp_path):
    record, _ = measured(run)
    now = record.bank[record.scenes(2)[0]["id"]].model.autoencoder
    record.config["init_from"] = str(run)
    assert encoder_before(record, now) is not None
    record.config["init_from"] = str(tmp_path / "gone")
    assert encoder_before(record, now) is None


@pytest.mark.slow("writes a page")
def test_a_page_without_the_autoencoder_before_shows_the_one_after(run):
    shutil.rmtree(run / "checkpoints")
    assert report(str(run)) == 0
    text, insight = (run / "report.html").read_text(), json.loads((run / "insight.json").read_text())
    assert "before" not in insight["consistency"]
    assert insight["consistency"]["after"] > 0
    assert "is not known here" in text
    assert "latents after stage 1" in text
    assert "latents before stage 1" not in text


def test_parts_of_scenes_are_measured_without_each_other(run):
    record, data = measured(run)
    found = measure_bases(record, data, 2)
    numbers, model = found.numbers, record.bank.load_version("stage2")
    batches = list(data.views_of(2, [scene["id"] for scene in record.scenes(2)], "test"))
    assert (numbers["scenes"], numbers["views"]) == (4, sum(map(len, batches)))
    tables = model.representation.scene_tables()
    whole = {name: table.weight.clone() for name, table in tables.items()}
    for name, part in {"psnr": None, "psnr_without_micro": "micro", "psnr_without_macro": "mixing"}.items():
        for each, table in tables.items():
            table.weight.data = torch.zeros_like(whole[each]) if each == part else whole[each].clone()
        values = [
            psnr(to_unit_range(model.render_image(batch.cameras, batch.scene_index)), to_unit_range(batch.pixels))
            for batch in batches
        ]
        assert numbers[name] == pytest.approx(float(torch.cat(values).mean()), abs=1e-3)
    assert sum(numbers["shares"]) == pytest.approx(1)
    assert 1 <= numbers["effective_rank_mixing_less_mean"] <= numbers["num_bases"] == 3
    assert {title: len(row) for title, row in found.pictures.items()} == {"XY": 3, "XZ": 3, "YZ": 3}


def test_pictures_of_bases_begin_with_the_most_used_and_stand_upright(run):
    model = SceneBank.open(run / "bank").load_version("stage2")
    model.representation.bases.zero_()
    model.representation.bases[1] = 9.0
    model.representation.bases[1, 1, :4] = -9.0  # XZ, below
    model.representation.mixing.weight[:] = 1.0
    found = measure_bases(*measured(put(run, model)), 2)
    first, second, _ = found.pictures["XZ"]
    assert found.numbers["shares"] == pytest.approx([0, 1, 0])
    assert (second == second[0, 0]).all()
    upper = found.pictures["XY"][0][0, 0]
    assert (first[:4] == upper).all()
    assert (first[4:] != upper).any(-1).all()


def test_scenes_on_pixels_without_bases_leave_both_parts_out(run, tiny_scene):
    rgb = tiny_scene(rgb=True)
    model = SceneModel(TriPlanes(4, 8, 0.5), rgb.autoencoder, InsideBall(8), resolution=32)
    model.representation.new_scenes(4)
    put(run, model)
    bank = SceneBank.open(run / "bank")
    bank.remove([scene.id for scene in bank.scenes("stage1")])
    assert report(str(run)) == 0
    text = (run / "report.html").read_text()
    assert "Latents across views" not in text
    assert "What bases learn" not in text
    assert json.loads((run / "insight.json").read_text()) == {"consistency": None, "bases": {}}
