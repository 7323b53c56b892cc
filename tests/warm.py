"""``scaled-ig`` in processes of their own, forked from one that has imported everything: they begin at once.

A process that begins cold spends seconds on imports, and a run of a tiny pack one. What is forked has the arguments,
environment, folder and process group of a call, and ends as a program does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "scaled-ig"
IMPORTS = """
import scaled_ig.commands.add, scaled_ig.commands.bank, scaled_ig.commands.costs, scaled_ig.commands.fit
import scaled_ig.commands.render, scaled_ig.commands.report, scaled_ig.commands.test
"""


class WarmProgram:
    """Calls, one after the other.

    Args:
        environment: Of the process that waits: what libraries read when they are imported.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        command, root = [sys.executable, "-m", "tests.warm"], Path(__file__).parents[1]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=root)

    def __call__(self, arguments: list[str], environment: dict[str, str], timeout: float) -> tuple[int, str]:
        """Exit status, negative for a signal, and what was printed by it and all that it has started.

        It is killed, with what it has started, after ``timeout`` seconds.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output"
            os.mkfifo(output)
            call = {"arguments": arguments, "environment": environment, "folder": os.getcwd(), "output": str(output)}
            self._server.stdin.write(json.dumps(call | {"timeout": timeout}) + "\n")
            self._server.stdin.flush()
            printed = output.read_text(errors="replace")
            return int(self._server.stdout.readline()), printed

    def close(self) -> None:
        """End the process that waits."""
        self._server.kill()
        self._server.communicate()


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


def serve() -> None:
    """Fork for each line of input, and answer with the status that it ends with."""
    exec(IMPORTS)
    from scaled_ig.cli import main

    gc.freeze()  # collecting garbage need not look at all modules in every process

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if not child:
            answers.close()
            become(call)
            main()
        signal.signal(signal.SIGALRM, lambda *_, pid=child: _end(pid))
        signal.setitimer(signal.ITIMER_REAL, call["timeout"])
        _, status = os.waitpid(child, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    serve()
