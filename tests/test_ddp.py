"""Any number of ranks trains what one trains, and goes on where another number stopped."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_modules.packing.pack import write_pack
from tests.conftest import BallScenes
from tests.rounding import DECIBELS, PHASES, assert_same_run, checkpoint
from tests.test_checkpoint import KILLER

SAME_EVERYWHERE = """
import hashlib
import torch.distributed as dist
from lightning.pytorch import Callback

class SameEverywhere(Callback):
    '''What scenes share is the same on all ranks, to the bit, at every step.'''

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        shared = sorted(module.scene.shared_state().items())
        digest = hashlib.sha256(b"".join(value.numpy().tobytes() for _, value in shared)).hexdigest()
        digests = [None] * trainer.world_size
        dist.all_gather_object(digests, digest)
        assert len(set(digests)) == 1, f"ranks differ at step {trainer.global_step} of {module.name}"
"""


def on(ranks: int) -> tuple:
    """Options for a number of ranks."""
    return ("--trainer.devices", ranks, "--trainer.strategy", "ddp" if ranks > 1 else "auto")


def use_callback(folder, name: str, source: str, **arguments) -> tuple:
    """Options that give the Trainer a callback, whose code is written into ``folder``."""
    module = name.lower()
    (folder / f"{module}.py").write_text(source)
    given = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    (folder / f"{module}.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: {module}.{name}, init_args: {{{given}}}}}]}}\n"
    )
    return ("--config", folder / f"{module}.yaml", "--allow-package", module)


def the_error(output: str) -> str:
    """The one line that a mistake of any rank makes."""
    assert "Traceback" not in output, output[-3000:]
    (line,) = [line for line in output.splitlines() if "rror" in line]
    return line


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_scaled_ig, tiny_config):
    """Finished runs of all phases: by their number of ranks, and one that four, two, one and three ranks share."""
    folder = tmp_path_factory.mktemp("runs")

    def train(ranks: int) -> None:
        call = ("fit", "--config", tiny_config, "--run_dir", folder / str(ranks))
        status, output = run_scaled_ig(*call, *on(ranks))
        assert status == 0, output[-3000:]

    def train_in_turns() -> None:
        call = ("fit", "--config", tiny_config, "--run_dir", folder / "turns", "--resume", "true")
        for ranks, phase, step in ((4, "joint", 7), (2, "latent_supervision", 5), (1, "rgb_alignment", 3)):
            kill = use_callback(folder, "KillAt", KILLER, phase=phase, step=step)
            status, output = run_scaled_ig(*call, *on(ranks), *kill, PYTHONPATH=str(folder))
            assert status != 0, output[-3000:]
            assert checkpoint(folder / "turns", phase, "last")["global_step"] == step - 1
            assert not (folder / "turns" / "checkpoints" / phase / "final.ckpt").exists()
        cold = ("--trainer.devices=3", "--trainer.strategy", "ddp")  # written so, ranks are not those of tests.warm
        status, output = run_scaled_ig(*call, *cold)
        assert status == 0, output[-3000:]

    with ThreadPoolExecutor(3) as pool:  # ranks start one after the other, and cores wait
        turns = pool.submit(train_in_turns)
        list(pool.map(train, (4, 3, 2)))
        turns.result()
    return folder


@pytest.mark.slow("nine runs of up to four ranks")
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_end_where_one_does(finished, tiny_run, ranks):
    """Three ranks have one shard, one shard and two. What is measured at the end is gathered from all."""
    assert_same_run(tiny_run, finished / str(ranks))
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (tiny_run, finished / str(ranks)))
    assert [scene["id"] for scene in theirs["scenes"]] == [scene["id"] for scene in ours["scenes"]]
    for split in ("s1", "s2", "all"):
        assert theirs[split] == pytest.approx(ours[split], abs=DECIBELS)


@pytest.mark.slow("the same nine runs")
def test_a_run_goes_on_with_other_numbers_of_ranks(finished, tiny_run):
    assert_same_run(tiny_run, finished / "turns")


@pytest.mark.slow("two ranks")
def test_clipping_is_by_the_norm_over_all_ranks(tmp_path, run_scaled_ig, tiny_config):
    """By its own norm, a rank would move away from the others. The other clock and heads of the scenes' own, too."""
    options = ("--adam.clock", "per_scene", "--trainer.gradient_clip_val", 0.001, "--scene.own_heads", "true")
    later = [f"--phases.{name}=null" for name in PHASES[2:]]
    watch = use_callback(tmp_path, "SameEverywhere", SAME_EVERYWHERE)
    for ranks in (1, 2):
        call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / str(ranks), *options, *later, *on(ranks))
        status, output = run_scaled_ig(*call, *(watch if ranks > 1 else ()), PYTHONPATH=str(tmp_path))
        assert status == 0, output[-3000:]
    assert_same_run(tmp_path / "1", tmp_path / "2", PHASES[:2])


@pytest.mark.slow("several ranks")
def test_too_many_ranks_are_refused_before_anything_is_written(tmp_path, run_scaled_ig, tiny_config):
    mistakes = {
        ("--data.stage1_scenes", 1): "1 scenes have 1 shards, too few for 2 ranks: use at most 1",
        ("--data.batch_size", 3): "too small for 2 ranks to have a part in every batch: give a multiple of 2",
    }

    def train(options) -> tuple[int, str]:
        return run_scaled_ig("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *on(2), *options)

    with ThreadPoolExecutor(2) as pool:
        for expected, (status, output) in zip(mistakes.values(), pool.map(train, mistakes), strict=True):
            assert status == 2, output[-3000:]
            assert expected in the_error(output)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow("runs of two ranks")
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
    run = ("--run_dir", tmp_path / "run")
    status, output = run_scaled_ig("fit", "--config", tiny_config, *options, *phases, *on(2), *run)
    assert status == 2, output[-3000:]
    assert the_error(output) == (
        "error: scene ball-3: test view 0 and training view 5 have the same camera: pack it without one of them, or "
        "leave it out with scaled-ig check --fix-drop"
    )
