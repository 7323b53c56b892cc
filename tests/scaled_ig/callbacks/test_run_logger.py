"""The W&B logger without a key, and the id of a run folder."""

import os
import pty
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from scaled_ig.callbacks.run_logger import RunLogger, keep_report, run_id
from tests.wandb_files import artifacts, files_of, run_of

LOG_SOMETHING = """
from scaled_ig.callbacks import RunLogger
logger = RunLogger(save_dir={folder!r})
logger.log_metrics({{"loss": 1.0}}, step=0)
logger.experiment.finish()
"""


@pytest.fixture
def no_key(tmp_path):
    """Environment of somebody who has never heard of W&B."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return clean | {"HOME": str(tmp_path / "home"), "NETRC": str(tmp_path / "no_netrc"), "OMP_NUM_THREADS": "1"}


def run_on_a_terminal(code: str, environment: dict[str, str], limit_seconds: float = 60) -> tuple[int, str]:
    """Run Python on a terminal of its own at which nobody types: exit status and output."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-c", code], environment)
    output, end = b"", time.monotonic() + limit_seconds
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            read = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            read = b""
        output += read
        if not read:
            break
    else:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), output.decode(errors="replace")


@pytest.mark.slow("starts W&B")
def test_without_a_key_it_goes_offline_and_never_prompts(tmp_path, no_key):
    code = LOG_SOMETHING.format(folder=str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    status, output = run_on_a_terminal(code, no_key)
    assert status == 0, output
    assert "(1)" not in output
    assert "Enter your choice" not in output
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.mark.parametrize("mode", ["offline", "disabled", "online"])
def test_a_given_mode_is_taken(mode, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert RunLogger(mode=mode)._resolved_mode() == mode


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_auto_follows_the_environment(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert RunLogger()._resolved_mode() == mode


def test_a_run_folder_keeps_its_id(tmp_path):
    first, second = run_id(tmp_path / "first"), run_id(tmp_path / "second")
    assert first != second
    assert len(first) == 8
    assert run_id(tmp_path / "first") == first
    assert [path.name for path in (tmp_path / "first" / "wandb").iterdir()] == ["run_id"], "nothing else is left behind"


def test_the_id_moves_with_the_folder(tmp_path):
    made = run_id(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert run_id(tmp_path / "there") == made
    assert run_id(tmp_path / "here") != made


def test_other_ranks_write_no_id(tmp_path, monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert run_id(Path(tmp_path))
    assert not (tmp_path / "wandb").exists()


def test_the_page_is_kept_in_the_run_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    page = tmp_path / "report.html"
    page.write_text("<p>a page</p>")
    described = {"class_path": "scaled_ig.callbacks.RunLogger", "init_args": {"group": "a", "save_dir": "."}}
    keep_report(tmp_path / "run", {"trainer": {"logger": described}}, page)
    assert not (tmp_path / "run").exists(), "nobody asked for it"
    described["init_args"]["artifacts"] = ["bank", "report"]
    (tmp_path / "run").mkdir()
    keep_report(tmp_path / "run", {"trainer": {"logger": [{"class_path": "CSVLogger"}, described]}}, page)
    (file,) = files_of(tmp_path / "run")
    (kept,) = artifacts(file, "report")
    assert kept["report.html"].read_text() == "<p>a page</p>"
    assert run_of(file).run_id == run_id(tmp_path / "run")
