"""Two ranks train what one trains."""

import pytest
import torch

PHASES = ("autoencoder", "warm_up", "joint", "latent_supervision", "rgb_alignment")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, run_scaled_ig, tiny_config):
    folder = tmp_path_factory.mktemp("runs") / "two"
    options = ("--trainer.devices", 2, "--trainer.strategy", "ddp")
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", folder, *options)
    assert status == 0, output[-3000:]
    return folder


@pytest.mark.parametrize("phase", PHASES)
def test_two_ranks_end_where_one_does(tiny_run, two_ranks, phase):
    one, two = (
        torch.load(run / "checkpoints" / phase / "final.ckpt", weights_only=True) for run in (tiny_run, two_ranks)
    )
    assert one["global_step"] == two["global_step"] > 0
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: n + m)
