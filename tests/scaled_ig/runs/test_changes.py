"""A run goes on with other settings where they leave it the same run, and says which they are."""

import copy
import json

import pytest
import yaml

from scaled_ig.errors import UsageError
from scaled_ig.runs.changes import Progress, list_changes, refuse_changes
from scaled_ig.runs.run_folder import RunFolder
from tests.rounding import checkpoint
from tests.test_checkpoint import KILLER

LATER = [f"--phases.{name}=null" for name in ("autoencoder", "joint", "latent_supervision", "rgb_alignment")]
ON_THE_WAY = Progress(begun={"warm_up", "joint"}, finished={"warm_up"}, phase="joint", step=6, epoch=1)


@pytest.fixture(scope="module")
def config(tiny_run) -> dict:
    """As runs keep it."""
    return yaml.safe_load((tiny_run / "config.yaml").read_text())


def changed(config: dict, key: str, value) -> dict:
    """A configuration with another value; of lists and mappings that are not there nothing is made."""
    other = copy.deepcopy(config)
    *place, name = key.split(".")
    part = other
    for word in place:
        part = part[word]
    assert name in part, key
    part[name] = value
    return other


def keys_of(config, key="") -> list[str]:
    if isinstance(config, dict) and config:
        return [found for name, value in config.items() for found in keys_of(value, f"{key}.{name}" if key else name)]
    return [key]


REFUSED = {
    "scene.representation.init_args.extent": 1.5,
    "scene.representation.init_args.plane_resolution": 16,
    "scene.representation.class_path": "scaled_ig.representations.TriPlanes",
    "scene.autoencoder.init_args.width": 8,
    "scene.sampling.init_args.num_samples": 4,
    "scene.hidden_channels": 32,
    "scene.table_precision": "bfloat16",
    "seed_everything": 4,
    "data.init_args.batch_size": 8,
    "data.init_args.split_seed": None,
    "data.init_args.val_fraction": 0.2,
    "adam.clock": "per_scene",
    "adam.beta2": 0.99,
    "hand_over.bases": False,
    "waves.scenes": 2,
    "trainer.precision": "bf16-mixed",
    "trainer.gradient_clip_val": 1.0,
    "phases.joint.batch_size": 8,
    "phases.joint.module.init_args.weights.latent": 0.5,
    "phases.joint.module.init_args.learning_rates.decoder": 0.0,
    "phases.joint": None,
    "phases.warm_up.max_steps": 24,
    "phases.warm_up.module.init_args.learning_rates.micro": 0.1,
    "phases.joint.max_steps": 4,
}
TAKEN = {
    "trainer.devices": 2,
    "trainer.enable_progress_bar": True,
    "data.init_args.path": "elsewhere",
    "data.init_args.num_workers": 2,
    "eval_every_n_steps": 5,
    "checkpoint_every_n_steps": None,
    "keep_checkpoints": 3,
    "rank_timeout": 30.0,
    "plateau": {"min_gain_decibels": 0.1, "patience": 3},
    "lpips": "auto",
    "bank_encoding": "int8",
    "scene.kernel": "reference",
    "phases.joint.max_steps": 24,
    "phases.joint.module.init_args.learning_rates.micro": 0.1,
    "phases.rgb_alignment.batch_size": 8,
    "phases.rgb_alignment": None,
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_be_another_run_is_refused_with_the_difference(config, tmp_path, key):
    changes = list_changes(config, changed(config, key, REFUSED[key]))
    with pytest.raises(UsageError) as caught:
        refuse_changes(RunFolder(tmp_path), changes, ON_THE_WAY)
    assert key.replace(".init_args", "").partition(".module")[0] in str(caught.value)
    assert "→" in str(caught.value)
    assert "--run_dir" in str(caught.value)


@pytest.mark.parametrize("key", TAKEN)
def test_what_leaves_it_the_same_run_is_taken(config, tmp_path, key):
    changes = list_changes(config, changed(config, key, TAKEN[key]))
    assert changes
    assert all(change.key.startswith(key) for change in changes)
    refuse_changes(RunFolder(tmp_path), changes, ON_THE_WAY)


def test_every_setting_is_compared_but_those_of_the_call(config):
    """One by one; a setting that no rule names is refused once the run has begun."""
    for key in keys_of(config):
        changes = [change.key for change in list_changes(config, changed(config, key, "another value"))]
        assert changes == ([] if key in ("run_dir", "resume") else [key])


def test_nothing_is_refused_before_the_first_step(config, tmp_path):
    changes = list_changes(config, changed(config, "scene.representation.init_args.extent", 1.5))
    refuse_changes(RunFolder(tmp_path), changes, Progress(set(), set(), "warm_up"))


def test_what_another_version_wrote_is_compared_where_it_can_be(config):
    older = copy.deepcopy(config)
    del older["keep_checkpoints"], older["data"]["init_args"]["split_seed"]
    older["scene"]["sampling"]["class_path"] = "scaled_ig.sampling.InsideBall"  # where it was before
    assert list_changes(older, config) == []
    assert [change.key for change in list_changes(older, changed(config, "lpips", "auto"))] == ["lpips"]


def test_a_phase_cannot_come_between_those_that_have_begun(config, tmp_path):
    distillation = changed(config, "phases.distillation", {"max_steps": 4})
    changes = list_changes(config, distillation)
    refuse_changes(RunFolder(tmp_path), changes, ON_THE_WAY)
    later = Progress({"warm_up", "joint", "latent_supervision"}, {"warm_up", "joint"}, "latent_supervision", 3)
    with pytest.raises(UsageError, match=r"phases\.distillation"):
        refuse_changes(RunFolder(tmp_path), changes, later)


def test_a_run_goes_on_with_another_rate_and_length(tmp_path, run_scaled_ig, tiny_config):
    """From the step on at which it was cut; config.yaml and changes.jsonl say so. What is refused leaves them alone."""
    run = tmp_path / "run"
    (tmp_path / "killer.py").write_text(KILLER)
    kill = "trainer: {callbacks: [{class_path: killer.KillAt, init_args: {phase: warm_up, step: 7, at_end: false}}]}\n"
    (tmp_path / "kill.yaml").write_text(kill)
    options = ("fit", "--config", tiny_config, "--run_dir", run, *LATER)
    killed = "--config", tmp_path / "kill.yaml", "--allow-package", "killer"
    status, output = run_scaled_ig(*options, *killed, PYTHONPATH=str(tmp_path))
    assert status == -9, output[-3000:]
    before = (run / "config.yaml").read_bytes()
    status, output = run_scaled_ig(*options, "--resume", "true", "--scene.representation.extent", "1.5")
    assert status == 2
    assert "scene.representation.extent 0.5 → 1.5" in output
    assert (run / "config.yaml").read_bytes() == before
    assert not (run / "changes.jsonl").exists()
    rate = "--phases.warm_up.module.init_args.learning_rates.micro", "0.5", "--phases.warm_up.max_steps", "14"
    status, output = run_scaled_ig(*options, "--resume", "true", *rate)
    assert status == 0, output[-3000:]
    assert "from step 6 of warm_up on: phases.warm_up.max_steps 12 → 14" in output
    lines = [json.loads(line) for line in (run / "changes.jsonl").read_text().splitlines()]
    values = {line["key"]: (line["step"], line["saved"], line["value"]) for line in lines}
    assert values["phases.warm_up.module.init_args.learning_rates.micro"] == (6, 0.01, 0.5)
    assert values["phases.warm_up.max_steps"] == (6, 12, 14)
    saved = yaml.safe_load((run / "config.yaml").read_text())["phases"]["warm_up"]
    assert saved["max_steps"] == 14
    assert saved["module"]["init_args"]["learning_rates"]["micro"] == 0.5
    final = checkpoint(run, "warm_up")
    assert final["global_step"] == 14
    groups = {group["name"]: group for group in final["optimizer_states"][0]["param_groups"]}
    assert groups["micro"]["initial_lr"] == 0.5
    assert groups["mixing"]["initial_lr"] == 0.01
    assert groups["micro"]["lr"] == pytest.approx(50 * groups["mixing"]["lr"])
