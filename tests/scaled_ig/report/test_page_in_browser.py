"""The page of a run in a real browser: Chromium without a window."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from scaled_ig.commands.report import report
from scaled_ig.runs.record import RunRecord

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
pytestmark = pytest.mark.slow("a browser")


class Page:
    """A page in a browser of its own.

    Args:
        path: The file.
        width: Of the window, pixels.
    """

    def __init__(self, path, width=1280):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options, service)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": still})
        self.driver.get(path.as_uri())

    def js(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def find(self, selector):
        (element,) = self.driver.find_elements("css selector", selector)
        return element

    def press(self, selector, keys):
        """Keys for an element that has the focus, as who uses no mouse gives them."""
        element = self.find(selector)
        self.js("arguments[0].focus()", element)
        assert self.js("document.activeElement === arguments[0]", element)
        element.send_keys(keys)

    def picture(self, selector):
        """What an element shows, uint8 [H, W, 3]."""
        return np.asarray(Image.open(io.BytesIO(self.find(selector).screenshot_as_png)).convert("RGB")).astype(int)

    def drag(self, selector, pixels):
        """A drag to the right, from the middle of an element."""
        actions = webdriver.ActionChains(self.driver)
        actions.click_and_hold(self.find(selector)).move_by_offset(pixels, 0).release().perform()

    def column(self, number):
        """Texts of a column of the table of scenes that are shown."""
        rows = "[...document.querySelectorAll('.scenes tbody tr:not([hidden])')]"
        return self.js(f"{rows}.map(row => row.cells[{number}].textContent.trim())")


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    folder = tmp_path_factory.mktemp("browser") / "run"
    shutil.copytree(tiny_run, folder)
    assert report(str(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def browser(run):
    page = Page(run / "report.html")
    yield page
    page.driver.quit()


def test_the_table_is_sorted_and_filtered(run, browser):
    scenes = RunRecord.open(run).metrics["scenes"]
    by_quality = [scene["id"] for scene in sorted(scenes, key=lambda scene: -scene["psnr"])]
    assert browser.column(2) == by_quality
    heading = ".scenes th:nth-child(4)"
    assert browser.find(heading).get_attribute("aria-sort") == "descending"
    browser.find(f"{heading} button").click()
    assert browser.column(2) == by_quality[::-1]
    assert browser.find(heading).get_attribute("aria-sort") == "ascending"
    browser.press(".scenes th:nth-child(3) button", "\n")
    assert browser.column(2) == sorted(by_quality)
    assert browser.find(heading).get_attribute("aria-sort") is None
    browser.press("#filter", by_quality[0])
    assert browser.column(2) == by_quality[:1]
    assert browser.find("#count").text == "1 scene"
    browser.press("#filter", "\b" * len(by_quality[0]))
    assert len(browser.column(2)) == len(scenes)


def test_the_slider_shows_more_of_the_truth_or_of_the_rendering(browser):
    def shown():
        return float(browser.js("document.querySelector('.stage').style.getPropertyValue('--cut').replace('%', '')"))

    assert shown() == 50
    browser.press(".compare input", webdriver.Keys.ARROW_RIGHT)
    assert shown() == 51
    browser.press(".compare input", webdriver.Keys.END)
    truth = browser.picture(".stage")
    browser.press(".compare input", webdriver.Keys.HOME)
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
        return int(browser.js("document.querySelector('#turn').value"))

    first = browser.picture(".orbit:first-child")
    browser.press("#turn", webdriver.Keys.ARROW_RIGHT * 15)
    assert frame() == 15
    turned = browser.picture(".orbit:first-child")
    assert np.abs(first - turned).mean() > 1
    browser.drag(".orbit:first-child", 60)
    assert frame() == 25
    assert browser.find(".orbit:first-child").get_attribute("aria-pressed") == "false", "a drag is no press"
    width = browser.find(".orbit:first-child").size["width"]
    browser.press(".orbit:first-child", "\n")
    assert browser.find(".orbit:first-child").size["width"] > 2 * width


def test_playing_goes_on_until_it_is_paused(browser):
    turn = "document.querySelector('#turn').value"
    browser.find("#play").click()
    start = browser.js(turn)
    WebDriverWait(browser.driver, 30, 0.05).until(lambda _: browser.js(turn) != start)
    browser.find("#play").click()
    assert browser.find("#play").text == "Play"


def test_colours_are_light_or_dark(browser):
    def colours():
        page = browser.js("getComputedStyle(document.body).backgroundColor")
        text = browser.js("getComputedStyle(document.querySelector('svg.wide text')).fill")
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
    page = Page(run / "report.html", width=390)
    assert page.js("document.scrollingElement.scrollWidth") == 390
    for name, shown in (("wide", False), ("narrow", True)):
        charts = page.driver.find_elements("css selector", f"svg.{name}")
        assert [chart.is_displayed() for chart in charts] == [shown] * len(charts)
        assert charts
    page.driver.quit()


def test_the_console_has_no_errors(browser):
    assert [entry for entry in browser.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
