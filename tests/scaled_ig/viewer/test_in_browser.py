"""The viewer in a real browser, Chromium: what is clicked is what is seen."""

import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("viser", reason="the viewer's extra is not installed")
pytest.importorskip("selenium", reason="Selenium is not installed: pip install 'scaled-ig[dev]'")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("no Chromium: apt-get install chromium chromium-driver", allow_module_level=True)

from scaled_ig.bank.scene_bank import SceneBank
from tests.browser import Browser

PROGRAM = [sys.executable, "-c", "from scaled_ig.cli import main; main()"]
CANVAS = np.s_[:, :900]  # beside the panel

pytestmark = [pytest.mark.slow("a browser"), pytest.mark.timeout(600)]


def address_in(process: subprocess.Popen) -> str:
    """What a program says that a browser shall open."""
    for line in process.stdout:
        if "open http" in line:
            return next(word for word in line.split() if word.startswith("http"))
    raise AssertionError("the program has ended")


@pytest.fixture
def viewer():
    """Starts ``scaled-ig view``; gives the address. It ends on Ctrl-C with 130."""
    processes = []

    def start(*arguments) -> str:
        words = [*PROGRAM, "view", *map(str, arguments), "--port", "0"]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return address_in(processes[-1])

    yield start
    for process in processes:
        process.send_signal(2)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, "interrupted\n")


@pytest.fixture
def browser():
    with Browser() as opened:
        yield opened
        assert opened.errors() == []


def test_a_scene_is_picked_and_shown_in_another_way(viewer, browser, tmp_path, tiny_scene):
    ids = ["a", "b", "c"]
    model = tiny_scene(3, rgb=True)
    model.renderer.head.out.weight.data.mul_(8)  # noise of strong colours, of each scene another
    SceneBank.write(tmp_path / "bank", model, ids, "stage1", ["0" * 64] * 3)
    browser.open(viewer(tmp_path / "bank"))
    first = browser.still_picture()[CANVAS]
    browser.pick("c")
    other = browser.changed_picture(first, CANVAS)
    browser.choose("show", "depth")
    depth = browser.changed_picture(other, CANVAS)
    assert np.abs(depth.astype(int) - first).mean() > 1
    browser.type("scene", "a")
    browser.choose("show", "image")
    browser.wait(lambda: np.abs(browser.picture()[CANVAS].astype(int) - first).mean() < 1)


def test_the_truth_stands_over_the_rendering(viewer, browser, tiny_run):
    browser.open(viewer(tiny_run))
    before = browser.still_picture()[CANVAS]
    browser.press("nearest view")
    assert np.abs(browser.changed_picture(before, CANVAS).astype(int) - before).mean() > 1


def test_the_filter_leaves_what_it_names(viewer, browser, tiny_run):
    browser.open(viewer(tiny_run / "bank"))
    shown = "return [...document.querySelectorAll('.gallery .scene')].map(e=>e.dataset.id)"
    last = browser.js(shown)[-1]
    browser.type("filter", last)
    browser.wait(lambda: browser.js(shown) == [last])
    browser.type("filter", "nothing of this name")
    browser.wait(lambda: "no such scene" in browser.js("return document.body.innerText"))


def test_a_pack_shows_where_its_views_were_taken_from(viewer, browser, tiny_pack):
    browser.open(viewer(tiny_pack))
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
    return int((np.abs(picture.astype(int) - colour).max(-1) < 60).sum())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_training_is_the_same_to_the_bit_while_it_is_looked_at(tmp_path, tiny_config, browser):
    banks = []
    for number, options in enumerate([[], ["--view", str(free_port())]]):
        folder = tmp_path / str(number)
        steps = [f"--phases.{name}.max_steps=200" for name in ("warm_up", "joint", "latent_supervision")]
        words = ["fit", "--config", str(tiny_config), "--run_dir", str(folder), *steps, *options]
        process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if options:
            browser.open(address_in(process))
            assert "step" in browser.js("return document.body.innerText")
            browser.driver.get("about:blank")  # it would complain of a server that has gone
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        banks.append(
            {file.relative_to(folder): file.read_bytes() for file in folder.glob("bank/**/*") if file.is_file()}
        )
    assert len(banks[0]) > 3
    assert banks[0] == banks[1]
