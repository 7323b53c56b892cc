"""How long work shows how far it is: a bar on a terminal, a line every minute in a log."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from tqdm import tqdm

SECONDS = 60.0
"""Between lines."""


class Progress(tqdm):
    """As ``tqdm``; where standard error is no terminal, one line every minute: what, how far, how fast, how long yet.

    What takes less than a minute leaves no line there. ``TQDM_DISABLE=1`` silences it everywhere.
    """

    disable: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.is_log, self.last_time = not sys.stderr.isatty(), time.monotonic()
        self.last_said: float | None = None
        if os.environ.get("TQDM_DISABLE"):  # the library minds it only where the caller says nothing
            options["disable"] = True
        if self.is_log:
            options |= {"mininterval": SECONDS, "maxinterval": SECONDS, "leave": False}
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or write a line where one is due."""
        if not self.is_log:
            return super().display(msg, pos)
        if msg is None and time.monotonic() - self.last_time >= SECONDS:
            self._write_line()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar; lines stay."""
        if not self.is_log:
            super().clear(nolock)

    def close(self) -> None:
        """End it; where lines were written, with one that has the whole."""
        if not self.is_log or self.disable:
            super().close()
            return
        if self.last_said not in (None, self.n):
            self._write_line()
        self.disable = True  # the library would end it with a sign that is for terminals
        self._decr_instances(self)

    def _write_line(self) -> None:
        shown = self.format_sizeof if self.unit_scale else "{:.4g}".format
        rate = (self.n - self.initial) / max(self.format_dict["elapsed"], 1e-9)
        parts = [
            f"{shown(self.n)}{f' of {shown(self.total)}' if self.total else ''} {self.unit}",
            f"{shown(rate)} {self.unit}/s",
            f"{(self.total - self.n) / rate:.0f} s left" if self.total and rate else "",
            self.postfix or "",
        ]
        self.fp.write(f"{self.desc.removesuffix(': ') or 'progress'}: {', '.join(filter(None, parts))}\n")
        self.fp.flush()
        self.last_said, self.last_time = self.n, time.monotonic()
