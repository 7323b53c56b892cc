"""A real browser without a window: Chromium by Selenium.

``python -m tests.browser ADDRESS PICTURE.jpg --size 1280x800 --dark true`` takes a picture of what a viewer shows.
"""

import argparse
import io
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATIENCE = 60  # seconds that something may take to appear

needs_browser = pytest.mark.skipif(
    not (find_spec("selenium") and shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no browser: pip install -e '.[dev]'; apt-get install chromium chromium-driver",
)

_INPUT = (
    "return [...document.querySelectorAll('label')].find(l=>l.textContent===arguments[0])"
    "?.parentElement.parentElement.parentElement.querySelector('input')"
)


class Browser:
    """Chromium: what any page shows, and the panel of a viewer.

    Args:
        size: Width and height of the window, pixels.
    """

    def __init__(self, size: tuple[int, int] = (1280, 800)) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        software = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", *software):
            options.add_argument(flag)
        options.add_argument(f"--window-size={size[0]},{size[1]}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        # A window is never narrower than 500 pixels; a phone is.
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": still})

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.driver.quit()

    def wait(self, condition):
        """The first true value of a condition, asked for again and again."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, 0.1).until(lambda _: condition())

    def js(self, script: str, *arguments):
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def value(self, expression: str, *arguments):
        """Value of an expression in the page."""
        return self.js(f"return {expression}", *arguments)

    def find(self, selector: str):
        """The only element of a CSS selector."""
        (element,) = self.driver.find_elements("css selector", selector)
        return element

    def picture(self, selector: str | None = None) -> np.ndarray:
        """What the window or an element shows, int16 [H, W, 3] in [0, 255]: differences have a sign."""
        png = self.find(selector).screenshot_as_png if selector else self.driver.get_screenshot_as_png()
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)

    def keys(self, selector: str, keys: str) -> None:
        """Keys for an element that has the focus, as who uses no mouse gives them."""
        element = self.find(selector)
        self.js("arguments[0].focus()", element)
        assert self.value("document.activeElement === arguments[0]", element)
        element.send_keys(keys)

    def drag(self, selector: str, pixels: int) -> None:
        """A drag to the right, from the middle of an element."""
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.driver)
        actions.click_and_hold(self.find(selector)).move_by_offset(pixels, 0).release().perform()

    def errors(self, *levels: str) -> list[str]:
        """What the console has said since it was asked last, of these levels; of ``SEVERE`` where none is given."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in (levels or ("SEVERE",))]

    # -- a viewer ----------------------------------------------------------------------------------------------------

    def open(self, address: str) -> None:
        """Open a viewer, and wait until its panel and the first pictures are there."""
        self.driver.get(address)
        self.shown_scenes()
        self.wait(lambda: self.js("return document.querySelector('.mantine-Notification-closeButton')"))
        self.js("document.querySelector('.mantine-Notification-closeButton').click()")  # that there is no GPU

    def shown_scenes(self) -> list[str]:
        """Ids of the scenes whose thumbnails a viewer shows, once they are there."""
        self.wait(lambda: self.value("document.querySelectorAll('.gallery img').length"))
        self.wait(lambda: self.value("[...document.querySelectorAll('.gallery img')].every(i => i.naturalWidth)"))
        return self.value("[...document.querySelectorAll('.gallery .scene')].map(e => e.dataset.id)")

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.wait(lambda: text in self.value("document.body.innerText"))

    def still_picture(self) -> np.ndarray:
        """The same once it no longer changes: eight pictures in a row are alike."""
        last, alike = self.picture(), 0

        def is_still() -> bool:
            nonlocal last, alike
            new = self.picture()
            alike, last = (alike + 1 if np.array_equal(new, last) else 0), new
            return alike >= 8

        self.wait(is_still)
        return last

    def changed_picture(self, before: np.ndarray, part) -> np.ndarray:
        """A part of the window once it is not as before, and still."""
        self.wait(lambda: np.abs(self.picture()[part] - before).max() > 50)
        return self.still_picture()[part]

    def type(self, label: str, text: str) -> None:
        """Write into a text field."""
        field = self.wait(lambda: self.js(_INPUT, label))
        self.js(
            "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype,'value').set.call(arguments[0],arguments[1]);"
            "arguments[0].dispatchEvent(new Event('input',{bubbles:true}))",
            field,
            text,
        )

    def pick(self, scene: str) -> None:
        """Click the thumbnail of a scene."""
        self.js("document.querySelector(`.gallery .scene[data-id='${arguments[0]}']`).click()", scene)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a drop-down list."""
        self._click(_INPUT, label)
        options = "[...document.querySelectorAll('[role=option]')]"
        self._click(f"return {options}.find(o=>o.textContent===arguments[0]&&o.offsetParent)", option)
        self.js("document.activeElement.blur()")  # a cursor would blink

    def check(self, label: str) -> None:
        """Click a check box."""
        self._click(_INPUT, label)

    def press(self, label: str) -> None:
        """Press a button, or open or close a folder."""
        with_text = "[...document.querySelectorAll('body *')].filter(e=>e.firstChild?.nodeValue===arguments[0]).pop()"
        self._click(f"return {with_text}", label)

    def _click(self, script: str, text: str) -> None:
        """Click the element that a script finds by its text, once it is there."""
        from selenium.common.exceptions import ElementNotInteractableException
        from selenium.webdriver.support.ui import WebDriverWait

        element = self.wait(lambda: self.js(script, text))
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        # A folder takes its time to open.
        waiting = WebDriverWait(self.driver, PATIENCE, 0.1, [ElementNotInteractableException])
        waiting.until(lambda _: element.click() is None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="1280x800")
    parser.add_argument("--pick")
    parser.add_argument("--choose", nargs=2, action="append", default=[])
    parser.add_argument("--check", action="append", default=[])
    parser.add_argument("--press", action="append", default=[])
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with Browser((width, height)) as browser:
        browser.open(arguments.address)
        if arguments.pick:
            browser.pick(arguments.pick)
        for label in arguments.press:
            browser.press(label)
        for label in arguments.check:
            browser.check(label)
        for label, option in arguments.choose:
            browser.choose(label, option)
        Image.fromarray(browser.still_picture().astype(np.uint8)).save(arguments.out, quality=85)
        print(arguments.out, *browser.errors(), sep="\n")


if __name__ == "__main__":
    main()
