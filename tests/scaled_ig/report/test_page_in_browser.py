"""The page of a run in a real browser: Chromium without a window."""

import shutil

import numpy as np
import pytest

from scaled_ig.commands.report import report
from scaled_ig.runs.record import RunRecord
from tests.browser import Browser, needs_browser

Keys = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'").Keys
pytestmark = [pytest.mark.slow("a browser"), needs_browser]
SIZE = (1280, 900)


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "run"
    shutil.copytree(tiny_run, folder)
    assert report(str(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def browser(run):
    with Browser(SIZE) as page:
        page.driver.get((run / "report.html").as_uri())
        yield page


def column(browser, number):
    """Texts of a column of the table of scenes that are shown."""
    rows = "[...document.querySelectorAll('.scenes tbody tr:not([hidden])')]"
    return browser.value(f"{rows}.map(row => row.cells[{number}].textContent.trim())")


def test_the_table_is_sorted_and_filtered(run, browser):
    scenes = RunRecord.open(run).metrics["scenes"]
    by_quality = [scene["id"] for scene in sorted(scenes, key=lambda scene: -scene["psnr"])]
    assert column(browser, 2) == by_quality
    heading = ".scenes th:nth-child(4)"
    assert browser.find(heading).get_attribute("aria-sort") == "descending"
    browser.find(f"{heading} button").click()
    assert column(browser, 2) == by_quality[::-1]
    assert browser.find(heading).get_attribute("aria-sort") == "ascending"
    browser.keys(".scenes th:nth-child(3) button", "\n")
    assert column(browser, 2) == sorted(by_quality)
    assert browser.find(heading).get_attribute("aria-sort") is None
    browser.keys("#filter", by_quality[0])
    assert column(browser, 2) == by_quality[:1]
    assert browser.find("#count").text == "1 scene"
    browser.keys("#filter", "\b" * len(by_quality[0]))
    assert len(column(browser, 2)) == len(scenes)


def test_the_slider_shows_more_of_the_truth_or_of_the_rendering(browser):
    def shown():
        return float(browser.value("document.querySelector('.stage').style.getPropertyValue('--cut').replace('%', '')"))

    assert shown() == 50
    browser.keys(".compare input", Keys.ARROW_RIGHT)
    assert shown() == 51
    browser.keys(".compare input", Keys.END)
    truth = browser.picture(".stage")
    browser.keys(".compare input", Keys.HOME)
    rendering = browser.picture(".stage")
    assert np.abs(truth - rendering).mean() > 1
    browser.drag(".stage", 100)
    width = browser.find(".stage").size["width"]
    assert shown() == pytest.approx(50 + 100 * 100 / width, abs=1.1)
    first = browser.find(".compare figcaption").text
    browser.driver.find_elements("css selector", ".pick")[-1].click()
    assert browser.find(".compare figcaption").text != first


def test_orbits_turn_and_grow(browser):
    def frame():
        return int(browser.value("document.querySelector('#turn').value"))

    first = browser.picture(".orbit:first-child")
    browser.keys("#turn", Keys.ARROW_RIGHT * 15)
    assert frame() == 15
    turned = browser.picture(".orbit:first-child")
    assert np.abs(first - turned).mean() > 1
    browser.drag(".orbit:first-child", 60)
    assert frame() == 25
    assert browser.find(".orbit:first-child").get_attribute("aria-pressed") == "false", "a drag is no press"
    width = browser.find(".orbit:first-child").size["width"]
    browser.keys(".orbit:first-child", "\n")
    assert browser.find(".orbit:first-child").size["width"] > 2 * width


def test_playing_goes_on_until_it_is_paused(browser):
    turn = "document.querySelector('#turn').value"
    browser.find("#play").click()
    start = browser.value(turn)
    browser.wait(lambda: browser.value(turn) != start)
    browser.find("#play").click()
    assert browser.find("#play").text == "Play"


def test_colours_are_light_or_dark(browser):
    def colours():
        page = browser.value("getComputedStyle(document.body).backgroundColor")
        text = browser.value("getComputedStyle(document.querySelector('svg.wide text')).fill")
        return [sum(map(int, colour[4:-1].split(","))) / 3 for colour in (page, text)]

    seen = [colours()]
    for _ in range(2):
        browser.find("#theme").click()
        seen.append(colours())
    assert seen[0] == seen[2]
    for page, text in seen:
        assert abs(page - text) > 100, "letters of charts are read on both"
    assert max(page for page, _ in seen) == 255
    assert min(page for page, _ in seen) < 40


def test_a_phone_scrolls_in_one_direction(run):
    with Browser((390, 900)) as page:
        page.driver.get((run / "report.html").as_uri())
        assert page.value("document.scrollingElement.scrollWidth") == 390
        for name, shown in (("wide", False), ("narrow", True)):
            charts = page.driver.find_elements("css selector", f"svg.{name}")
            assert [chart.is_displayed() for chart in charts] == [shown] * len(charts)
            assert charts


def test_the_console_has_no_errors(browser):
    assert browser.errors("SEVERE", "WARNING") == []
