"""Stage 2 in waves: as one run, whatever it is cut into, and readable as one."""

import json
import shutil

import pytest

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.cli import main
from scaled_ig.commands import test as measure
from scaled_ig.commands.report import report
from scaled_ig.runs.record import RunRecord
from tests.rounding import DECIBELS, assert_same_scenes

WAVES = ["stage2-0000", "stage2-0001"]

KILLER = """
import os, signal
from lightning.pytorch import Callback
import scaled_ig.runs.training

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

class KillInWave(Callback):
    def __init__(self, wave: str, phase: str = "", step: int = 0):
        self.wave, self.phase, self.step = wave, phase, step

    def setup(self, trainer, module, stage):
        if trainer.default_root_dir.endswith(self.wave) and not self.phase:
            scaled_ig.runs.training.forget_wave = die

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        here = module.name, module.global_step
        if trainer.default_root_dir.endswith(self.wave) and here == (self.phase, self.step):
            die()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_scaled_ig, tiny_config):
    """Runs in two waves of two scenes, by what later waves do with what is shared: their commands and folders.

    The encoder follows, so that where it is left too soon, or on one rank, later scenes show it.
    """
    runs = {}
    follow = ("--phases.rgb_alignment.module.init_args.encoder_follows", "true")

    def make(shared: str):
        if shared not in runs:
            options = ("fit", "--config", tiny_config, "--waves.scenes", 2, "--waves.shared", shared, *follow)
            folder = tmp_path_factory.mktemp("waves") / shared
            status, output = run_scaled_ig(*options, "--run_dir", folder)
            assert status == 0, output[-3000:]
            assert "rgb_alignment: 2 scenes of stage 2, wave 2" in output
            runs[shared] = options, folder
        return runs[shared]

    return make


@pytest.fixture(params=["freeze", "carry"])
def shared(request) -> str:
    """What waves after the first do with what scenes share."""
    return request.param


@pytest.fixture
def options(finished, shared):
    """Command of a run."""
    return finished(shared)[0]


@pytest.fixture
def run(finished, shared):
    """Folder of the finished run."""
    return finished(shared)[1]


def kept(folder) -> dict[str, str]:
    """Digests of the records of the first wave, and of its shared parts."""
    bank = SceneBank.open(folder / "bank")
    own = {record.id: record.sha256 for record in bank.scenes(WAVES[0])}
    return own | {"shared": bank.versions[WAVES[0]].shared_sha256}


def test_the_bank_has_a_version_for_every_wave(run, shared, tiny_run):
    bank = SceneBank.open(run / "bank")
    assert list(bank.versions) == ["stage1", *WAVES]
    whole = SceneBank.open(tiny_run / "bank")
    assert [record.id for wave in WAVES for record in bank.scenes(wave)] == [r.id for r in whole.scenes("stage2")]
    same = bank.versions[WAVES[0]].shared_sha256 == bank.versions[WAVES[1]].shared_sha256
    assert same == (shared == "freeze")
    assert bank.verify() == []
    for name in bank.ids:
        assert bank[name].render(orbit(1)).isfinite().all()
    mean = bank.mean(WAVES[1])
    for record in bank.scenes(WAVES[1]):
        moved = (bank[record.id].rows["micro"] - mean["micro"]).abs().max()
        assert 1e-4 < moved < 1, "it was trained, from the mean of stage 1"


def test_a_run_lists_all_scenes_and_keeps_nothing_of_a_wave_but_its_log(run, shared, tiny_run):
    scenes, metrics, costs = (json.loads((run / f"{name}.json").read_text()) for name in ("scenes", "metrics", "costs"))
    waves = {"waves": [2, 2], "waves.shared": shared}
    assert scenes == json.loads((tiny_run / "scenes.json").read_text()) | waves
    assert (metrics["s2"]["num_scenes"], metrics["s2"]["num_views"]) == (4, 4)
    assert [scene["id"] for scene in metrics["scenes"]] == [*scenes["stage1"], *scenes["stage2"]]
    for phase in ("latent_supervision", "rgb_alignment"):
        done = costs["phases"][phase]
        assert [wave["scenes"] for wave in done["waves"].values()] == [2, 2]
        assert (done["scenes"], done["steps"]) == (4, sum(wave["steps"] for wave in done["waves"].values()))
    left = sorted(str(file.relative_to(run)) for file in run.glob("waves/**/*") if file.is_file())
    assert left == [f"waves/{wave}/{file}" for wave in ("0000", "0001") for file in ("finished.json", "training.csv")]
    assert {path.name for path in run.glob("checkpoints/*")} == {"autoencoder", "warm_up", "joint"}
    assert [path.name for path in run.glob("latents/*")] == ["stage1"]


@pytest.mark.parametrize("shared", ["freeze"], indirect=True)
def test_a_finished_run_is_done(run, run_scaled_ig, options):
    status, output = run_scaled_ig(*options, "--run_dir", run, "--resume", "true")
    assert (status, output.splitlines()[-3]) == (0, f"{run}: all phases are done")
    assert output.splitlines()[-1] == f"next: scaled-ig report {run}"
    status, output = run_scaled_ig(*options, "--run_dir", run)
    assert (status, "give --resume true or another --run_dir" in output) == (2, True)
    status, output = run_scaled_ig(*options, "--run_dir", run, "--resume", "true", "--waves.scenes", 1)
    assert (status, output.strip().splitlines()[-1]) == (
        2,
        f"error: {run} was begun with other settings: waves.scenes 2 → 1; go on with those that its config.yaml has, "
        "or give another --run_dir",
    )
    status, output = run_scaled_ig(*options, "--run_dir", run, "--resume", "true", "--waves.shared", "carry")
    assert status == 2
    assert "was begun with other settings: waves.shared freeze → carry" in output


@pytest.mark.slow("killed runs, which are gone on with")
@pytest.mark.parametrize(
    ("shared", "wave", "phase", "step"),
    [
        pytest.param("freeze", "0001", "latent_supervision", 5, id="freeze, in the second wave"),
        pytest.param("carry", "0001", "latent_supervision", 5, id="carry, in the second wave"),
        pytest.param("carry", "0000", "rgb_alignment", 5, id="in the first wave"),
        pytest.param("carry", "0001", "rgb_alignment", 0, id="between phases"),
        pytest.param("carry", "0001", "", 0, id="before the wave is forgotten"),
    ],
    indirect=["shared"],
)
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, run, run_scaled_ig, options, wave, phase, step):
    (tmp_path / "killer.py").write_text(KILLER)
    arguments = f"{{wave: '{wave}', phase: '{phase}', step: {step}}}"
    (tmp_path / "kill.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: killer.KillInWave, init_args: {arguments}}}]}}\n"
    )
    again = tmp_path / "again"
    options = (*options, "--run_dir", again)
    status, output = run_scaled_ig(
        *options, "--config", tmp_path / "kill.yaml", "--allow-package", "killer", PYTHONPATH=str(tmp_path)
    )
    assert status == -9, output[-3000:]
    if wave == "0001":
        assert kept(again) == kept(run), "what the first wave has learned does not change"
    status, output = run_scaled_ig(*options, "--resume", "true")
    assert status == 0, output[-3000:]
    assert ("wave 1" in output) == (wave == "0000")
    assert_same_scenes(run, again)
    metrics, whole = (json.loads((folder / "metrics.json").read_text()) for folder in (again, run))
    assert metrics["s2"] == pytest.approx(whole["s2"], abs=DECIBELS, nan_ok=True)
    assert not list(again.glob("waves/*/checkpoints")) + list(again.glob("waves/*/latents"))


@pytest.mark.slow("runs of two ranks")
def test_two_ranks_end_where_one_does(tmp_path, run, run_scaled_ig, options):
    ranks = ("--trainer.devices", 2, "--trainer.strategy", "ddp")
    status, output = run_scaled_ig(*options, "--run_dir", tmp_path / "two", *ranks)
    assert status == 0, output[-3000:]
    assert_same_scenes(run, tmp_path / "two")
    assert not list((tmp_path / "two").glob("waves/*/checkpoints"))


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_waves_are_measured_one_after_another(run, copied):
    (copied / "metrics.json").unlink()
    assert measure.test(str(copied), lpips="off") == 0
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (copied, run))
    assert [scene["id"] for scene in ours["scenes"]] == [scene["id"] for scene in theirs["scenes"]]
    for own, wanted in zip([*ours["scenes"], ours["s2"]], [*theirs["scenes"], theirs["s2"]], strict=True):
        for name in ("psnr", "ssim", "nearest_view_psnr", "autoencoder_psnr"):
            assert own[name] == pytest.approx(wanted[name], abs=DECIBELS), (own, name)


@pytest.mark.slow("writes pages")
def test_a_page_shows_all_waves_and_counts_what_they_share_once(copied, shared):
    assert report(str(copied), compare=[f"twin={copied}"]) == 0
    text = (copied / "report.html").read_text()
    assert f"all {2 if shared == 'freeze' else 3} versions of the shared parts" in text
    assert "It was learned in 2 waves, one after another, of which the first is shown" in text
    assert "All 4 stage-2 scenes, rendered" in text
    assert "S2 (stage 2): 4 scenes, from the best to the worst" in text
    record = RunRecord.open(copied)
    costs = record.costs["phases"]["rgb_alignment"]
    first = record.first_wave()
    assert first.seconds(2) == pytest.approx(
        sum(record.costs["phases"][name]["waves"]["0"]["seconds"] for name in ("latent_supervision", "rgb_alignment"))
    )
    assert costs["seconds"] > costs["waves"]["0"]["seconds"] > 0
    assert record.test_value("rgb_alignment", "psnr") == pytest.approx(record.metrics["s2"]["psnr"], abs=DECIBELS)
    own = [scene["psnr"] for scene in record.scenes(2)]
    assert first.test_value("rgb_alignment", "psnr") == pytest.approx(sum(own[:2]) / 2, abs=DECIBELS)
    assert len(first.curve("rgb_alignment", "test/ssim")) == 1
    assert not record.curve("rgb_alignment", "test/ssim"), "of many waves there is no one curve"
    assert [second for second, _ in first.curve("joint", "test/psnr")] == [
        second for second, _ in record.curve("joint", "test/psnr")
    ]


def test_all_waves_are_rendered_and_weighed(copied, capsys):
    for arguments, said in (
        (["render", str(copied), "--out", str(copied / "orbit.png"), "--views", "2"], "4 scenes, 2 views"),
        (["bank", "info", str(copied), "--measure"], "stage2-0001  int8_difference"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.slow("runs in waves, measured again")
def test_removed_scenes_are_simply_not_there(copied):
    bank = SceneBank.open(copied / "bank")
    first, second, third, fourth = (record.id for wave in WAVES for record in bank.scenes(wave))
    bank.remove([second, third, bank.ids[1]])
    assert report(str(copied)) == 0
    metrics = json.loads((copied / "metrics.json").read_text())
    assert [scene["id"] for scene in metrics["scenes"] if scene["stage"] == 2] == [first, fourth]
    assert (metrics["s1"]["num_scenes"], metrics["s2"]["num_scenes"]) == (3, 2)
    assert measure.test(str(copied), lpips="off") == 0
    again = json.loads((copied / "metrics.json").read_text())
    assert again["s2"]["psnr"] == pytest.approx(metrics["s2"]["psnr"], abs=DECIBELS)
    bank.remove([fourth])
    assert measure.test(str(copied), lpips="off") == 0
    assert report(str(copied)) == 0
    assert RunRecord.open(copied).versions(2) == WAVES[:1]
