"""Two and three ranks train what one trains."""

import pytest
import torch

PHASES = ("autoencoder", "warm_up", "joint", "latent_supervision", "rgb_alignment")


@pytest.fixture(scope="module", params=[2, 3], ids=["two ranks", "three ranks, of which one has two shards"])
def several_ranks(request, tmp_path_factory, run_scaled_ig, tiny_config):
    folder = tmp_path_factory.mktemp("runs") / str(request.param)
    options = ("--trainer.devices", request.param, "--trainer.strategy", "ddp")
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", folder, *options)
    assert status == 0, output[-3000:]
    # Sums of three parts round differently, which Adam's first steps of full length spread.
    return folder, {2: 1e-5, 3: 1e-3}[request.param]


@pytest.mark.parametrize("phase", PHASES)
def test_ranks_end_where_one_does(tiny_run, several_ranks, phase):
    folder, tolerance = several_ranks
    one, several = (
        torch.load(run / "checkpoints" / phase / "final.ckpt", weights_only=True) for run in (tiny_run, folder)
    )
    assert one["global_step"] == several["global_step"] > 0
    assert one["state_dict"].keys() == several["state_dict"].keys()
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(
            several["state_dict"][name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m
        )
