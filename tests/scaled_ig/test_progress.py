"""Bars are for terminals; logs get a line a minute, and none of what is quick."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from scaled_ig import progress
from scaled_ig.progress import Progress

SCRIPT = "from scaled_ig.progress import Progress\nfor _ in Progress(range(3), 'work', unit='step'): pass"


def test_a_log_has_lines_with_rate_and_end(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = Progress(total=1200, desc="warm_up", unit="step")
    bar.set_postfix(loss="0.5", refresh=False)
    for _ in range(1200):
        now[0] += 0.125
        bar.update()
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "warm_up: 480 of 1200 step, 8 step/s, 90 s left, loss=0.5",
        "warm_up: 960 of 1200 step, 8 step/s, 30 s left, loss=0.5",
        "warm_up: 1200 of 1200 step, 8 step/s, 0 s left, loss=0.5",
    ]


def test_bytes_are_scaled_and_what_has_no_end_has_no_seconds_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with Progress(desc="merge", unit="B", unit_scale=True) as bar:
        bar.update(2_000_000)
    said = capsys.readouterr().err
    assert "merge: 2.00M B, " in said
    assert "left" not in said
    assert "\r" not in said


def test_what_is_quick_leaves_nothing_in_a_log(capsys):
    for _ in Progress(range(3), "work"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("disable", "is_drawn"), [("", True), ("1", False)])
def test_a_terminal_has_a_bar_unless_it_is_silenced(disable, is_drawn):
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    environment = os.environ | {"TQDM_DISABLE": disable}
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=follower, env=environment, timeout=60, check=True)
    os.close(follower)
    parts = []
    try:
        while part := os.read(leader, 4096):
            parts.append(part)
    except OSError:  # the end of a terminal that nobody holds
        pass
    os.close(leader)
    assert (b"3/3" in b"".join(parts)) == is_drawn
    assert bool(parts) == is_drawn
