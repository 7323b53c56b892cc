"""A run that is asked to stop ends its step, saves and leaves; one that has lost a rank says so. Both go on exactly."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from scaled_ig.callbacks.training_table import TrainingTable
from scaled_ig.distributed.watch import Watch
from scaled_ig.errors import UsageError
from tests.rounding import PHASES, assert_same_training, checkpoint
from tests.test_ddp import on, use_callback

SIGNALLER = """
import os, signal, time
from pathlib import Path
from lightning.pytorch import Callback

class SignalAt(Callback):
    '''Sends signals to one rank, to all, or to all processes, in a hook at a step of a phase; waits after each.'''

    def __init__(self, phase: str, step: int, signals: list[int], rank: int = 0, hook: str = "step", wait: float = 0.0,
                 group: bool = False):
        self.phase, self.step, self.signals, self.rank = phase, step, signals, rank
        self.hook, self.wait, self.group = hook, wait, group

    def _send(self, trainer, module, hook):
        if (module.name, module.global_step, hook) != (self.phase, self.step, self.hook):
            return
        if self.rank in (trainer.global_rank, -1):
            for number in self.signals:
                with Path(os.environ["SENT"]).open("a") as file:
                    file.write(f"{time.time()} {os.getpid()}\\n")
                os.kill(0 if self.group else os.getpid(), number)  # 0: the group
                time.sleep(self.wait)

    def on_fit_start(self, trainer, module):
        self._send(trainer, module, "fit")

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._send(trainer, module, "step")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self._send(trainer, module, "evaluation")

    def on_train_epoch_end(self, trainer, module):
        self._send(trainer, module, "epoch")

    def on_train_end(self, trainer, module):
        self._send(trainer, module, "end")
"""
TERM, USR1, INT, KILL, STOP = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP
SOON = 60  # seconds, in which nobody hangs; the 10 that are promised are for machines that are not overloaded
OPTIONS = ("--eval_every_n_steps", 6, "--data.val_fraction", 0.2, *(f"--phases.{name}=null" for name in PHASES[2:]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_scaled_ig, tiny_config):
    """A run of the first two phases by one process, which nobody has stopped; epochs have seven steps."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", folder, *OPTIONS)
    assert status == 0, output[-3000:]
    return folder


@pytest.fixture
def cut(tmp_path, run_scaled_ig, tiny_config):
    """Trains until signals are sent: exit status, output, and seconds since the first signal."""

    def run(*options, **where) -> tuple[int, str, float]:
        callback = use_callback(tmp_path, "SignalAt", SIGNALLER, **where)
        call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *OPTIONS, *callback, *options)
        folders = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        status, output = run_scaled_ig(*call, PYTHONPATH=folders, SENT=str(tmp_path / "sent"))
        seconds = time.time() - float((tmp_path / "sent").read_text().split()[0])
        assert "Traceback" not in output, output[-3000:]
        assert not list((tmp_path / "run").rglob("*.part"))
        return status, output, seconds

    return run


@pytest.fixture
def go_on(tmp_path, run_scaled_ig, tiny_config):
    """Goes on with one process; the finished run."""

    def run():
        call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *OPTIONS, "--resume", "true")
        status, output = run_scaled_ig(*call)
        assert status == 0, output[-3000:]
        return tmp_path / "run"

    return run


def assert_same_to_the_bit(run, other) -> None:
    """Weights, moments and what was measured, at every step."""
    for phase in PHASES[:2]:
        one, two = checkpoint(run, phase), checkpoint(other, phase)
        assert one["state_dict"].keys() == two["state_dict"].keys()
        assert all(torch.equal(value, two["state_dict"][name]) for name, value in one["state_dict"].items())
        moments, others = (content["optimizer_states"][0]["state"] for content in (one, two))
        assert moments.keys() == others.keys()
        for key, slots in moments.items():
            assert all(torch.equal(value, others[key][name]) for name, value in slots.items())
    assert rows(run) == rows(other)


def rows(run) -> list[tuple[str, ...]]:
    """Of ``training.csv``, without its seconds."""
    return [(r["phase"], r["step"], r["name"], r["value"]) for r in TrainingTable(run / "training.csv").read()]


def last_step(run) -> int:
    return checkpoint(run, "warm_up", "last")["global_step"]


@pytest.mark.parametrize(
    ("number", "hook", "step", "saved"),
    [
        (TERM, "step", 7, 8),
        (INT, "epoch", 7, 8),
        *(
            pytest.param(*case, marks=pytest.mark.slow("many runs"))
            for case in (
                (USR1, "step", 1, 2),
                (INT, "step", 6, 7),
                (USR1, "evaluation", 1, 1),
                (TERM, "evaluation", 6, 6),
                (TERM, "end", 12, 12),
            )
        ),
    ],
)
def test_the_step_is_finished_and_saved(tmp_path, cut, go_on, whole, number, hook, step, saved):
    status, output, seconds = cut(phase="warm_up", step=step, signals=[int(number)], hook=hook)
    assert status == 128 + number, output[-3000:]
    assert seconds < SOON
    said = f"stopped by {number.name} after step {saved} of phase warm_up; go on with --resume true"
    assert output.splitlines()[-1] == said
    assert last_step(tmp_path / "run") == saved
    assert_same_to_the_bit(whole, go_on())


@pytest.mark.slow("two runs")
def test_a_signal_to_all_processes_leaves_workers_to_finish_the_step(tmp_path, cut, go_on, whole):
    """As SLURM sends it."""
    where = {"phase": "autoencoder", "step": 2, "signals": [int(TERM)], "group": "true", "wait": 1.0}
    status, output, seconds = cut("--data.num_workers", 1, **where)
    assert status == 143, output[-3000:]
    assert seconds < SOON
    assert output.splitlines()[-1].startswith("stopped by SIGTERM after step 3 of phase autoencoder")
    assert checkpoint(tmp_path / "run", "autoencoder", "last")["global_step"] == 3
    assert_same_to_the_bit(whole, go_on())


@pytest.mark.parametrize("number", [TERM, pytest.param(INT, marks=pytest.mark.slow("many runs"))])
def test_between_phases_there_is_nothing_to_finish(cut, go_on, whole, number):
    status, output, seconds = cut(phase="warm_up", step=0, signals=[int(number)], hook="fit", wait=2 * SOON)
    assert status == 128 + number, output[-3000:]
    assert seconds < SOON
    said = f"stopped by {number.name} in phase warm_up, before its first step; go on with --resume true"
    assert output.splitlines()[-1] == said
    assert_same_to_the_bit(whole, go_on())


def test_a_second_signal_leaves_at_once(tmp_path, cut, go_on, whole):
    """A launcher and a terminal may send two for one: those count once."""
    status, output, seconds = cut(phase="warm_up", step=7, signals=[int(INT), int(TERM)])
    assert (status, last_step(tmp_path / "run")) == (130, 8), output[-3000:]
    status, output, seconds = cut("--resume", "true", phase="warm_up", step=11, signals=[int(USR1), int(TERM)], wait=1)
    assert status == 138, output[-3000:]
    assert seconds < SOON
    assert last_step(tmp_path / "run") == 10
    assert_same_to_the_bit(whole, go_on())


@pytest.mark.slow("runs of two ranks")
@pytest.mark.parametrize(
    ("number", "rank", "hook", "step", "saved"),
    [(TERM, 1, "step", 7, 8), (USR1, -1, "evaluation", 6, 6), (INT, 1, "fit", 0, None)],
)
def test_all_ranks_stop_after_the_same_step(tmp_path, cut, go_on, whole, number, rank, hook, step, saved):
    where = {"phase": "warm_up", "step": step, "hook": hook, "rank": rank}
    status, output, seconds = cut(*on(2), **where, signals=[int(number)], wait=0.2)
    assert status == 128 + number, output[-3000:]
    assert seconds < SOON
    place = "in phase warm_up, before its first step" if saved is None else f"after step {saved} of phase warm_up"
    assert output.splitlines()[-1] == f"stopped by {number.name} {place}; go on with --resume true"
    assert saved is None or last_step(tmp_path / "run") == saved
    assert_same_training(whole, go_on(), PHASES[:2])


@pytest.mark.slow("runs of two ranks")
@pytest.mark.parametrize(("number", "rank"), [(KILL, 1), (KILL, 0), (STOP, 1), (STOP, 0)])
def test_a_lost_rank_ends_the_others(tmp_path, cut, go_on, whole, number, rank):
    """A stopped rank is killed where it was started by another one; a stopped first rank here, once the other ends."""

    def end_first_rank() -> None:
        while not ((tmp_path / "sent").exists() and (tmp_path / "sent").read_text().endswith("\n")):
            time.sleep(0.1)
        lost = int((tmp_path / "sent").read_text().split()[1])
        (other,) = (int(child) for child in Path(f"/proc/{lost}/task/{lost}/children").read_text().split())
        while Path(f"/proc/{other}/cmdline").read_bytes():  # it is a zombie at last
            time.sleep(0.1)
        os.kill(lost, KILL)

    if (number, rank) == (STOP, 0):
        threading.Thread(target=end_first_rank, daemon=True).start()
    where = {"phase": "warm_up", "step": 7, "signals": [int(number)], "rank": rank}
    status, output, seconds = cut(*on(2), "--rank_timeout", 4, **where)
    assert status == (1 if rank else -KILL), output[-3000:]
    assert seconds < 4 + SOON
    how = "has not answered for 4 s" if number == STOP else "has ended"
    said = f"rank {rank} {how} in phase warm_up, step 7"
    (sentence,) = [line for line in output.splitlines() if said in line]
    assert sentence.endswith("see what that rank printed last, then go on with --resume true")
    assert not {"gloo", "Exception", "frame"} & set(re.findall(r"\w+", output))
    assert last_step(tmp_path / "run") == 6
    assert_same_training(whole, go_on(), PHASES[:2])


def test_a_rank_timeout_of_less_than_some_beats_is_refused():
    with pytest.raises(UsageError, match=r"rank_timeout 0\.5 must be 2 to "):
        Watch(0.5)
