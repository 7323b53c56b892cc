"""Files of a run folder: one process writes them; a disk that is full and a kill leave the old ones.

The n-th write of a run is refused, or is the last thing that it does.
"""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scaled_ig.runs.run_folder import LOCK_FILE, RunFolder
from tests.rounding import assert_same_training
from tests.test_ddp import on, the_error, use_callback
from tests.test_signals import assert_same_to_the_bit, rows

FAULT = """
import os, resource, signal
from pathlib import Path
from lightning.pytorch import Callback
from scaled_ig.callbacks.training_table import TrainingTable

class FaultAt(Callback):
    '''Refuses the n-th call of a function on the first rank, by an error of the system, or ends the process there.'''

    def __init__(self, place: str, number: int, error: int = 0):
        if os.environ.get("LOCAL_RANK", "0") != "0":
            return
        owner, name = {"replace": (os, "replace"), "rows": (TrainingTable, "append")}[place]
        work, self.calls = getattr(owner, name), 0

        def act(*arguments):
            self.calls += 1
            if self.calls != number:
                return work(*arguments)
            if place == "rows":  # written in part
                table = arguments[0]
                table.path.touch()
                most = table.path.stat().st_size + 10
                if error:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
                    return work(*arguments)
                work(*arguments)
                os.truncate(table.path, most)
            if error:
                raise OSError(error, os.strerror(error))
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, act)
"""
REASONS = {
    errno.ENOSPC: "the disk is full: free space",
    errno.EROFS: "the file system is read-only: name a place that can be written",
    errno.EDQUOT: "the quota is used up: free space",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
}
OPTIONS = (
    "--eval_every_n_steps", 6, "--data.val_fraction", 0.2, "--checkpoint_every_n_steps", 4,
    "--phases.warm_up.max_steps", 22,
    *(f"--phases.{name}=null" for name in ("joint", "latent_supervision", "rgb_alignment")),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_scaled_ig, tiny_config):
    """A run of two phases that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", folder, *OPTIONS)
    assert status == 0, output[-3000:]
    assert len(rows(folder)) == len(set(rows(folder)))
    return folder


@pytest.fixture
def disturbed(tmp_path, run_scaled_ig, tiny_config):
    """Trains until something goes wrong: exit status and output."""

    def run(*options, **where) -> tuple[int, str]:
        callback = use_callback(tmp_path, "FaultAt", FAULT, **where)
        call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *OPTIONS, *callback, *options)
        folders = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        return run_scaled_ig(*call, PYTHONPATH=folders)

    return run


@pytest.fixture
def go_on(tmp_path, run_scaled_ig, tiny_config):
    """Goes on; the finished run, in which nothing unfinished is left."""

    def run() -> Path:
        call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *OPTIONS, "--resume", "true")
        status, output = run_scaled_ig(*call)
        assert status == 0, output[-3000:]
        left = [path.name for path in (tmp_path / "run").rglob("*") if path.name.endswith((".part", ".lock"))]
        assert not left
        return tmp_path / "run"

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- one owner --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow("two ranks"))])
def test_a_second_fit_is_told_who_writes(tmp_path, run_scaled_ig, tiny_config, ranks):
    with RunFolder(tmp_path).alone("wait"):
        for more in ((), ("--resume", "true")):
            before = content(tmp_path)
            status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", tmp_path, *more, *on(ranks))
            assert status == 2, output[-3000:]
            said = the_error(output)
            owner = f"{tmp_path} is being written by process {os.getpid()} on host {socket.gethostname()} since 20"
            assert said.startswith(f"error: {owner}")
            assert said.endswith(": wait for it, or give another --run_dir")
            assert content(tmp_path) == before
    assert not list(tmp_path.iterdir())


def test_what_changes_a_run_waits_for_its_owner(tmp_path, run_scaled_ig, tiny_run, tiny_pack):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    scene = next(iter(RunFolder(run).read_json("scenes.json")["stage2"]))
    status, output = run_scaled_ig("bank", "remove", run, "--scenes", scene)
    assert status == 0, output[-3000:]
    scene = list(RunFolder(run).read_json("scenes.json")["stage2"])[1]
    with RunFolder(run).alone("wait"):
        before = content(run)
        for call in (("add", "--run", run, "--pack", tiny_pack), ("bank", "refit", run, "--scenes", scene)):
            status, output = run_scaled_ig(*call)
            assert status == 2, output[-3000:]
            assert f"{run} is being written by process {os.getpid()}" in the_error(output)
            assert content(run) == before
        status, output = run_scaled_ig("bank", "info", run)
        assert status == 0, "readers do not mind"


def test_drafts_of_the_dead_are_removed_and_others_stay(tmp_path):
    process = os.fork()
    if not process:
        os._exit(0)
    os.waitpid(process, 0)
    kept = [f"metrics.json.{os.getpid()}.part", "a.part", f"bank/index.json.{process}.part"]
    for name in (f"checkpoints/joint/last.ckpt.{process}.part", f"costs.json.{process}.part", *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with RunFolder(tmp_path).alone("wait"):
        assert content(tmp_path).keys() == {LOCK_FILE, *kept}


def test_a_lock_is_free_when_its_process_is_dead_though_a_worker_lives(tmp_path):
    """A worker that was forked has the file of the lock open, too."""
    owner = f"""
import os, signal, time
from pathlib import Path
from scaled_ig.files import alone_in
with alone_in(Path({str(tmp_path)!r}), {LOCK_FILE!r}, "written", "wait"):
    if not os.fork():
        Path({str(tmp_path / "worker")!r}).write_text(str(os.getpid()))
        time.sleep(60)
        os._exit(0)
    while not Path({str(tmp_path / "worker")!r}).exists():  # it closes the file as soon as it runs
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", owner], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / LOCK_FILE).exists()
    with RunFolder(tmp_path).alone("wait"):
        assert (tmp_path / LOCK_FILE).read_text().startswith(f"process {os.getpid()} ")
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)  # it has lived until now


# -- full, read-only, gone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [4, *(pytest.param(n, marks=pytest.mark.slow("many runs")) for n in (1, 2, 7, 8, 11, 13, 14, 17, 18, 20))]
)
def test_a_write_that_is_refused_is_one_sentence(tmp_path, disturbed, go_on, whole, number):
    error = list(REASONS)[number % len(REASONS)]
    status, output = disturbed(place="replace", number=number, error=error)
    assert status == 2, output[-3000:]
    said = the_error(output)
    assert str(tmp_path / "run") in said
    assert ".part" not in said
    assert REASONS[error] in re.sub(r" \([\d,]+ bytes are needed, .*?\)", "", said) or "cannot be written (" in said
    assert not list((tmp_path / "run").rglob("*.part"))
    assert_same_to_the_bit(whole, go_on())


def test_rows_that_find_no_room_are_one_sentence(tmp_path, disturbed, go_on, whole):
    status, output = disturbed(place="rows", number=4, error=errno.EFBIG)
    assert status == 2, output[-3000:]
    assert f"error: {tmp_path / 'run' / 'training.csv'}: the file would be larger than is allowed" in the_error(output)
    text = (tmp_path / "run" / "training.csv").read_text()
    assert text.endswith("\n")
    assert (whole / "training.csv").read_text().splitlines()[0] == text.splitlines()[0]
    assert_same_to_the_bit(whole, go_on())


@pytest.mark.slow("runs of two ranks")
@pytest.mark.parametrize(("place", "number"), [("replace", 2), ("replace", 5), ("rows", 4)])
def test_all_ranks_end_where_the_first_finds_no_room(tmp_path, disturbed, go_on, whole, place, number):
    status, output = disturbed(*on(2), place=place, number=number, error=errno.EFBIG)
    assert status == 2, output[-3000:]
    assert str(tmp_path / "run") in the_error(output)
    assert_same_training(whole, go_on(), ("autoencoder", "warm_up"))


@pytest.mark.parametrize("verb", ["fit", "test", "render"])
def test_a_file_where_a_folder_should_be(tmp_path, run_scaled_ig, tiny_config, tiny_run, verb):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "run"
    if verb == "fit":
        status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", place)
    elif verb == "render":
        status, output = run_scaled_ig("render", tiny_run, "--out", place / "a.mp4")
    else:
        run = shutil.copytree(tiny_run, tmp_path / "run")
        (run / "metrics.csv").unlink()
        (run / "metrics.csv").mkdir()
        place = run / "metrics.csv"
        status, output = run_scaled_ig("test", run)
    assert status == 2, output[-3000:]
    assert str(place) in the_error(output)


# -- rows of training.csv ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("rows", 4),
        *(pytest.param("rows", n, marks=pytest.mark.slow("many runs")) for n in (1, 3, 6, 9)),
        *(pytest.param("replace", n, marks=pytest.mark.slow("many runs")) for n in (1, 3, 8, 15, 17, 19)),
    ],
)
def test_rows_are_neither_lost_nor_there_twice_after_a_kill(disturbed, go_on, whole, place, number):
    status, output = disturbed(place=place, number=number)
    assert status == -9, output[-3000:]
    assert_same_to_the_bit(whole, go_on())


@pytest.mark.slow("three runs")
def test_two_kills_of_one_phase(disturbed, go_on, whole):
    assert disturbed(place="rows", number=5)[0] == -9
    assert disturbed("--resume", "true", place="rows", number=2)[0] == -9
    assert_same_to_the_bit(whole, go_on())


@pytest.mark.slow("several runs")
def test_what_is_watched_at_the_end_of_an_epoch_is_there_once(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    """A plateau is looked for there, with a checkpoint of the epoch's last step or of an earlier one behind it."""
    phases = ("autoencoder", "warm_up", "joint", "rgb_alignment")
    options = (
        "fit", "--config", tiny_config, "--init_from", tiny_run, *(f"--phases.{name}=null" for name in phases),
        "--adam.clock", "per_scene", "--data.val_fraction", 0.2, "--phases.latent_supervision.max_steps", 21,
        "--plateau.patience", 99, "--checkpoint_every_n_steps", 7, "--resume", "true",
    )  # fmt: skip
    status, output = run_scaled_ig(*options, "--run_dir", tmp_path / "whole")
    assert status == 0, output[-3000:]
    assert len(rows(tmp_path / "whole")) == len(set(rows(tmp_path / "whole")))
    for place, number in (("rows", 2), ("rows", 4), ("replace", 3), ("replace", 5)):
        folder = tmp_path / f"{place}-{number}"
        callback = use_callback(tmp_path, "FaultAt", FAULT, place=place, number=number)
        folders = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        status, output = run_scaled_ig(*options, "--run_dir", folder, *callback, PYTHONPATH=folders)
        assert status == -9, output[-3000:]
        status, output = run_scaled_ig(*options, "--run_dir", folder)
        assert status == 0, output[-3000:]
        assert rows(folder) == rows(tmp_path / "whole")
