"""A run in which an earlier version was cut off, 29 November 2026, is finished by this one, from pack and checkpoint.

``kept/run`` was killed after five of the eight steps of its last phase; ``kept/resumed.ckpt`` is where that version
took it. ``kept/run.yaml`` is its configuration, ``kept/pack`` has schema 3, of whose four scenes the last has no masks.
"""

import shutil
from pathlib import Path

import pytest

from data_modules.layout import PackIndex
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
    options = "--data.path", kept / "pack", "--run_dir", kept / "run", "--resume", "true"
    status, output = run_scaled_ig("fit", "--config", kept / "run.yaml", *options)
    assert status == 0, output[-3000:]
    assert "warm_up: 2 scenes" not in output
    assert_same_training(whole, kept / "run", ("warm_up", "latent_supervision"))
