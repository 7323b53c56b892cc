"""Tasks in child processes, which may crash, hang or run out of memory; each costs its task, not the call."""

import math
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from scaled_ig.errors import UsageError

START_SECONDS = 60.0  # until a child has imported what it needs, on a machine that is busy
EXIT_SECONDS = 1.0
MOST_AHEAD = 8  # tasks that a child holds, to stay busy while the caller is

BEAT = "beat"  # a child that has nothing to tell yet sends it to show that it goes on
DONE = "done"

Task = TypeVar("Task")


@dataclass(frozen=True)
class Lost:
    """A child ended before its task was done.

    Attributes:
        reason: how, as a predicate.
        error: what the task raised, if that was the end.
        is_late: whether it was killed because it gave no sign for too long.
    """

    reason: str
    error: Exception | None = field(default=None, compare=False)
    is_late: bool = field(default=False, compare=False)


class StartError(UsageError):
    """No child process comes as far as its first task; ``reason`` says how the last one ended."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"a child process could not start (it {reason}): free memory; a script of your own needs the line "
            'if __name__ == "__main__"'
        )


def run_tasks(
    work: Callable[[Task], Iterable[Any] | None],
    tasks: deque[Task],
    processes: int,
    seconds: float = math.inf,
    memory_bytes: int | None = None,
    disposable: bool = False,
) -> Generator[tuple[Task, Any], None, None]:
    """Works on tasks in child processes; what a child has begun is lost with it, the other tasks are not.

    Args:
        work: importable function, or method of what can be pickled, from a task to messages, if it has any to tell.
        tasks: what is to be done; more may be added while this runs, such as the rest of a task that was lost.
        processes: children at a time; fewer where not all of them can start.
        seconds: a child that sends no message for so long is killed. It is the limit of a task that sends none;
            others send ``BEAT`` to go on.
        memory_bytes: most memory of a child, enforced on Linux; None sets no limit.
        disposable: a child takes one task and prints nothing, for libraries that a damaged file may leave in any
            state; it is forked from a server, in milliseconds. Else a child is spawned, and takes task after task.

    Yields:
        Task and message as they come; as the last message of a task ``DONE``, or ``Lost``.

    Raises:
        StartError: no child can even start.
    """
    children: dict[Connection, _Child] = {}
    try:
        while tasks or children:
            while tasks and len(children) < processes:
                child = _Child(work, memory_bytes, disposable, seconds)
                child.give(tasks.popleft())
                children[child.connection] = child
            soonest = min(child.deadline for child in children.values())
            ready = wait(list(children), min(60.0, max(0.0, soonest - time.monotonic())))  # it takes no infinity
            now = time.monotonic()
            late = [link for link, child in children.items() if link not in ready and child.deadline <= now]
            for link in [*ready, *late]:
                child = children[link]  # type: ignore[index]
                message = child.receive() if link in ready else child.too_late()
                task = child.tasks[0]
                if isinstance(message, Lost):
                    del children[child.connection]
                    child.end()
                    if not child.began:
                        tasks.extendleft(reversed(child.tasks))
                        processes = len(children)  # memory may suffice for those
                        if not processes:
                            raise StartError(message.reason)
                        continue
                    child.tasks.popleft()
                    tasks.extendleft(reversed(child.tasks))
                elif message == DONE:
                    child.tasks.popleft()
                    most = 0 if disposable else min(MOST_AHEAD, 1 + len(tasks) // processes)
                    while tasks and len(child.tasks) < most:
                        child.give(tasks.popleft())
                    if not child.tasks:
                        del children[child.connection]
                        child.dismiss()
                if message != BEAT:
                    yield task, message
    finally:
        for child in children.values():
            child.end()


class _Child:
    """A child process, and the tasks that it holds, the one that it works on first."""

    def __init__(
        self, work: Callable[[Any], Iterable[Any] | None], memory_bytes: int | None, disposable: bool, seconds: float
    ) -> None:
        # A server that has imported the modules once forks a child in milliseconds, and has no threads to deadlock on.
        method = "forkserver" if disposable and "forkserver" in get_all_start_methods() else "spawn"
        context = get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["numpy", "h5py", work.__module__])
        self.tasks: deque[Any] = deque()
        self.connection, child_end = context.Pipe()
        arguments = (child_end, work, memory_bytes, disposable)
        self.process = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        with _one_thread_each():
            self.process.start()
        child_end.close()
        self.began = False
        self.seconds = seconds
        self.patience = max(START_SECONDS, seconds)
        self.deadline = time.monotonic() + self.patience

    def give(self, task: Any) -> None:
        self.tasks.append(task)
        with suppress(BrokenPipeError, ConnectionResetError):  # what has become of the child is to be received
            self.connection.send(task)

    def receive(self) -> Any:
        """The next message."""
        try:
            message = self.connection.recv()
        except Exception:  # the end of the pipe, or what a broken process left in it
            self.process.join(EXIT_SECONDS)
            return Lost(_last_words(self.process.exitcode))
        self.began = True
        self.patience = self.seconds
        self.deadline = time.monotonic() + self.patience
        return message

    def too_late(self) -> Lost:
        """What to say when the deadline has passed."""
        return Lost(f"gave no sign for {self.patience:.0f} s", is_late=True)

    def dismiss(self) -> None:
        """Lets a child end that has nothing left to do; it leaves nothing behind, but may hang on its way out."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(None)
        self.process.join(EXIT_SECONDS)
        self.end()

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


def _work(
    connection: Connection, work: Callable[[Any], Iterable[Any] | None], memory_bytes: int | None, is_silent: bool
) -> None:
    """What a child process does; it ends after a task that failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if is_silent:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a crashing library prints its own lines
    if memory_bytes is not None:
        _limit_memory(memory_bytes)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        connection.send(BEAT)
        for task in iter(connection.recv, None):
            try:
                for message in work(task) or ():
                    connection.send(message)
            except MemoryError as error:
                limit = "there is" if memory_bytes is None else f"{memory_bytes / 2**30:.3g} GiB"
                connection.send(Lost(f"needed more memory than {limit}", error))
                return
            except Exception as error:
                error.add_note(traceback.format_exc())
                connection.send(Lost(f"failed ({type(error).__name__}: {error})", error))
                return
            connection.send(DONE)


def _end_with_parent() -> None:
    """Ends this child process when its parent dies, since it would go on writing beside the next call; never returns.

    Meant for a thread of its own.
    """
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _limit_memory(most_bytes: int) -> None:
    if sys.platform == "linux":
        import resource

        # RLIMIT_AS would also count files that are mapped and address space that is only reserved.
        highest = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = most_bytes if highest == resource.RLIM_INFINITY else min(most_bytes, highest)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Read when a child imports numpy: its products are many and small."""
    old_value = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if old_value is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = old_value
