"""Scenes that fail, grow or kill their process: left out with a record, whatever the number of processes."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_modules import layout
from data_modules.layout import PackIndex, read_source_records
from data_modules.packing.pack import write_pack
from data_modules.packing.scene_writer import TOO_LARGE
from data_modules.packing.workers import KILLED, TOO_SLOW, Workers
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from scaled_ig.errors import UsageError

TROUBLES = {"s0": "size", "s2": "usage", "s3": "value", "s5": "memory"}
REASONS = {"usage": "s.json is torn: mend it", "value": "KeyError: 'fl_x'", "memory": TOO_LARGE, "killed": KILLED}

WARNINGS = ("it shines", "it is turned", "it shines")


class Troubled(SceneSource):
    """Scenes ``s0``, ``s1``, ... of two views of 4 x 6 pixels, some of which make trouble."""

    viewpoints = None

    def __init__(self, count: int, troubles: dict[str, str | Path]) -> None:
        self.count = count
        self.troubles = troubles

    def scenes(self):
        return [SceneEntry(f"s{row}", "thing") for row in range(self.count)]

    def load(self, scene_id):
        trouble = self.troubles.get(scene_id)
        if trouble in ("size", "slow"):
            time.sleep(1)  # other scenes are ready before
        if trouble == "usage":
            raise UsageError("s.json is torn: mend it")
        if trouble == "value":
            raise KeyError("fl_x")
        if trouble == "memory":
            raise MemoryError
        if trouble in ("3 GiB", "64 GiB"):
            np.empty(int(trouble.split()[0]) * 2**30, np.uint8)
        if trouble == "killed":
            os.kill(os.getpid(), signal.SIGSEGV)
        if isinstance(trouble, Path) and not trouble.exists():
            trouble.touch()  # the memory will suffice the next time
            os.kill(os.getpid(), signal.SIGKILL)
        shape = (2, 8, 8, 3) if trouble == "size" else (2, 4, 6, 3)
        images = np.random.default_rng(int(scene_id[1:])).integers(0, 255, shape, dtype=np.uint8)
        poses = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
        warnings = WARNINGS if trouble == "warned" else ()
        return PosedViews(images, poses, np.ones((2, 4), np.float32), warnings=warnings), {"shape": scene_id}


class Deadly(Troubled):
    """Kills the process that unpickles it."""

    def __setstate__(self, state):
        os._exit(1)


class Hanging(Troubled):
    """A scene with a file writes a word into it and hangs."""

    def load(self, scene_id):
        if file := self.troubles.get(scene_id):
            with Path(file).open("a") as stream:
                stream.write("once")
            time.sleep(600)
        return super().load(scene_id)


@pytest.fixture(autouse=True)
def _fixed_date_and_small_shards(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(layout, "SCENES_PER_SHARD", 2)


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_bad_scenes_are_left_out_with_a_record(tmp_path, capsys):
    troubles = {"s0": "usage", "s3": "value", "s5": "memory", "s6": "size"}
    index = write_pack(Troubled(8, troubles), tmp_path, None)
    assert index.scene_ids == ("s1", "s2", "s4", "s7")
    assert index.image_size == (4, 6)
    reasons = {record["id"]: record["reason"] for record in index.left_out}
    assert list(reasons) == ["s0", "s3", "s5", "s6"], "in the source's order"
    assert {name: reasons[name] for name in troubles if name != "s6"} == {
        name: REASONS[trouble] for name, trouble in troubles.items() if name != "s6"
    }
    assert "8x8" in reasons["s6"]
    assert "4x6" in reasons["s6"]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"left out: {name}: {reason}" for name, reason in reasons.items()]


def test_warnings_are_kept_in_the_record_and_the_index(tmp_path):
    index = write_pack(Troubled(3, {"s1": "warned"}), tmp_path, None)
    assert index.warnings == ((), ("it shines", "it is turned"), ())
    records = [record for shard in index.shards for record in read_source_records(shard)]
    assert [record.get("warnings") for record in records] == [None, ["it shines", "it is turned"], None]


def test_bytes_do_not_depend_on_processes(tmp_path):
    for processes in (0, 1, 3):
        write_pack(Troubled(9, TROUBLES), tmp_path / str(processes), None, workers=Workers(processes))
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "3")
    index = PackIndex.open(tmp_path / "0")
    assert index.image_size == (8, 8), "the first good scene of the list decides, not the first that is ready"
    assert index.scene_ids == ("s0",)


def test_a_block_without_scenes_makes_no_file(tmp_path):
    index = write_pack(Troubled(6, {"s0": "usage", "s1": "usage", "s4": "value"}), tmp_path, None)
    assert [shard.path.name for shard in index.shards] == [layout.shard_name(1), layout.shard_name(2)]
    assert index.scene_ids == ("s2", "s3", "s5")
    assert sorted(contents(tmp_path)) == [layout.shard_name(1), layout.shard_name(2), "pack.json"]


def test_records_outlive_an_interruption(tmp_path, monkeypatch):
    source = Troubled(9, TROUBLES | {"s0": "usage"})
    write_pack(source, tmp_path / "whole", None)
    load, loaded, interrupted_at = Troubled.load, [], [6]

    def interrupted(self, scene_id):
        if len(loaded) in interrupted_at:
            raise KeyboardInterrupt
        loaded.append(scene_id)
        return load(self, scene_id)

    monkeypatch.setattr(Troubled, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_pack(source, tmp_path / "resumed", None)
    interrupted_at.clear()
    write_pack(source, tmp_path / "resumed", None)
    assert loaded == [f"s{row}" for row in range(9)], "neither finished scenes nor those left out are tried again"
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("trouble", ["usage", "value", "size"])
def test_strict_stops_at_the_first_bad_scene_and_keeps_the_others(tmp_path, trouble):
    source = Troubled(4, {"s3": trouble})
    with pytest.raises(UsageError, match=f"scene s3: .*{'8x8' if trouble == 'size' else REASONS[trouble]}"):
        write_pack(source, tmp_path / "out", None, strict=True)
    assert (tmp_path / "out" / layout.shard_name(0)).exists()
    with pytest.raises(UsageError, match="scene s3"):  # its turn comes again
        write_pack(source, tmp_path / "out", None, strict=True)
    assert write_pack(source, tmp_path / "out", None).scene_ids == ("s0", "s1", "s2")
    with pytest.raises(UsageError, match="without scene s3"):
        write_pack(source, tmp_path / "out", None, strict=True)


def test_strict_tries_mended_scenes_again(tmp_path, monkeypatch):
    source, load = Troubled(4, {"s2": "usage"}), Troubled.load

    def interrupted(self, scene_id):
        if scene_id == "s3":
            raise KeyboardInterrupt
        return load(self, scene_id)

    with monkeypatch.context() as patch:
        patch.setattr(Troubled, "load", interrupted)
        with pytest.raises(UsageError):
            write_pack(source, tmp_path / "first strict", None, strict=True)
        with pytest.raises(KeyboardInterrupt):
            write_pack(source, tmp_path / "then strict", None)
    monkeypatch.setattr(Troubled, "load", lambda self, scene_id: load(Troubled(4, {}), scene_id))
    assert write_pack(source, tmp_path / "first strict", None).num_scenes == 4
    assert write_pack(source, tmp_path / "then strict", None, strict=True).num_scenes == 4


def test_no_good_scene_is_an_error_that_leaves_nothing_and_says_each_reason_once(tmp_path, capsys, monkeypatch):
    source = Troubled(2, {"s0": "usage", "s1": "value"})
    with pytest.raises(UsageError, match=r"^no scene can be packed: mend what the lines above say$"):
        write_pack(source, tmp_path, None)
    assert capsys.readouterr().out.count(REASONS["usage"]) == 1
    assert not list(tmp_path.iterdir())
    load = Troubled.load

    def interrupted(self, scene_id):
        if scene_id == "s1":
            raise KeyboardInterrupt
        return load(self, scene_id)

    with monkeypatch.context() as patch:
        patch.setattr(Troubled, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_pack(source, tmp_path, None)
    with pytest.raises(UsageError, match=r"no scene can be packed, the first, s0, because s\.json is torn"):
        write_pack(source, tmp_path, None)
    write_pack(Troubled(2, {}), tmp_path, None)


@pytest.mark.slow("many processes")
def test_a_scene_that_kills_its_process_is_left_out_alone(tmp_path):
    troubles = {"s1": "killed", "s6": "killed", "s4": "value"}
    source = Troubled(9, troubles | {"s0": "slow", "s7": "slow"})
    for processes in (1, 3):
        index = write_pack(source, tmp_path / str(processes), None, workers=Workers(processes))
        assert {record["id"]: record["reason"] for record in index.left_out} == {
            name: REASONS[trouble] for name, trouble in troubles.items()
        }
        assert index.num_scenes == 6
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    with pytest.raises(UsageError, match="scene s0: its process was killed"):
        write_pack(Troubled(1, {"s0": "killed"}), tmp_path / "strict", None, workers=Workers(1), strict=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_scene_whose_process_is_killed_once_is_tried_again(tmp_path, processes):
    source = Troubled(5, {"s1": tmp_path / "killed"})
    assert write_pack(source, tmp_path / "out", None, workers=Workers(processes)).num_scenes == 5
    assert (tmp_path / "killed").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize("size", ["3 GiB", "64 GiB"])
def test_a_scene_that_takes_too_much_memory_is_left_out(tmp_path, size):
    index = write_pack(Troubled(3, {"s1": size}), tmp_path, None, workers=Workers(2, memory_gib=2))
    assert index.left_out == ({"id": "s1", "reason": TOO_LARGE},)
    assert index.scene_ids == ("s0", "s2")


def test_workers_that_cannot_begin_are_named(tmp_path):
    with pytest.raises(UsageError, match="killed before they begin"):
        write_pack(Deadly(3, {}), tmp_path, None, workers=Workers(2))
    with pytest.raises(UsageError, match="--memory_per_process -1 must be"):
        Workers(2, memory_gib=-1)


def test_a_scene_that_hangs_is_left_out_after_its_time_and_not_tried_twice(tmp_path):
    source, begun = Hanging(4, {"s1": tmp_path / "begun"}), time.monotonic()
    index = write_pack(source, tmp_path / "out", None, workers=Workers(1, scene_seconds=1.5))
    assert index.left_out == ({"id": "s1", "reason": TOO_SLOW.format(1.5)},)
    assert index.scene_ids == ("s0", "s2", "s3")
    assert (tmp_path / "begun").read_text() == "once"
    assert time.monotonic() - begun < 30
    for seconds in (0, float("nan")):
        with pytest.raises(UsageError, match=f"--scene_timeout {seconds} must be"):
            Workers(1, scene_seconds=seconds)
