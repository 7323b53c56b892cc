"""Child processes that crash, hang, eat memory, fail or leave: each costs its task."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from data_modules.processes import BEAT, DONE, Lost, StartError, run_tasks

GIB = 2**30


def misbehave(task):
    kind, number = task
    yield "began"
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "hang":
        time.sleep(60)
    if kind == "raise":
        raise RuntimeError("no such thing")
    if kind == "leave":
        os._exit(3)
    if kind == "eat":
        np.ones(3 * GIB, np.uint8)
    yield number


def misbehave_and_say_nothing(task):
    list(misbehave(task))


KINDS = ("crash", "fine", "hang", "raise", "leave", "fine", "crash", "fine")


def check_ends(ends):
    assert ends[("crash", 0)] == Lost("crashed (SIGSEGV)")
    assert ends[("hang", 2)].reason.startswith("gave no sign for")
    assert ends[("raise", 3)] == Lost("failed (RuntimeError: no such thing)")
    assert "in misbehave" in ends[("raise", 3)].error.__notes__[0]
    assert ends[("leave", 4)] == Lost("ended with status 3")
    assert ends[("crash", 6)] == Lost("crashed (SIGSEGV)")
    assert [ends[("fine", number)] for number in (1, 5, 7)] == [DONE] * 3


@pytest.mark.parametrize("disposable", [True, False])
@pytest.mark.parametrize("processes", [1, 3])
def test_children_that_crash_hang_fail_or_leave(disposable, processes):
    start = time.monotonic()
    tasks = deque((kind, number) for number, kind in enumerate(KINDS))
    messages = list(run_tasks(misbehave, tasks, processes, 1, disposable=disposable))
    assert time.monotonic() - start < 30
    check_ends(dict(messages))
    assert BEAT not in [message for _, message in messages]
    for number in (1, 5, 7):
        assert [message for task, message in messages if task == ("fine", number)] == ["began", number, DONE]


def test_tasks_that_say_nothing_have_a_time_limit():
    tasks = deque((kind, number) for number, kind in enumerate(KINDS))
    check_ends(dict(run_tasks(misbehave_and_say_nothing, tasks, 2, seconds=1)))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize("disposable", [True, False])
def test_a_task_that_eats_memory_ends_and_the_others_go_on(disposable):
    tasks = deque([("eat", 0), ("fine", 1), ("hang", 2), ("eat", 3), ("fine", 4)])
    ends = dict(run_tasks(misbehave, tasks, 2, 1, memory_bytes=2 * GIB, disposable=disposable))
    assert ends == {
        ("eat", 0): Lost("needed more memory than 2 GiB"),
        ("fine", 1): DONE,
        ("hang", 2): Lost("gave no sign for 1 s"),
        ("eat", 3): Lost("needed more memory than 2 GiB"),
        ("fine", 4): DONE,
    }


def process_of(_):
    yield os.getpid()


@pytest.mark.parametrize("disposable", [True, False])
def test_a_child_takes_one_task_or_all(disposable):
    numbers = {message for _, message in run_tasks(process_of, deque(range(20)), 1, disposable=disposable)}
    assert len(numbers - {DONE}) == (20 if disposable else 1)


def test_a_task_may_be_added_when_another_is_lost():
    tasks = deque([("crash", 0)])
    for task, message in run_tasks(misbehave, tasks, 1):
        if isinstance(message, Lost):
            tasks.append(("fine", task[1] + 1))
    assert (task, message) == (("fine", 1), DONE)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, GeneratorExit])
def test_an_interruption_ends_all_children_at_once(interruption):
    start = time.monotonic()
    with closing(run_tasks(misbehave_and_tell, deque(range(3)), 3)) as messages:
        numbers = [next(messages)[1] for _ in range(3)]
        with pytest.raises(interruption):
            messages.throw(interruption)
    assert time.monotonic() - start < 20
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def misbehave_and_tell(_):
    yield os.getpid()
    time.sleep(60)


class Unborn:
    """Work that kills the process that unpickles it."""

    def __setstate__(self, state):
        os._exit(1)

    def __getstate__(self):
        return {"never": "empty"}

    def work(self, task):
        return [task]


def test_a_child_that_cannot_start_is_not_the_fault_of_its_task():
    with pytest.raises(StartError, match="could not start"):
        list(run_tasks(Unborn().work, deque(range(5)), 3))


def test_a_child_that_cannot_start_is_no_finding(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from collections import deque\nfrom data_modules.processes import run_tasks\n"
        "from tests.data_modules.test_processes import process_of\n"
        "print(list(run_tasks(process_of, deque([1]), 2, disposable=True)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "StartError: a child process could not start (it ended with status 1)" in done.stderr.splitlines()[-1]
    assert not done.stdout
