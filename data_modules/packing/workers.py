"""Makes the scenes of a pack in worker processes that may neither grow without bound nor end the job by dying."""

import math
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from data_modules.packing.scene_writer import SceneWriter
from data_modules.processes import end_with_parent
from scaled_ig.errors import UsageError

KILLED = "its process was killed, by a fault in a library or for want of memory: repair or simplify its files"


@dataclass(frozen=True)
class Workers:
    """How many processes make scenes, and what each may have.

    Attributes:
        processes: worker processes; 0 works in this process, where a scene that kills it ends the job.
        memory_gib: most memory of a worker in GiB, enforced on Linux; None sets no limit.
    """

    processes: int = 0
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise UsageError(f"--processes {self.processes} must be positive")
        if self.memory_gib is not None and not 0 < self.memory_gib < math.inf:
            raise UsageError(f"--memory_per_process {self.memory_gib} must be a positive number of GiB")


def settle_scenes(writer: SceneWriter, rows: list[int], workers: Workers) -> Generator[int, None, None]:
    """Yields every row once its scene is finished or left out.

    A worker that dies takes the others with it. What they had begun is then tried one scene at a time in a process of
    its own, and left out if it dies again.

    Raises:
        UsageError: no worker can begin.
        OSError: the disk is full.
    """
    if workers.processes == 0:
        yield from map(writer.write, rows)
        return
    for row in rows:
        writer.parts.begun(row).unlink(missing_ok=True)
    open_rows = rows
    while open_rows:
        settled = yield from _settle_together(writer, open_rows, workers)
        open_rows = [row for row in open_rows if row not in settled]
        suspects = [row for row in open_rows if writer.parts.begun(row).exists()]
        if open_rows and not suspects:
            raise UsageError(
                "worker processes are killed before they begin, most likely for want of memory: repeat the call with "
                "fewer --processes or more --memory_per_process"
            )
        for row in suspects:
            if not (yield from _settle_together(writer, [row], Workers(1, workers.memory_gib))):
                writer.parts.leave_out(row, writer.scene_ids[row], KILLED)
                yield row
        open_rows = [row for row in open_rows if row not in suspects]


def _settle_together(writer: SceneWriter, rows: list[int], workers: Workers) -> Generator[int, None, set[int]]:
    """Yields the rows as they are settled, until a worker dies; returns them."""
    settled: set[int] = set()
    count = min(workers.processes, len(rows))
    context = get_context("spawn")
    with (
        _one_thread_each(),
        ProcessPoolExecutor(count, context, _start_worker, (writer, workers.memory_gib)) as pool,
    ):
        try:
            for future in as_completed([pool.submit(_write_scene, row) for row in rows]):
                row = future.result()
                settled.add(row)
                yield row
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(cancel_futures=True)
    for row in rows:
        if row not in settled and writer.parts.is_settled(row):
            settled.add(row)
            yield row
    return settled


_worker: SceneWriter | None = None


def _start_worker(writer: SceneWriter, memory_gib: float | None) -> None:
    global _worker
    _worker = writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the packing one ends the others
    threading.Thread(target=end_with_parent, daemon=True).start()
    if memory_gib is not None and sys.platform == "linux":
        import resource

        # RLIMIT_AS would also count files that are mapped and address space that is only reserved.
        highest = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = int(memory_gib * 2**30)
        limit = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))


def _write_scene(row: int) -> int:
    assert _worker is not None
    return _worker.write(row)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Read when a worker imports numpy: its products are many and small."""
    old_value = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if old_value is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = old_value
