"""Work that may crash or hang, in child processes; what becomes of them is told, not suffered."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from data_modules.processes import end_with_parent
from scaled_ig.errors import UsageError

START_SECONDS = 60.0  # until a child has imported what it needs, on a machine that is busy
SILENCE_SECONDS = 10.0

BEAT = "beat"  # a child that has nothing to tell yet sends it to show that it goes on
_DONE = "done"

Job = TypeVar("Job")


@dataclass(frozen=True)
class Lost:
    """A child ended before its work was done; ``reason`` says how, as a predicate."""

    reason: str


def run_contained(
    work: Callable[[Job], Iterable[Any]], jobs: deque[Job], processes: int, silence: float = SILENCE_SECONDS
) -> Generator[tuple[Job, Any], None, None]:
    """Works on jobs in child processes, a new one for each job.

    Args:
        work: importable function from a job to messages; all are picklable. It also yields ``BEAT`` within ``silence``.
        jobs: what is to be done; more may be added while this runs, such as the rest of a job that was lost.
        processes: children at a time.
        silence: seconds after which a child that says nothing is killed.

    Yields:
        Job and message as they come; as the last message of a child that crashed, hung or failed, a ``Lost``.

    Raises:
        UsageError: a child cannot even start.
    """
    running: dict[Connection, _Child] = {}
    try:
        while jobs or running:
            while jobs and len(running) < processes:
                child = _Child(work, jobs.popleft())
                running[child.connection] = child
            soonest = min(child.deadline for child in running.values())
            ready = wait(list(running), max(0.0, soonest - time.monotonic()))
            now = time.monotonic()
            late = [link for link, child in running.items() if link not in ready and child.deadline <= now]
            for link in [*ready, *late]:
                child = running[link]  # type: ignore[index]
                message = child.receive(silence) if link in ready else child.too_late()
                if message == _DONE or isinstance(message, Lost):
                    del running[child.connection]
                    child.end()
                    child.require_began(message)
                if message not in (BEAT, _DONE):
                    yield child.job, message
    finally:
        for child in running.values():
            child.end()


class _Child:
    """A child process with one job."""

    def __init__(self, work: Callable[[Any], Iterable[Any]], job: Any) -> None:
        # A server that has imported the modules once forks a child in milliseconds, and has no threads to deadlock on.
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context = get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["numpy", "h5py", work.__module__])
        self.job = job
        self.connection, child_end = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(child_end, work, job), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        child_end.close()
        self.began = False
        self.patience = START_SECONDS
        self.deadline = time.monotonic() + self.patience

    def receive(self, silence: float) -> Any:
        """The next message."""
        try:
            message = self.connection.recv()
        except Exception:  # the end of the pipe, or what a broken process left in it
            self.process.join(1.0)
            return Lost(_last_words(self.process.exitcode))
        if message == _DONE:
            self.process.join(1.0)  # to leave nothing behind; it may hang on its way out
        self.began = True
        self.patience = silence
        self.deadline = time.monotonic() + silence
        return message

    def too_late(self) -> Lost:
        """What to say when the deadline has passed."""
        return Lost(f"gave no sign for {self.patience:.0f} s")

    def require_began(self, last: Any) -> None:
        """A child that never came to its work says nothing about it.

        Raises:
            UsageError: it did not even start.
        """
        if not self.began:
            raise UsageError(
                f"a child process could not start (it {last.reason}): free memory; a script of your own needs the line "
                'if __name__ == "__main__"'
            )

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _last_words(status: int | None) -> str:
    if status is None:
        return "broke off"
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), most likely for want of memory"
    if status < 0:
        return f"crashed ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def _work(connection: Connection, work: Callable[[Any], Iterable[Any]], job: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a crashing library prints its own lines
    try:
        connection.send(BEAT)
        for message in work(job):
            connection.send(message)
        connection.send(_DONE)
    except Exception as error:
        connection.send(Lost(f"failed ({type(error).__name__}: {error})"))
