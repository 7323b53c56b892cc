"""What one browser is shown: the newest wish alone, coarse while it moves and fine when it rests."""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from scaled_ig.errors import UsageError

MOVING_SECONDS = 1 / 20
"""Time that a picture may take while the camera moves."""
RESTING_SECONDS = 0.5
"""Time that a picture may take when it rests: a new movement waits as long."""
REST = 0.15  # seconds without a new wish after which the camera rests
SMALLEST_SIDE = 48

W = TypeVar("W")


class Pace:
    """Seconds that pictures take, by the pictures so far.

    Attributes:
        pixels_per_second: Of the last few pictures, together.
        frames_per_second: Likewise; 0 before the second picture of a movement.
    """

    def __init__(self) -> None:
        self.pixels_per_second = 128 * 128 * 20.0
        self.frames_per_second = 0.0
        self._last = 0.0

    def note(self, pixels: int, seconds: float) -> None:
        """A picture has been painted and sent."""
        self.pixels_per_second += 0.3 * (pixels / max(seconds, 1e-4) - self.pixels_per_second)
        now = time.perf_counter()
        between, self._last = now - self._last, now
        if between < 1:
            rate = 1 / max(between, 1e-4)
            self.frames_per_second += (0.2 if self.frames_per_second else 1.0) * (rate - self.frames_per_second)

    def side(self, seconds: float, most: int) -> int:
        """Side of a square picture that takes as long, in pixels."""
        return max(SMALLEST_SIDE, min(most, int(math.sqrt(self.pixels_per_second * seconds))))


class Painter(Generic[W]):
    """A thread that paints what a browser wants to see.

    Args:
        paint: Makes the picture of a wish that takes so many seconds at most, and shows it.
        complain: Tells the user what is wrong with a wish.
    """

    def __init__(self, paint: Callable[[W, float], None], complain: Callable[[str], None]) -> None:
        self._paint, self._complain = paint, complain
        self._changed, self._closed = threading.Condition(), False
        self._wish: W | None = None
        self._thread = threading.Thread(target=self._run, name="painter", daemon=True)
        self._thread.start()

    def ask(self, wish: W) -> None:
        """Want to see something else; what was wanted before and is not painted yet never will be."""
        with self._changed:
            self._wish = wish
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the picture that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _next(self, seconds: float | None) -> W | None:
        """The newest wish that is not painted; None where there is none for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._wish is not None or self._closed, seconds)
            wish, self._wish = self._wish, None
            return wish

    def _run(self) -> None:
        last: W | None = None
        while not self._closed:
            wish = self._next(REST if last is not None else None)
            seconds = MOVING_SECONDS if wish is not None else RESTING_SECONDS
            shown = wish if wish is not None else last
            last = wish
            if shown is None or self._closed:
                continue
            try:
                self._paint(shown, seconds)
            except UsageError as error:
                last = None
                self._complain(str(error))
            except Exception:
                last = None
                traceback.print_exc(file=sys.stderr)
                self._complain("this could not be drawn: the terminal says why")
