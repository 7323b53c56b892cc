"""Two and three ranks train what one trains."""

import pytest
import torch

from data_modules.packing.pack import write_pack
from tests.conftest import BallScenes

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


def test_clipping_is_by_the_norm_over_all_ranks(tmp_path, run_scaled_ig, tiny_config):
    later = [f"--phases.{name}=null" for name in PHASES[2:]]
    states = []
    for ranks in (1, 3):
        options = ("--trainer.devices", ranks, "--trainer.strategy", "ddp" if ranks > 1 else "auto")
        clip = ("--trainer.gradient_clip_val", 0.001)
        folder = tmp_path / str(ranks)
        status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", folder, *options, *clip, *later)
        assert status == 0, output[-3000:]
        states.append(torch.load(folder / "checkpoints" / "warm_up" / "final.ckpt", weights_only=True)["state_dict"])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: n + m)


def test_a_mistake_that_one_rank_finds_is_one_sentence(tmp_path, run_scaled_ig, tiny_config):
    class Repeated(BallScenes):
        """The last scene, which is the second rank's, is trained on what it is tested on."""

        def load(self, scene_id):
            views, record = super().load(scene_id)
            if scene_id == "ball-3":
                views.camera_to_world[5], views.intrinsics[5] = views.camera_to_world[0], views.intrinsics[0]
            return views, record

    write_pack(Repeated(4, 10, 32), tmp_path / "pack", render=None)
    options = ("--data.path", tmp_path / "pack", "--data.stage1_scenes", 4, "--data.split_seed", "null")
    phases = [f"--phases.{name}=null" for name in PHASES[1:]]
    ranks = ("--trainer.devices", 2, "--trainer.strategy", "ddp")
    run = ("--run_dir", tmp_path / "run")
    status, output = run_scaled_ig("fit", "--config", tiny_config, *options, *phases, *ranks, *run)
    assert status == 2, output[-3000:]
    assert "Traceback" not in output
    assert [line for line in output.splitlines() if "error" in line] == [
        "error: scene ball-3: test view 0 and training view 5 have the same camera: pack it without one of them, or "
        "leave it out with scaled-ig check --fix-drop"
    ]
