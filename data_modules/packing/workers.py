"""Makes the scenes of a pack in worker processes that may neither grow without bound nor end the job by dying."""

import math
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

from data_modules.packing.scene_writer import SceneWriter
from data_modules.processes import Lost, StartError, run_tasks
from scaled_ig.errors import UsageError

KILLED = "its process was killed, by a fault in a library or for want of memory: repair or simplify its files"
TOO_SLOW = "it takes more than the {:g} s that a scene may take: simplify it, or give more --scene_timeout"


@dataclass(frozen=True)
class Workers:
    """How many processes make scenes, and what each may have.

    Attributes:
        processes: worker processes; 0 works in this process, where a scene that kills it ends the job.
        memory_gib: most memory of a worker in GiB, enforced on Linux; None sets no limit.
        scene_seconds: most time that a worker takes for a scene.
    """

    processes: int = 0
    memory_gib: float | None = None
    scene_seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise UsageError(f"--processes {self.processes} must be positive")
        if self.memory_gib is not None and not 0 < self.memory_gib < math.inf:
            raise UsageError(f"--memory_per_process {self.memory_gib} must be a positive number of GiB")
        if not self.scene_seconds > 0:  # nor NaN
            raise UsageError(f"--scene_timeout {self.scene_seconds} must be a positive number of seconds")


def settle_scenes(writer: SceneWriter, rows: list[int], workers: Workers) -> Generator[int, None, None]:
    """Yields every row once its scene is finished or left out.

    A scene whose worker dies is tried again at last, alone, since the others may have taken the memory that it needs;
    it is left out if its worker dies again. One that takes too long is left out at once: it would take as long again.

    Raises:
        UsageError: no worker can begin.
        OSError: the disk is full.
    """
    if workers.processes == 0:
        for row in rows:
            writer.write(row)
            yield row
        return
    suspects = []
    for row, is_lost in _write_scenes(writer, rows, workers):
        if is_lost:
            suspects.append(row)
        else:
            yield row
    for row, is_lost in _write_scenes(writer, suspects, replace(workers, processes=1)):
        if is_lost:
            writer.parts.leave_out(row, writer.scene_ids[row], KILLED)
        yield row


def _write_scenes(writer: SceneWriter, rows: list[int], workers: Workers) -> Iterator[tuple[int, bool]]:
    """Yields every row, and whether its worker died over it."""
    memory_bytes = None if workers.memory_gib is None else int(workers.memory_gib * 2**30)
    try:
        for row, end in run_tasks(writer.write, deque(rows), workers.processes, workers.scene_seconds, memory_bytes):
            if isinstance(end, Lost) and end.error is not None:
                raise end.error
            if isinstance(end, Lost) and end.is_late:
                writer.parts.leave_out(row, writer.scene_ids[row], TOO_SLOW.format(workers.scene_seconds))
                yield row, False
            else:
                yield row, isinstance(end, Lost)
    except StartError:
        raise UsageError(
            "worker processes are killed before they begin, most likely for want of memory: repeat the call with "
            "fewer --processes or more --memory_per_process"
        ) from None
