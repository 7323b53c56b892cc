"""Scenes that are learned leave the batches: alike on any number of ranks, and after a resume."""

import pytest
import torch

from tests.rounding import assert_same_run, checkpoint
from tests.test_checkpoint import KILLER
from tests.test_ddp import on, the_error, use_callback

PHASES = ("latent_supervision", "rgb_alignment")
EARLIER = [f"--phases.{name}=null" for name in ("autoencoder", "warm_up", "joint")]
PLATEAU = ("--plateau.min_gain_decibels", 0.1, "--plateau.patience", 1)
STEPS = 40
LONG = [f"--phases.{name}.max_steps={STEPS}" for name in PHASES]
KEPT = """
import torch
from lightning.pytorch import Callback

class Kept(Callback):
    '''A learned scene stays as it is, whatever is trained beside it.'''

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        table = module.scene.representation.scene_tables()["micro"]
        own = module.learned[table.owned.start : table.owned.stop]
        rows = table.weight.detach()[own].clone()
        if hasattr(self, "rows") and own.equal(self.own):
            assert rows.equal(self.rows)
        self.own, self.rows = own, rows
"""


@pytest.fixture(scope="module")
def stage2(run_scaled_ig, tiny_config, tiny_run):
    def run(folder, *more, **environment):
        options = ("--adam.clock", "per_scene", "--data.val_fraction", 0.2)
        call = ("fit", "--config", tiny_config, "--run_dir", folder, "--init_from", tiny_run, *EARLIER, *LONG)
        return run_scaled_ig(*call, *options, *PLATEAU, *more, **environment)

    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory, stage2):
    folder = tmp_path_factory.mktemp("plateau")
    kept = use_callback(folder, "Kept", KEPT)
    status, output = stage2(folder / "one", *kept, PYTHONPATH=str(folder))
    assert status == 0, output[-3000:]
    return folder / "one"


def test_a_phase_ends_when_all_scenes_are_learned(alone):
    steps = {phase: checkpoint(alone, phase)["global_step"] for phase in PHASES}
    assert any(count < STEPS for count in steps.values()), steps
    state = checkpoint(alone, PHASES[0], "last")["callbacks"]["PlateauStop"]
    assert torch.isfinite(state["best"]).all()


@pytest.mark.slow("runs of two ranks")
def test_ranks_leave_out_the_same_scenes(tmp_path, stage2, alone):
    """A rank has one scene: the others still train when it is learned."""
    status, output = stage2(tmp_path / "run", *on(4))
    assert status == 0, output[-3000:]
    assert_same_run(alone, tmp_path / "run", PHASES)


@pytest.mark.slow("killed runs, which are gone on with")
def test_a_resumed_run_knows_which_scenes_are_learned(tmp_path, stage2, alone):
    kill = use_callback(tmp_path, "KillAt", KILLER, phase=PHASES[0], step=11)
    status, _ = stage2(tmp_path / "run", *kill, PYTHONPATH=str(tmp_path))
    assert status != 0
    status, output = stage2(tmp_path / "run", "--resume", "true", *on(2))
    assert status == 0, output[-3000:]
    assert_same_run(alone, tmp_path / "run", PHASES)


def test_what_it_needs_is_said(tmp_path, stage2):
    for options, sentence in (
        (("--data.val_fraction", 0), "plateau needs views that are watched: give --data.val_fraction"),
        (("--adam.clock", "exact_dense"), "plateau needs --adam.clock per_scene"),
    ):
        status, output = stage2(tmp_path / "run", *options)
        assert status != 0
        assert sentence in the_error(output)
    assert not (tmp_path / "run").exists()


def test_scenes_alone_may_be_trained(tmp_path, stage2):
    """Waves freeze what scenes share: batches whose scenes are all learned have nothing left to train."""
    options = ("--waves.scenes", 2, "--data.batch_size", 1)
    status, output = stage2(tmp_path / "run", *options, "--phases.rgb_alignment=null")
    assert status == 0, output[-3000:]
