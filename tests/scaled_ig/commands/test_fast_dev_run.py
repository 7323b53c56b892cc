"""A configuration is tried out."""

import pytest

from tests.rounding import PHASES


def test_a_trial_goes_through_all_phases_and_leaves_nothing(run_scaled_ig, tiny_config, tmp_path):
    call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", "--trainer.logger", "CSVLogger")
    status, output = run_scaled_ig(*call, "--trainer.fast_dev_run", "2")
    assert status == 0, output[-3000:]
    for phase in PHASES:
        assert f"{phase}: 4 scenes of stage {1 if phase in PHASES[:3] else 2}, 2 steps" in output
    assert output.splitlines()[-1] == "every phase ran 2 steps at most; nothing of it was kept"
    assert not list(tmp_path.iterdir())


def test_a_trial_leaves_nothing_where_it_fails(run_scaled_ig, tiny_config, tmp_path):
    call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", "--trainer.fast_dev_run", "true")
    status, output = run_scaled_ig(*call, "--adam.eps", "1e-30", "--phases.warm_up.module.learning_rates.micro", "1e38")
    assert status in (2, 3), output[-3000:]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [("add", "--pack", "x"), ("bank", "refit", "--scenes", "ball-4")])
def test_other_verbs_have_no_trial(run_scaled_ig, tiny_run, verb):
    words, options = [word for word in verb if word in ("add", "bank", "refit")], verb[len(verb) - 2 :]
    where = ("--run", tiny_run) if verb[0] == "add" else (tiny_run,)
    status, output = run_scaled_ig(*words, *where, *options, "--trainer.fast_dev_run", "2")
    assert status == 2
    assert "trainer.fast_dev_run 2 is for scaled-ig fit alone" in output.splitlines()[-1]
