"""Bit rot and spoiled files, as the real program meets them: see ``tests/faults/packs.py``."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from data_modules import layout
from data_modules.packing.pack import write_pack
from tests.conftest import BallScenes
from tests.data_modules.checking.packs import make_pack, noisy_views
from tests.faults.packs import CRASHED, HUNG, SILENT, check_verdicts, draw_flips, training_verdicts

SEED = 20
BAD = (SILENT, CRASHED, HUNG)


@pytest.fixture(scope="module")
def small_pack(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "small"
    write_pack(BallScenes(4, 10, 16, masked=2), folder, render=None)
    return folder


@pytest.mark.slow("200 trials")
def test_200_flips_are_found_by_the_check(small_pack):
    flips = draw_flips(small_pack, 200, SEED)
    verdicts = check_verdicts(small_pack, flips, rehash=False)
    assert len(verdicts) == 200
    assert not [pair for pair in zip(flips, verdicts, strict=True) if pair[1].startswith(BAD)]
    assert {verdict for verdict in verdicts if verdict != "harmless"} <= {"refused", "reported: sha256 of the file"}


@pytest.mark.slow("200 trials")
def test_200_flips_stop_training(small_pack):
    flips = draw_flips(small_pack, 200, SEED)
    verdicts = training_verdicts(small_pack, flips, rehash=False)
    assert len(verdicts) == 200
    assert not [pair for pair in zip(flips, verdicts, strict=True) if pair[1].startswith(BAD)]


@pytest.mark.slow("many flips")
def test_flips_behind_the_digests_are_found_inside_the_file(small_pack):
    flips = [flip for flip in draw_flips(small_pack, 60, SEED) if flip.place != "index"]
    verdicts = check_verdicts(small_pack, flips, rehash=True)
    assert not [pair for pair in zip(flips, verdicts, strict=True) if pair[1].startswith(BAD)]
    found = {flip.place for flip, verdict in zip(flips, verdicts, strict=True) if verdict.endswith("inside the file")}
    assert found == {"data", "headers", "attributes"}
    assert all(verdict != "harmless" or flip.place == "headers" for flip, verdict in zip(flips, verdicts, strict=True))


def empty(pack, shard):
    shard.write_bytes(b"")


def truncated_in_the_header(pack, shard):
    shard.write_bytes(shard.read_bytes()[:40])


def truncated_in_the_data(pack, shard):
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def text(pack, shard):
    shard.write_text("see you later")


def png(pack, shard):
    Image.new("RGB", (8, 8)).save(shard, format="PNG")


def foreign(pack, shard):
    with h5py.File(shard, "w") as file:
        file["weights"] = np.arange(5)


def folder(pack, shard):
    shard.unlink()
    shard.mkdir()


def missing(pack, shard):
    shard.unlink()


def empty_index(pack, shard):
    (pack / layout.INDEX_FILE).write_bytes(b"")


def list_as_index(pack, shard):
    (pack / layout.INDEX_FILE).write_text("[1, 2]")


def foreign_index(pack, shard):
    (pack / layout.INDEX_FILE).write_text('{"name": "left-pad", "version": "1.0"}')


def unfinished(pack, shard):
    shutil.rmtree(pack)
    (pack / "scenes.part").mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (empty, 1, "has 0 bytes instead of"),
        (truncated_in_the_header, 1, "has 40 bytes instead of"),
        (truncated_in_the_data, 1, "bytes instead of"),
        (text, 1, "has 13 bytes instead of"),
        (png, 1, "bytes instead of"),
        (foreign, 1, "has no attribute"),
        (folder, 1, "Is a directory"),
        (missing, 1, "No such file"),
        (empty_index, 2, "pack.json cannot be read"),
        (list_as_index, 2, "pack.json is of version None"),
        (foreign_index, 2, "pack.json is of version None"),
        (unfinished, 2, "is no finished pack"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_program_says_it_in_a_line(tmp_path, run_scaled_ig, spoil, status, words):
    pack = make_pack(tmp_path / "pack", {name: noisy_views(ord(name)) for name in "abc"}, per_shard=2)
    shard = pack / layout.shard_name(0)
    spoil(pack, shard)
    code, output = run_scaled_ig("check", pack)
    lines = [line for line in output.replace("\r", "\n").splitlines() if line and not line.startswith("checking")]
    assert code == status, output
    assert "Traceback" not in output
    assert words in output
    about = [line for line in lines if shard.name in line or line.startswith("error: ")]
    assert len(about) == 1, output
    assert len(lines) == 1 + (status == 1), "the line, and the summary"
