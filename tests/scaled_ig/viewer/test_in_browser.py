"""The viewer in a real browser, Chromium: what is clicked is what is seen."""

import numpy as np
import pytest

from scaled_ig.bank.scene_bank import SceneBank
from tests.browser import Browser, needs_browser

pytest.importorskip("viser", reason="the viewer's extra is not installed")
from scaled_ig.viewer import server
from scaled_ig.viewer.pages import page_of

SIZE = (760, 560)  # a narrower one is a phone's; without a GPU each pixel takes its time
CANVAS = np.s_[:, :420]  # beside the panel

pytestmark = [pytest.mark.slow("a browser"), pytest.mark.timeout(600), needs_browser]


@pytest.fixture(scope="module")
def chromium():
    """The browser, and servers that end after it: they would wait for its farewells."""
    servers = []
    with Browser(SIZE) as browser:
        yield browser, servers
    for running in servers:
        server.stop(running)


@pytest.fixture
def show(chromium):
    """Shows a folder's page in the browser, which it gives. The console has no errors."""
    browser, servers = chromium

    def start(path) -> Browser:
        servers.append(server.start("localhost", 0, page_of(path, None).open))
        browser.open(server.address(servers[-1]))
        return browser

    yield start
    assert browser.errors() == []


def test_a_scene_is_picked_and_shown_in_another_way(show, tmp_path, tiny_scene):
    ids = ["a", "b", "c"]
    model = tiny_scene(3, rgb=True)
    model.renderer.head.out.weight.data.mul_(8)  # noise of strong colours, of each scene another
    SceneBank.write(tmp_path / "bank", model, ids, "stage1", ["0" * 64] * 3)
    browser = show(tmp_path / "bank")
    first = browser.still_picture()[CANVAS]
    browser.pick("c")
    other = browser.changed_picture(first, CANVAS)
    browser.choose("show", "depth")
    depth = browser.changed_picture(other, CANVAS)
    assert np.abs(depth - first).mean() > 1
    browser.type("scene", "a")
    browser.choose("show", "image")
    browser.wait(lambda: np.abs(browser.picture()[CANVAS] - first).mean() < 1)


def test_the_truth_stands_over_the_rendering(show, tiny_run):
    browser = show(tiny_run)
    before = browser.still_picture()[CANVAS]
    browser.press("nearest view")
    assert np.abs(browser.changed_picture(before, CANVAS) - before).mean() > 1


def test_the_filter_leaves_what_it_names(show, tiny_run):
    browser = show(tiny_run / "bank")
    last = browser.shown_scenes()[-1]
    browser.type("filter", last)
    browser.wait(lambda: browser.shown_scenes() == [last])
    browser.type("filter", "nothing of this name")
    browser.wait_for_text("no such scene")


def test_a_pack_shows_where_its_views_were_taken_from(show, tiny_pack):
    browser = show(tiny_pack)
    picture = browser.still_picture()[CANVAS]
    browser.check("training views (blue)")
    without_training = browser.changed_picture(picture, CANVAS)
    browser.check("held-out views (orange)")
    without_any = browser.changed_picture(without_training, CANVAS)
    colours = [count_of(image, (28, 126, 214)) for image in (picture, without_training)]
    assert colours[0] > 5 * max(colours[1], 20)
    colours = [count_of(image, (240, 140, 0)) for image in (without_training, without_any)]
    assert colours[0] > 5 * max(colours[1], 4)


def count_of(picture, colour) -> int:
    """Pixels of about a colour."""
    return int((np.abs(picture - colour).max(-1) < 60).sum())
