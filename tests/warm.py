"""``scaled-ig`` in processes of their own, forked from one that has imported everything: they begin at once.

A process that begins cold spends seconds on imports, and a run of a tiny pack one. What is forked has the arguments,
environment, folder and process group of a call, and ends as a program does. So have the other ranks of a run.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.faults.injection import Operations

PROGRAM = Path(sys.executable).parent / "scaled-ig"
IMPORTS = """
import scaled_ig.commands.add, scaled_ig.commands.bank, scaled_ig.commands.costs, scaled_ig.commands.fit
import scaled_ig.commands.render, scaled_ig.commands.report, scaled_ig.commands.test
"""


class WarmProgram:
    """Calls, from any number of threads.

    Args:
        environment: Of the process that waits: what libraries read when they are imported.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        command, root = [sys.executable, "-m", "tests.warm"], Path(__file__).parents[1]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, cwd=root)
        self._lock = threading.Lock()

    def __call__(
        self, arguments: list[str], environment: dict[str, str], timeout: float, faults: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        """Exit status, negative for a signal, and what was printed by it and all that it has started.

        It is killed, with what it has started, after ``timeout`` seconds. ``faults`` are arguments of
        :class:`tests.faults.injection.Operations`.
        """
        assert self._server.stdin is not None
        with tempfile.TemporaryDirectory() as folder:
            pipes = {name: str(Path(folder) / name) for name in ("output", "status")}
            for pipe in pipes.values():
                os.mkfifo(pipe)
            call = {"arguments": arguments, "environment": environment, "folder": os.getcwd(), "timeout": timeout}
            call["faults"] = faults
            with self._lock:
                self._server.stdin.write(json.dumps(call | pipes) + "\n")
                self._server.stdin.flush()
            output = Path(pipes["output"]).read_text(errors="replace")
            return int(Path(pipes["status"]).read_text()), output

    def close(self) -> None:
        """End the process that waits."""
        self._server.kill()
        self._server.communicate()


class WaitingRank(subprocess.Popen):
    """Another rank of the run, forked before the first has done anything; it begins once it is told its environment."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.args, self.returncode, self.pid = sys.argv, None, os.fork()
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._waitpid_lock = True, threading.Lock()
        if self.pid:
            return os.close(reading)
        os.close(self._writing)
        with os.fdopen(reading) as pipe:
            environment = pipe.readline()
        if not environment:  # the first rank has ended without it
            os._exit(0)
        os.environ.clear()
        os.environ.update(json.loads(environment))
        from scaled_ig.cli import main

        sys.exit(main())

    def begin(self, environment: dict[str, str]) -> WaitingRank:
        """Let it begin."""
        with os.fdopen(self._writing, "w") as pipe:
            pipe.write(json.dumps(environment) + "\n")
        return self


def rank_starter(waiting: list[WaitingRank]) -> Any:
    """``subprocess.Popen``, but a rank that is to be started is one of those that wait, while there are any."""

    class Popen(subprocess.Popen):
        def __new__(cls, command, env=None, **options):
            if waiting and env and "LOCAL_RANK" in env and list(command[1:]) == sys.argv:
                return waiting.pop(0).begin(env)
            return super().__new__(cls)

    return Popen


def become(call: dict) -> None:
    """Take up what a call says, in the process that was forked for it."""
    os.setsid()
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(call["output"], os.O_WRONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    sys.path[:0] = [folder for folder in call["environment"].get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.argv = [str(PROGRAM), *call["arguments"]]
    sys.modules["__main__"].__spec__ = None  # whoever starts this program again calls PROGRAM
    if "--trainer.devices" in sys.argv:  # and not --trainer.devices=N, with which ranks begin cold
        ranks = int(sys.argv[sys.argv.index("--trainer.devices") + 1])
        subprocess.Popen = rank_starter([WaitingRank() for _ in range(1, ranks)])
    if call["faults"]:
        Operations(**call["faults"])


def serve() -> None:
    """Fork for each line of input a process that forks the program, waits for it and tells its status."""
    exec(IMPORTS)
    from scaled_ig.cli import main

    gc.freeze()  # collecting garbage need not look at all modules in every process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who tell
    for line in sys.stdin:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        call = json.loads(line)
        program = os.fork()
        if not program:
            become(call)
            main()
        signal.signal(signal.SIGALRM, lambda *_, group=program: os.killpg(group, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, call["timeout"])
        _, status = os.waitpid(program, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        Path(call["status"]).write_text(str(os.waitstatus_to_exitcode(status)))
        os._exit(0)


if __name__ == "__main__":
    serve()
