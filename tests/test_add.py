"""Scenes that are added later: those learned before render as they did, bit for bit."""

import json
import shutil

import pytest
import torch

from data_modules.packing.pack import write_pack
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from tests.conftest import BallScenes
from tests.rounding import assert_same_scenes
from tests.test_checkpoint import KILLER

OLD = [f"ball-{scene}" for scene in range(8)]
NEW = [f"ball-{scene}" for scene in range(8, 12)]


@pytest.fixture(scope="module")
def larger_pack(tmp_path_factory):
    """The tiny pack's eight scenes, and four more."""
    folder = tmp_path_factory.mktemp("packs") / "larger"
    write_pack(BallScenes(12, 10, 32), folder, render=None)
    return folder


@pytest.fixture(scope="module")
def run_with_more(tmp_path_factory, run_scaled_ig, tiny_run, larger_pack):
    """A copy of the tiny run to which four scenes were added, and what was printed."""
    run = tmp_path_factory.mktemp("runs") / "more"
    shutil.copytree(tiny_run, run)
    status, output = run_scaled_ig("add", "--run", run, "--pack", larger_pack)
    assert status == 0, output[-3000:]
    return run, output


def renders(run, ids=OLD) -> list[torch.Tensor]:
    bank = SceneBank.open(run / "bank")
    return [bank[name].render(orbit(2)) for name in ids]


def files(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_old_scenes_render_bit_for_bit_as_before(tiny_run, run_with_more):
    run, _ = run_with_more
    assert all(torch.equal(now, then) for now, then in zip(renders(run), renders(tiny_run), strict=True))


def test_new_scenes_are_learned_with_the_shared_parts_as_they_are(tiny_run, run_with_more):
    run, output = run_with_more
    bank = SceneBank.open(run / "bank")
    assert [record.id for record in bank.scenes("added-1")] == NEW
    assert bank.versions["added-1"].shared_sha256 == bank.versions["stage2"].shared_sha256
    mean = bank.mean("stage2")
    for name in NEW:
        assert (bank[name].rows["micro"] - mean["micro"]).abs().max() > 1e-4, "it has moved from where it started"
        assert bank[name].render(orbit(1)).isfinite().all()
    metrics = json.loads((run / "added-1" / "metrics.json").read_text())["s2"]
    *_, last, following = output.strip().splitlines()
    assert following == f"next: scaled-ig render {run}"
    assert last.startswith("4 scenes learned in ")
    assert f"s a scene, {metrics['psnr']:.2f} dB on {metrics['num_views']} unseen views" in last


def test_a_pack_without_new_scenes_is_said(run_scaled_ig, run_with_more, larger_pack):
    run, _ = run_with_more
    before = files(run)
    status, output = run_scaled_ig("add", "--run", run, "--pack", larger_pack)
    assert (status, output.strip().splitlines()[-1]) == (
        2,
        f"error: {run}/bank has all scenes of {larger_pack} already: bank refit learns scenes again",
    )
    assert files(run) == before


def test_scenes_are_kept_after_the_last_phase_that_there_is(tmp_path, run_scaled_ig, tiny_run, larger_pack):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    status, output = run_scaled_ig("add", "--run", run, "--pack", larger_pack, "--phases.rgb_alignment", "null")
    assert status == 0, output[-3000:]
    assert [record.id for record in SceneBank.open(run / "bank").scenes("added-1")] == NEW


def test_what_add_sets_itself_is_refused(run_scaled_ig, tiny_run, larger_pack):
    call = ("add", "--run", tiny_run, "--pack", larger_pack)
    for option in ("--run_dir=elsewhere", "--data.scenes={ids: [ball-8]}"):
        status, output = run_scaled_ig(*call, option)
        assert status == 2
        assert "is not for this command, which sets it: leave it out" in output
    assert not (tiny_run / "added-1").exists()


def test_an_unfinished_run_is_finished_first(tmp_path, run_scaled_ig, tiny_run, larger_pack):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checkpoints" / "rgb_alignment" / "final.ckpt").unlink()
    status, output = run_scaled_ig("add", "--run", run, "--pack", larger_pack)
    assert status == 2
    assert "has not finished stage 2 yet: go on with scaled-ig fit --resume true" in output


def test_another_scene_of_the_same_name_is_refused(tmp_path, run_scaled_ig, tiny_run):
    class Renamed(BallScenes):
        """Other balls under the names of the run's."""

        def load(self, scene_id):
            return super().load(f"ball-{int(scene_id.split('-')[1]) + 20}")

    write_pack(Renamed(8, 10, 32), tmp_path / "pack", render=None)
    status, output = run_scaled_ig("add", "--run", tiny_run, "--pack", tmp_path / "pack")
    assert status == 2
    assert "has another scene 'ball-0': pack it under another id, or remove the old one" in output
    assert not (tiny_run / "added-1").exists()


@pytest.mark.slow("runs of two ranks")
def test_a_call_of_two_ranks_that_was_killed_goes_on_with_one(
    tmp_path, run_scaled_ig, tiny_run, run_with_more, larger_pack
):
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "kill.yaml").write_text(
        "trainer: {callbacks: [{class_path: killer.KillAt, init_args: {phase: rgb_alignment, step: 5}}]}\n"
    )
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    bank = files(run / "bank")
    call = ("add", "--run", run, "--pack", larger_pack, "--trainer.devices", 2, "--trainer.strategy", "ddp")
    status, _ = run_scaled_ig(
        *call, "--config", tmp_path / "kill.yaml", "--allow-package", "killer", PYTHONPATH=str(tmp_path)
    )
    assert status != 0
    assert files(run / "bank") == bank, "nothing half done"
    status, output = run_scaled_ig(*call[:5])
    assert status == 0, output[-3000:]
    assert "latent_supervision" not in output, "what was finished is not done again"
    ours, theirs = (SceneBank.open(folder / "bank") for folder in (run, run_with_more[0]))
    assert_same_scenes(run_with_more[0], run)
    assert ours.versions["added-1"].shared_sha256 == theirs.versions["added-1"].shared_sha256


def test_new_scenes_may_have_shared_parts_of_their_own(tmp_path, run_scaled_ig, tiny_run, larger_pack):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    status, output = run_scaled_ig("add", "--own_shared", "--data", larger_pack, "--run", run)
    assert status == 0, output[-3000:]
    before, after = SceneBank.open(tiny_run / "bank").versions, SceneBank.open(run / "bank").versions
    assert {name: after[name] for name in before} == before
    assert after["added-1"].shared_sha256 != before["stage2"].shared_sha256
    assert all(torch.equal(now, then) for now, then in zip(renders(run), renders(tiny_run), strict=True))


def test_refitted_scenes_take_the_place_of_the_old_ones(tmp_path, run_scaled_ig, tiny_run):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = SceneBank.open(run / "bank")
    order = [record.id for record in before.scenes("stage2")]
    chosen, others = order[1:3], [name for name in OLD if name not in order[1:3]]
    status, output = run_scaled_ig("bank", "refit", run, "--scenes", ",".join(chosen))
    assert status == 0, output[-3000:]
    after = SceneBank.open(run / "bank")
    assert after.ids == before.ids
    assert {name: version.shared_sha256 for name, version in after.versions.items()} == {
        name: version.shared_sha256 for name, version in before.versions.items()
    }
    old = SceneBank.open(tiny_run / "bank")
    for name in chosen:
        assert not torch.equal(after[name].rows["micro"], old[name].rows["micro"])
    assert all(
        torch.equal(now, then) for now, then in zip(renders(run, others), renders(tiny_run, others), strict=True)
    )
    assert after.verify() == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("add", "--run", "nowhere", "--pack", "x"), "nowhere is no run: give the folder of a finished run"),
        (("add", "--pack", "x"), "the following arguments are required: run"),
        (("add", "--pack", "x", "--run", "nowhere"), "nowhere is no run: give the folder of a finished run"),
        (("add", "--data", "x", "--run=nowhere"), "nowhere is no run: give the folder of a finished run"),
        (("add",), "the following arguments are required: pack, run"),
        (("bank", "refit", "--scenes", "a", "nowhere"), "nowhere comes first"),
        (("bank", "refit", "nowhere", "--scenes", "a"), "nowhere is no run"),
    ],
)
def test_mistakes_are_one_sentence(run_scaled_ig, arguments, expected):
    status, output = run_scaled_ig(*arguments)
    assert status == 2
    assert len(output.strip().splitlines()) == 1
    assert output.startswith(f"error: {expected}")
