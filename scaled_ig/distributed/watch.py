"""What a process of a run hears while it works: signals, and that another rank is gone.

A thread listens, because a process that waits for others in a collective operation does nothing else. A signal between
the first and the last step of a phase is answered where all ranks come together: they finish the step and save it. At
any other time there is nothing to save, and the process leaves at once: what is on disk is whole at every moment.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeVar

import torch
import torch.distributed as dist

from scaled_ig.distributed.heartbeat import BEAT, LATE, Heartbeat
from scaled_ig.ranges import Range, checked

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STARTED_BY = "SCALED_IG_STARTED_BY"  # variable that tells a rank whose child it is
PATIENCE = 8.0  # seconds for the step in progress, within the 10 in which a process that was asked to stop must end
TOGETHER = 0.5  # seconds: a launcher and the terminal may both pass on one signal
TICK = 0.1  # seconds between two looks at the other ranks
Silence = Annotated[float, Range(4 * BEAT, 1e6)]
"""Seconds."""
WAY_OUT = "go on with --resume true"


class Stopped(SystemExit):
    """A signal has ended training; the code is 128 and the signal's number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@checked
class Watch:
    """Listens while it is entered, and to the end of the process once it is asked to stop.

    Args:
        rank_timeout: Seconds of silence after which a rank is given up.

    Raises:
        UsageError: That is shorter than some beats.

    Attributes:
        rank: Of this process.
        phase: What is trained.
        step: Steps of the phase that are done; None before its first one.
        can_finish: Whether all ranks will soon come together after a step.
        is_saving: Whether a checkpoint is being written, for which there is time.
        children: Ranks that this process has started, in their order.
    """

    def __init__(self, rank_timeout: Silence = 60.0) -> None:
        self.rank_timeout = rank_timeout
        self.phase, self.step = "", None  # type: str, int | None
        self.can_finish = self.is_saving = False
        self.rank, self.children = 0, []  # type: int, list[subprocess.Popen]
        self._asked, self._parent, self._heartbeat = 0, 0, None  # type: int, int, Heartbeat | None
        self._is_leaving, self._over = False, threading.Event()
        self._handlers: dict[int, Any] = {}

    # -- for those who train -----------------------------------------------------------------------------------------

    @property
    def asked(self) -> int:
        """Number of the signal that has asked any rank to stop; 0 for none."""
        return self._asked or (self._heartbeat.asked if self._heartbeat else 0)

    def until_asked(self, items: Iterable[T]) -> Iterator[T]:
        """What is left out once somebody asks to stop."""
        for item in items:
            if self.asked:
                return
            yield item

    def agree(self, device: torch.device) -> int:
        """The signal by which all ranks stop here; 0 for none. Collective.

        Args:
            device: Of the rank's tensors.
        """
        if self._heartbeat is None:
            return self.asked
        number = torch.tensor(self.asked, device=device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number)

    def stop(self, number: int) -> Stopped:
        """Say that the run stops here; what is to be raised. All ranks call it."""
        self._asked = self._asked or number
        if self.rank == 0:
            self._say(self._stopped_by(number))
        return Stopped(number)

    def connect(self, world_size: int) -> None:
        """Hear of the other ranks from now on. Collective."""
        if world_size > 1:
            self._heartbeat = Heartbeat(self.rank, world_size, self.rank_timeout, self._place)

    def explain(self, error: Exception) -> None:
        """Where training has failed, end here if another rank is the reason; else tell the others that this one is."""
        if self.asked:  # such as an error of a worker that was sent the same signal
            raise self.stop(self.asked) from None
        if self._heartbeat is None:
            return
        self._heartbeat.in_doubt = True  # from now on a short silence is enough, and the thread ends this process
        end = time.monotonic() + LATE + 4 * BEAT
        while not self.asked and time.monotonic() < end:
            time.sleep(TICK)
        if self.asked:
            raise self.stop(self.asked) from None
        self._heartbeat.in_doubt = False
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        self._heartbeat.tell(end=f"rank {self.rank} has ended {self._place()} ({reason})")

    def _place(self) -> str:
        if not self.phase:
            return "before the first phase"
        return f"in phase {self.phase}, " + ("before its first step" if self.step is None else f"step {self.step}")

    # -- the thread --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._handlers = {number: signal.signal(number, self._ask) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        is_child = os.environ.get("LOCAL_RANK", "0") != "0"
        self._parent = int(os.environ.get(STARTED_BY, 0)) if is_child else 0  # which may be gone by now
        os.register_at_fork(after_in_child=self._forget)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="watch")
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        self._is_leaving = True  # from here on the thread hears signals alone
        if self._heartbeat is not None and self._heartbeat.end:
            self._heartbeat.leave()
        self._wait_for_children(is_well=kind is None)
        if self._heartbeat is not None:
            self._heartbeat.close()
        if kind is Stopped:
            return  # the thread sees to it that the process ends in time, whatever loggers still upload
        self._over.set()
        self._thread.join()
        self._forget()
        os.close(self._reading)
        os.close(self._writing)

    def _forget(self) -> None:
        """Hear nothing any more: signals of a process that was forked from this one are not this one's."""
        if not self._handlers:
            return
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask(self, number: int, frame: Any) -> None:
        """Python's handler: the step that a signal falls into is the last, though the thread may hear of it later."""
        self._asked = self.asked or number

    def _listen(self) -> None:
        before, first, waited, dead = time.monotonic(), None, 0.0, 0.0  # type: float, float | None, float, float
        while not self._over.is_set():
            signals = self._read_signals()
            now = time.monotonic()
            # A process that was stopped itself, as by Ctrl-Z, has not heard the others, though they may have spoken.
            passed, before = min(now - before, 1.0), now
            if signals and first is None:
                first = now
                self._asked = self.asked or signals[0]
                if self._heartbeat is not None:
                    self._heartbeat.tell(asked=self._asked)
            elif signals and first is not None and now - first > TOGETHER:
                self._end(128 + self.asked)
            if self.asked:
                waited += 0.0 if self.is_saving else passed
                if waited > PATIENCE or not (self.can_finish or self._is_leaving):
                    self._end(128 + self.asked, "" if self._is_leaving else self._stopped_by(self.asked))
            elif not self._is_leaving:
                dead = self._look_after_children(dead, passed)
                self._look_after_others(passed)

    def _read_signals(self) -> list[int]:
        """Those that have come; waits a tick for one."""
        if not select.select([self._reading], [], [], TICK)[0]:
            return []
        return [number for number in os.read(self._reading, 64) if number in SIGNALS]

    def _look_after_others(self, passed: float) -> None:
        if self._heartbeat is not None:
            self._heartbeat.listen(passed)
            if self._heartbeat.end:
                self._end(1, f"{self._heartbeat.end}: see what that rank printed last, then {WAY_OUT}")
        elif self._parent and os.getppid() != self._parent:
            self._end(1)  # before the ranks have met

    def _look_after_children(self, dead: float, passed: float) -> float:
        """End where a rank that was started here has; returns for how many seconds it is known.

        The first seconds are for this process to find the same mistake, or hear the same signal, by itself.
        """
        for number, child in enumerate(self.children, 1):
            status = child.poll()
            if not status:
                continue
            if status - 128 in SIGNALS or -status in SIGNALS:
                self._asked = self.asked or (status - 128 if status > 0 else -status)
            elif dead > LATE:
                how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
                said = f"rank {self.rank + number} has ended {self._place()} ({how})"
                if self._heartbeat is None:
                    self._end(1, f"{said}: see what it printed last, then {WAY_OUT}")
                else:
                    self._heartbeat.tell(end=said)
            return dead + passed
        return 0.0

    def _stopped_by(self, number: int) -> str:
        if not self.phase or self.step is None:
            place = self._place()
        else:
            place = f"after step {self.step} of phase {self.phase}"
        return f"stopped by {signal.Signals(number).name} {place}; {WAY_OUT}"

    def _say(self, sentence: str) -> None:
        os.write(2, f"{sentence}\n".encode())  # the main thread may hold sys.stderr

    def _end(self, code: int, sentence: str = "") -> None:
        """Leave from this thread, whatever the main thread does, and leave no process behind."""
        if sentence and self._heartbeat is not None:
            self._heartbeat.leave()
        is_first_left = sentence.startswith("rank 0 ") and (self.rank == 1 or os.environ.get("LOCAL_RANK") == "0")
        if sentence and (self.rank == 0 or is_first_left):
            self._say(sentence)
        for child in self.children:
            child.kill()
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(code)

    def _wait_for_children(self, is_well: bool) -> None:
        end = time.monotonic() + (30.0 if is_well else LATE)
        for child in self.children:
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


class GuestWatch(Watch):
    """Listens in a process that goes on afterwards, such as a notebook's: an interrupt ends training alone.

    Attributes:
        said: How training ended.
    """

    said = ""

    def __enter__(self) -> GuestWatch:
        if threading.current_thread() is threading.main_thread():  # no other one hears signals
            self._handlers = {signal.SIGINT: signal.signal(signal.SIGINT, self._ask)}
            os.register_at_fork(after_in_child=self._forget)
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        self._forget()

    def _forget(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask(self, number: int, frame: Any) -> None:
        """The step that the first interrupt falls into is finished and saved; a second one ends training at once."""
        is_second, self._asked = bool(self._asked), number
        if is_second or not self.can_finish:
            raise self.stop(number)

    def _say(self, sentence: str) -> None:
        self.said = sentence.replace(WAY_OUT, "go on with resume=True")
