"""A run in which an earlier version was cut off, 29 November 2026, is finished by this one, from pack and checkpoint.

``kept/run`` was killed after five of the eight steps of its last phase; ``kept/resumed.ckpt`` is where that version
took it. ``kept/pack`` has schema 3; of its four scenes the last has no masks. ``kept/run.yaml`` is what was given.
"""

import shutil
from pathlib import Path

import pytest

from data_modules.layout import PackIndex
from data_modules.packing.pack import write_pack
from tests.conftest import BallScenes
from tests.data_modules.checking.packs import lines_of
from tests.rounding import assert_same_training

KEPT = Path(__file__).parent / "kept"


@pytest.fixture
def kept(tmp_path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "kept"))


def test_the_pack_is_sound(kept):
    assert PackIndex.open(kept / "pack").masked.tolist() == [True, True, True, False]
    assert lines_of(kept / "pack") == []


def test_the_run_goes_on_to_the_same_end(kept, run_scaled_ig):
    whole = Path(shutil.copytree(kept / "run", kept / "whole"))
    (kept / "resumed.ckpt").rename(whole / "checkpoints/latent_supervision/final.ckpt")
    call = (
        "fit",
        "--config",
        kept / "run/config.yaml",
        "--run_dir",
        kept / "run",
        "--resume",
        "true",
    )  # as its page says
    # Versions of then left null out of what they wrote.
    status, output = run_scaled_ig(*call, "--data.path", kept / "pack", "--data.split_seed", "null")
    assert status == 0, output[-3000:]
    assert "warm_up: 2 scenes" not in output
    assert_same_training(whole, kept / "run", ("warm_up", "latent_supervision"))
    status, output = run_scaled_ig(*call)
    assert (status, output.splitlines()[0]) == (0, f"{kept}/run: all phases are done")
    write_pack(BallScenes(5, 10, 16, masked=3), kept / "more", render=None)
    status, output = run_scaled_ig("add", "--run", kept / "run", "--pack", kept / "more")
    assert status == 0, output[-3000:]
    assert "1 scene learned in" in output.splitlines()[-2]
