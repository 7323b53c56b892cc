"""The newest wish wins, and the last one is painted fine."""

import threading

from scaled_ig.errors import UsageError
from scaled_ig.viewer.painter import MOVING_SECONDS, RESTING_SECONDS, SMALLEST_SIDE, Pace, Painter

PATIENCE = 30


def test_wishes_that_came_meanwhile_are_painted_once_the_newest_alone():
    painted, begun, go_on, done = [], threading.Event(), threading.Event(), threading.Event()

    def paint(wish, seconds):
        painted.append((wish, seconds))
        begun.set()
        go_on.wait(PATIENCE)
        if seconds == RESTING_SECONDS:
            done.set()

    painter = Painter(paint, lambda sentence: None)
    painter.ask(0)
    assert begun.wait(PATIENCE)
    for wish in range(1, 6):
        painter.ask(wish)
    go_on.set()
    assert done.wait(PATIENCE)
    painter.close()
    assert painted == [(0, MOVING_SECONDS), (5, MOVING_SECONDS), (5, RESTING_SECONDS)]


def test_a_wish_that_cannot_be_is_said_and_the_next_one_is_painted():
    said, painted = [], threading.Event()

    def paint(wish, seconds):
        if wish == "bad":
            raise UsageError("no such scene")
        painted.set()

    heard = threading.Event()
    painter = Painter(paint, lambda sentence: (said.append(sentence), heard.set()))
    painter.ask("bad")
    assert heard.wait(PATIENCE)
    painter.ask("good")
    assert painted.wait(PATIENCE)
    painter.close()
    assert said == ["no such scene"]


def test_pictures_are_as_large_as_there_is_time_for():
    pace = Pace()
    for _ in range(50):
        pace.note(100 * 100, 0.1)  # 100,000 pixels a second
    assert abs(pace.side(0.1, 1000) - 100) <= 1
    assert abs(pace.side(0.4, 1000) - 200) <= 1
    assert pace.side(0.4, 150) == 150
    assert pace.side(1e-6, 1000) == SMALLEST_SIDE
