"""Runs inside visual hulls: on any number of ranks, killed and gone on with, of scenes with and without masks."""

import json
import shutil

import pytest
import torch

from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.sources.base import SceneEntry
from scaled_ig.bank.blocks import read_start
from scaled_ig.bank.index import Index
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.documents import parse_yaml
from scaled_ig.runs.starting import fit_view_start, start_from_views
from tests.conftest import BallScenes
from tests.rounding import assert_same_run, checkpoint
from tests.test_checkpoint import KILLER
from tests.test_ddp import on, use_callback

PHASES = ("warm_up", "latent_supervision")
RUN = """
seed_everything: 3
adam: {clock: per_scene, eps: 0.01}  # so that runs can be compared: rounding.py
scene:
  representation:
    class_path: TriPlanes
    init_args: {channels: 6, plane_resolution: 12, extent: 0.5, plane_std: 0.1}
  autoencoder: {class_path: IdentityAutoencoder}
  sampling: {class_path: InsideHull, init_args: {num_samples: 8}}
  resolution: 32
data:
  class_path: ShapeNetCars
  init_args: {path: PACK, stage1_scenes: 4, stage2_scenes: 4, split_seed: null, batch_size: 4}
hand_over: {scene_mean: true, scene_views: true}
checkpoint_every_n_steps: 2
lpips: "off"
trainer: {accelerator: cpu, devices: 1, enable_progress_bar: false}
phases:
  warm_up:
    module: {class_path: WarmUp, init_args: {rays_per_view: 64, opacity_weight: 0.1}}
    max_steps: 8
  latent_supervision:
    module: {class_path: LatentSupervision, init_args: {rays_per_view: 64, opacity_weight: 0.1}}
    max_steps: 8
"""


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """The first six of eight scenes have masks, the last two of stage 2 have none."""
    folder = tmp_path_factory.mktemp("hulls")
    write_pack(BallScenes(8, 10, 32, masked=6), folder / "pack", render=None)
    (folder / "run.yaml").write_text(RUN.replace("PACK", str(folder / "pack")))
    return "fit", "--config", folder / "run.yaml"


@pytest.fixture(scope="module")
def alone(tmp_path_factory, run_scaled_ig, call):
    """A run by one process."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    status, output = run_scaled_ig(*call, "--run_dir", folder)
    assert status == 0, output[-3000:]
    return folder


def test_scenes_have_the_hulls_of_their_masks(alone):
    for phase, masked in (("warm_up", 4), ("latent_supervision", 2)):
        hulls = checkpoint(alone, phase)["state_dict"]["scene.representation.hull.weight"]
        assert hulls.dtype == torch.uint8
        everything = (hulls == 255).flatten(1).all(1)
        assert everything.tolist() == [scene >= masked for scene in range(4)]


def test_planes_move_where_hulls_read_them_alone(alone):
    weights = checkpoint(alone, "latent_supervision")["state_dict"]
    moments = checkpoint(alone, "latent_supervision")["optimizer_states"][0]["state"]
    planes, first = weights["scene.representation.micro.weight"], moments[0]["exp_avg"]
    assert first.shape == planes.shape
    moved = first.abs().amax(-1) > 0
    share = moved.float().mean((1, 2, 3))
    assert (share[:2] < 0.8).all()
    assert (share[2:] > 0.9).all(), "scenes without a hull train all texels of the ball"


@pytest.mark.slow("a run of two ranks")
def test_two_ranks_end_where_one_does(alone, tmp_path, run_scaled_ig, call):
    status, output = run_scaled_ig(*call, "--run_dir", tmp_path / "two", *on(2))
    assert status == 0, output[-3000:]
    assert_same_run(alone, tmp_path / "two", PHASES)
    ours, theirs = (SceneBank.open(run / "bank").view_start("stage1") for run in (alone, tmp_path / "two"))
    torch.testing.assert_close(ours.offset, theirs.offset, atol=1e-3, rtol=0)


def test_an_error_of_opacity_without_masks_is_said_to_be_nothing(tmp_path, run_scaled_ig, call):
    chosen = "--data.stage1_scenes={range: [6, 8]}", "--data.stage2_scenes={range: [0, 2]}"
    status, output = run_scaled_ig(*call, "--run_dir", tmp_path, *chosen, "--phases.latent_supervision", "null")
    assert status == 0, output[-3000:]
    assert "warm_up: opacity_weight has no effect: no scene of stage 1 has masks" in output


@pytest.mark.slow("killed runs, which are gone on with")
@pytest.mark.parametrize(("phase", "step"), [("warm_up", 5), ("latent_supervision", 3)])
def test_a_killed_run_ends_as_if_nothing_had_happened(alone, tmp_path, run_scaled_ig, call, phase, step):
    run = tmp_path / "killed"
    kill = use_callback(tmp_path, "KillAt", KILLER, phase=phase, step=step)
    status, output = run_scaled_ig(*call, "--run_dir", run, *kill, PYTHONPATH=str(tmp_path))
    assert status != 0, output[-3000:]
    status, output = run_scaled_ig(*call, "--run_dir", run, "--resume", "true")
    assert status == 0, output[-3000:]
    assert_same_run(alone, run, PHASES)


def test_what_the_bank_renders_is_what_was_trained(alone):
    """float32 records: to the bit, with the hull."""
    bank = SceneBank.open(alone / "bank")
    weights = checkpoint(alone, "latent_supervision")["state_dict"]
    for row, name in enumerate(f"ball-{scene}" for scene in range(4, 8)):
        model = bank.load_version("stage2", [name])
        assert torch.equal(model.representation.hull.weight[0], weights["scene.representation.hull.weight"][row])
        images = bank[name].render(orbit(2))
        model.representation.micro.weight.data[0] = weights["scene.representation.micro.weight"][row]
        trained = (model.render_image(orbit(2), torch.zeros(2, dtype=torch.long)) + 1) / 2
        assert torch.equal(images, trained)


def test_costs_count_what_is_kept(alone):
    bank, costs = SceneBank.open(alone / "bank"), json.loads((alone / "costs.json").read_text())
    assert costs["row_bytes"] == {"micro": 4 * 3 * 12 * 12 * 6, "hull": 64**3 // 8}
    kept = bank.record_bytes("stage2") / bank.versions["stage2"].num_scenes
    assert sum(costs["bytes_per_scene"].values()) == pytest.approx(kept, abs=1)


class NewBall(BallScenes):
    """One scene more, with masks."""

    def scenes(self):
        return [SceneEntry("ball-8", "ball")]


def test_scenes_are_added_with_hulls_of_their_own_and_learned_again(alone, tmp_path, run_scaled_ig):
    run = shutil.copytree(alone, tmp_path / "run")
    write_pack(NewBall(9, 10, 32, masked=9), tmp_path / "more", render=None)
    added = "add", "--run", run, "--pack", tmp_path / "more", "--bank_encoding", "int8_difference"
    status, output = run_scaled_ig(*added)
    assert status == 0, output[-3000:]
    status, output = run_scaled_ig("bank", "refit", run, "--scenes", "ball-4,ball-7")
    assert status == 0, output[-3000:]
    before, bank = SceneBank.open(alone / "bank"), SceneBank.open(run / "bank")
    assert not bank.verify()
    assert (bank["ball-8"].rows["hull"] != 255).any()
    assert bank["ball-8"].render(orbit(2)).std() > 0.01
    for name in before.ids:
        was, now = before[name], bank[name]
        assert torch.equal(was.rows["hull"], now.rows["hull"])
        assert (was.record.sha256 == now.record.sha256) or name in ("ball-4", "ball-7")


@pytest.mark.parametrize(("first", "second"), [("InsideBall", "InsideHull"), ("InsideHull", "InsideBall")])
def test_stage_2_may_sample_otherwise_than_its_stage_1(alone, tmp_path, run_scaled_ig, call, first, second):
    source = alone
    if first == "InsideBall":
        source = tmp_path / "source"
        only_first = (
            "--scene.sampling",
            first,
            "--phases.latent_supervision",
            "null",
            "--hand_over.scene_views",
            "false",
        )
        status, output = run_scaled_ig(*call, "--run_dir", source, *only_first)
        assert status == 0, output[-3000:]
    only_second = "--scene.sampling", second, "--phases.warm_up", "null"
    status, output = run_scaled_ig(*call, "--run_dir", tmp_path / "run", "--init_from", source, *only_second)
    assert status == 0, output[-3000:]
    assert ("has fitted no start from views" in output) == (first == "InsideBall")
    bank = SceneBank.open(tmp_path / "run" / "bank")
    assert not bank.verify()
    assert ("hull" in bank["ball-4"].rows) == (second == "InsideHull")
    assert torch.equal(bank.mean("stage2")["micro"], SceneBank.open(source / "bank").mean("stage1")["micro"])


@torch.no_grad()
def test_scenes_start_where_their_views_say(alone, capsys):
    """Stage 1's scenes fit the map, which further scenes have too; without masks scenes stay at the mean."""
    settings = parse_yaml((alone / "config.yaml").read_text())["data"]["init_args"]
    data, bank = ShapeNetCars(**settings), SceneBank.open(alone / "bank")
    model, mean = bank.load_version("stage1"), bank.mean("stage1")
    start = fit_view_start(model, data)
    for version in ("stage1", "stage2"):
        kept = bank.view_start(version)
        assert torch.equal(kept.weight, start.weight)
        assert torch.equal(kept.offset, start.offset)
    model.representation.new_scenes(4, start=mean)
    start_from_views(model, data, start, mean)
    rows, texels = model.representation.micro.weight, model.representation.texel_masks()[..., None]
    assert torch.equal(rows[2:], mean["micro"].expand_as(rows[2:]))
    assert "2 scenes have no masks that agree (ball-6, ball-7): they start at the mean" in capsys.readouterr().out
    trained = checkpoint(alone, "latent_supervision")["state_dict"]
    assert torch.equal(model.representation.hull.weight, trained["scene.representation.hull.weight"])
    away = ((rows - mean["micro"]) * texels).square().mean((1, 2, 3, 4)).sqrt()
    assert (away[:2] > 0.01).all()


def test_the_map_of_starts_is_an_item_of_what_is_shared(alone, run_scaled_ig):
    start = read_start(alone / "bank", Index.read(alone / "bank").versions["stage1"])
    status, output = run_scaled_ig("costs", alone)
    assert status == 0, output[-3000:]
    (table,) = json.loads((alone / "costs" / "cost_table.json").read_text())["runs"]
    assert table["shared_bytes"]["stage1"]["start of scenes"] == start.weight.nbytes + start.offset.nbytes


def test_a_start_from_views_needs_the_mean(tmp_path, run_scaled_ig, call):
    status, output = run_scaled_ig(*call, "--run_dir", tmp_path, "--hand_over.scene_mean", "false")
    assert status == 2
    assert "hand_over.scene_views needs hand_over.scene_mean: set both to true, or it to false" in output
    status, output = run_scaled_ig(*call, "--run_dir", tmp_path, "--scene.representation", "{class_path: KPlanes}")
    assert status == 2
    assert "hand_over.scene_views needs planes, which KPlanes does not have" in output


def test_scenes_without_planes_of_their_own_have_hulls_too(tmp_path, run_scaled_ig, call):
    """Ours-Macro: a scene is its mixing coefficients and its hull."""
    representation = "{class_path: MicroMacro, init_args: {micro_channels: 0, macro_channels: 6, plane_resolution: 12}}"
    options = "--scene.representation", representation, "--phases.warm_up.max_steps", 2
    status, output = run_scaled_ig(*call, *options, "--phases.latent_supervision.max_steps", 2, "--run_dir", tmp_path)
    assert status == 0, output[-3000:]
    bank = SceneBank.open(tmp_path / "bank")
    assert not bank.verify()
    assert set(bank[bank.ids[0]].rows) == {"mixing", "hull"}
