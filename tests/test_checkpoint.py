"""Checkpoints hold values alone, and a run that was killed ends as if nothing had happened."""

import json
import shutil

import pytest
import torch

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import Origin
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.runs.checks import refuse_other_scenes
from scaled_ig.runs.run_folder import RunFolder
from tests.rounding import DECIBELS, PHASES, assert_same_run, assert_same_training, checkpoint

KILLER = """
import os, signal
from lightning.pytorch import Callback

class KillAt(Callback):
    def __init__(self, phase: str, step: int, at_end: bool = False):
        self.phase, self.step, self.at_end = phase, step, at_end

    def _kill(self, module):
        if module.name == self.phase and module.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._kill(module)

    def on_train_end(self, trainer, module):
        if self.at_end:
            self._kill(module)
"""


def test_every_checkpoint_holds_values_alone(tiny_run):
    files = sorted(tiny_run.glob("checkpoints/*/*.ckpt"))
    assert {(file.parent.name, file.stem) for file in files} == {
        (phase, name) for phase in PHASES for name in ("last-1", "last", "final")
    }
    for file in files:
        content = torch.load(file, weights_only=True)
        stage = 1 if file.parent.name in PHASES[:3] else 2
        assert content["scaled_ig"] == {"phase": file.parent.name, "stage": stage, "num_scenes": 4}
        assert len(content["state_dict"]["scene.representation.micro.weight"]) == 4


def test_what_a_run_leaves(tiny_run):
    metrics, costs = (json.loads((tiny_run / name).read_text()) for name in ("metrics.json", "costs.json"))
    assert (metrics["s1"]["num_scenes"], metrics["s1"]["num_views"]) == (4, 4)
    assert len({scene["id"] for scene in metrics["scenes"]}) == 8
    assert list(costs["phases"]) == list(PHASES)
    assert (tiny_run / "config.yaml").is_file()
    bank = SceneBank.open(tiny_run / "bank")
    assert set(bank.ids) == {f"ball-{scene}" for scene in range(8)}
    assert {record.origin for record in bank.scenes()} == {Origin("ball", "CC0-1.0")}
    assert bank[bank.ids[-1]].render(orbit(1)).isfinite().all()


def test_a_run_records_its_scenes_and_refuses_to_go_on_with_others(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    scenes = json.loads((tiny_run / "scenes.json").read_text())
    bank = SceneBank.open(tiny_run / "bank")
    for stage in ("stage1", "stage2"):
        assert scenes[stage] == {record.id: record.source_sha256 for record in bank.scenes(stage)}
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checkpoints" / PHASES[-1] / "final.ckpt").unlink()
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for key, saved, value in (("data.split_seed", 0, 5), ("data.stage1_scenes", 4, 3)):
        options = ("--run_dir", run, "--resume", "true", f"--{key}", value)
        status, output = run_scaled_ig("fit", "--config", tiny_config, *options)
        assert status == 2
        said = f"error: {run} was begun with other settings: {key} {saved} → {value};"
        assert output.splitlines()[-1].startswith(said)
        assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_the_order_of_scenes_counts(tmp_path):
    scenes = {"pack": "a", "split": "first", "stage1": {"x": "1", "y": "2"}}
    run = RunFolder(tmp_path)
    run.write_json("scenes.json", scenes)
    refuse_other_scenes(run, scenes | {"pack": "moved"})
    with pytest.raises(UsageError, match="was begun with another stage1"):
        refuse_other_scenes(run, scenes | {"stage1": {"y": "2", "x": "1"}})


def test_latents_lie_beside_the_run_and_are_encoded_once(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    files = [f"latents/stage{stage}/shard-{shard}.safetensors" for stage in (1, 2) for shard in range(4)]
    assert sorted(str(file.relative_to(tiny_run)) for file in tiny_run.glob("latents/**/*.*")) == files
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    shutil.rmtree(run / "checkpoints" / "latent_supervision")
    damaged, missing, *kept = (run / name for name in files[4:])
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    missing.unlink()
    times = {file: file.stat().st_mtime_ns for file in kept}
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", run, "--resume", "true")
    assert status == 0, output[-3000:]
    assert f"{damaged} is damaged: encoding its views again" in output
    assert damaged.read_bytes() == content
    assert missing.is_file()
    assert {file: file.stat().st_mtime_ns for file in kept} == times


def test_stage_2_begins_at_the_mean_of_stage_1(tiny_run):
    """Of mixing, whose rate is 0.01, twelve steps change little: the start must shine through."""
    mixing = "scene.representation.mixing.weight"
    before, after = (checkpoint(tiny_run, phase)["state_dict"][mixing] for phase in ("joint", PHASES[3]))
    assert ((after - before.mean(0)).abs() < 12 * 0.011).all()
    assert (before - before.mean(0)).abs().max() > 0.5


@pytest.mark.parametrize(
    ("phase", "step", "at_end", "interval"),
    [
        ("warm_up", 11, False, "null"),  # the last checkpoint is that of the end of an epoch, step 9
        ("latent_supervision", 3, False, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow("two runs"))
            for case in (
                ("joint", 11, False, 2),
                ("autoencoder", 4, True, 2),
                ("rgb_alignment", 12, True, 2),
            )
        ),
    ],
)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    tmp_path, run_scaled_ig, tiny_config, tiny_run, phase, step, at_end, interval
):
    (tmp_path / "killer.py").write_text(KILLER)
    arguments = f"{{phase: {phase}, step: {step}, at_end: {str(at_end).lower()}}}"
    (tmp_path / "kill.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: killer.KillAt, init_args: {arguments}}}]}}\n"
    )
    run = tmp_path / "run"
    options = ("fit", "--config", tiny_config, "--run_dir", run, "--checkpoint_every_n_steps", interval)
    status, output = run_scaled_ig(
        *options, "--config", tmp_path / "kill.yaml", "--allow-package", "killer", PYTHONPATH=str(tmp_path)
    )
    assert status == -9, output[-3000:]
    assert (run / "checkpoints" / phase / "last.ckpt").is_file()
    assert not (run / "checkpoints" / phase / "final.ckpt").exists()
    status, output = run_scaled_ig(*options, "--resume", "true")
    assert status == 0, output[-3000:]
    assert_same_run(tiny_run, run)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (run, tiny_run)]
    assert metrics[0]["s2"] == pytest.approx(metrics[1]["s2"], abs=DECIBELS, nan_ok=True)


def test_a_run_killed_before_its_bank_was_written_writes_it_on_resuming(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    bank = SceneBank.open(run / "bank")
    bank.remove([record.id for record in bank.scenes("stage2")])
    (run / "metrics.json").unlink()
    (run / "checkpoints" / PHASES[-1] / "final.ckpt").unlink()  # it is written last
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", run, "--resume", "true")
    assert status == 0, output[-3000:]
    whole, again = SceneBank.open(tiny_run / "bank"), SceneBank.open(run / "bank")
    assert [r.sha256 for r in again.scenes("stage2")] == [r.sha256 for r in whole.scenes("stage2")]
    assert again.versions == whole.versions
    assert json.loads((run / "metrics.json").read_text())["s2"]["psnr"] > 0


def test_stage_2_from_a_finished_stage_1_is_the_stage_2_of_a_whole_run(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    lines = tiny_config.read_text().splitlines()
    stage2 = [line for line in lines if not line.strip().startswith(("autoencoder: {module", "warm_up:", "joint:"))]
    (tmp_path / "stage2.yaml").write_text("\n".join(stage2))
    options = ("--run_dir", tmp_path / "run", "--init_from", tiny_run)
    status, output = run_scaled_ig("fit", "--config", tmp_path / "stage2.yaml", *options)
    assert status == 0, output[-3000:]
    assert_same_training(tiny_run, tmp_path / "run", PHASES[3:])
    assert SceneBank.open(tmp_path / "run" / "bank").ids == [f"ball-{s}" for s in stage2_scenes(tiny_run)]


def stage2_scenes(run) -> list[int]:
    return [int(record.id.split("-")[1]) for record in SceneBank.open(run / "bank").scenes("stage2")]
