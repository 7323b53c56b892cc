"""What the folder of a pack takes: one call at a time, ids that can be written, and no more than the disk has."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from data_modules import layout
from data_modules.packing import pack
from data_modules.packing.folder import LOCK_FILE, alone
from data_modules.packing.pack import list_scenes, write_pack
from data_modules.packing.scene_writer import RenderSettings
from data_modules.packing.workers import Workers
from data_modules.sources.base import SceneEntry
from scaled_ig import files
from scaled_ig.errors import UsageError
from tests.data_modules.packing.test_workers import Troubled

PROGRAM = """
import resource
from pathlib import Path
from data_modules.packing.pack import write_pack
from data_modules.packing.workers import Workers
from tests.data_modules.packing.test_workers import Troubled

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    try:
        write_pack(Troubled(50, {{}}), Path({out!r}), None, workers=Workers({processes}))
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("limit", [1000, 20000])  # of a scene, of a shard
def test_a_full_disk_is_one_error_and_no_crash(tmp_path, limit, processes):
    (tmp_path / "program.py").write_text(PROGRAM.format(limit=limit, out=str(tmp_path / "out"), processes=processes))
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert (done.returncode, done.stdout) == (0, "File too large\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert any(tmp_path.joinpath("out", "scenes.part").glob("*.h5")) == (limit == 20000)
    assert write_pack(Troubled(50, {}), tmp_path / "out", None).num_scenes == 50  # there is room again


def test_a_file_system_without_locks_is_written(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_pack(Troubled(1, {}), tmp_path, None)
    assert sorted(file.name for file in tmp_path.iterdir()) == [layout.shard_name(0), layout.INDEX_FILE]


def test_errors_of_the_work_are_not_taken_for_those_of_the_lock(tmp_path):
    with pytest.raises(BlockingIOError), alone(tmp_path / "out"):
        raise BlockingIOError
    assert not (tmp_path / "out").exists()


def test_a_lock_that_was_removed_meanwhile_is_not_taken(tmp_path, monkeypatch):
    flock = fcntl.flock
    removed: list[int] = []

    def late(file, how):
        if not removed:
            (tmp_path / LOCK_FILE).unlink()  # the last owner is done between open and lock
            removed.append(file)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone(tmp_path):
        with pytest.raises(UsageError, match="is being packed into by process"), alone(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())


def test_a_finished_call_needs_no_lock(tmp_path, monkeypatch):
    write_pack(Troubled(1, {}), tmp_path, None)
    monkeypatch.setattr(files, "_lock", lambda *_: pytest.fail("the folder may be read-only"))
    assert pack.write_pack(Troubled(1, {}), tmp_path, None).num_scenes == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (SceneEntry("a\udcff", "car"), r"id 'a\\udcff' is no text"),
        (SceneEntry(7, "car"), "id 7 is no text"),  # type: ignore[arg-type]
        (SceneEntry("", "car"), "id '' is no text"),
        (SceneEntry("a\nb", "car"), r"id 'a\\nb' is no text"),
        (SceneEntry("a", None), "category None of scene 'a' is no text"),  # type: ignore[arg-type]
    ],
)
def test_ids_and_categories_that_cannot_be_written_are_refused_at_once(tmp_path, monkeypatch, entry, message):
    monkeypatch.setattr(Troubled, "scenes", lambda _: [SceneEntry("Å \u202f漢", "car"), entry])
    with pytest.raises(UsageError, match=message):
        write_pack(Troubled(2, {}), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(Troubled, "scenes", lambda _: [SceneEntry("Å \u202f漢", "car")])
    assert len(list_scenes(Troubled(1, {}))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value):
    good = {"views": 1, "azimuth": (0.0, 1.0), "elevation": (0.0, 1.0)}
    for name, wrong in (("camera_distance", value), ("azimuth", (0.0, value)), ("elevation", (0.0, value))):
        with pytest.raises(UsageError, match=f"--{name} "):
            RenderSettings(**{**good, name: wrong})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--memory_per_process"):
        Workers(1, value)
