"""Training that a real browser looks at."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.browser import Browser, needs_browser
from tests.scaled_ig.viewer.gate import wait_for

pytest.importorskip("viser", reason="the viewer's extra is not installed")
pytestmark = [pytest.mark.slow("a browser"), pytest.mark.timeout(600), needs_browser]

STEPS = 50  # scenes are copied at the 25th and at the 50th
LOOKED_AT = ("joint", "latent_supervision")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_training_is_the_same_to_the_bit_while_it_is_looked_at(tmp_path, tiny_config, run_scaled_ig):
    config, port, gates = tmp_path / "config.yaml", free_port(), tmp_path / "gates"
    gates.mkdir()
    config.write_text(tiny_config.read_text().replace("max_steps: 12", f"max_steps: {STEPS}"))
    gate = {"class_path": "tests.scaled_ig.viewer.gate.Gate", "init_args": {"folder": str(gates), "phases": LOOKED_AT}}
    looked_at = ["--view", port, "--allow-package", "tests", f"--trainer.callbacks={json.dumps([gate])}"]

    def fit(name, *options):
        return run_scaled_ig("fit", "--config", config, "--run_dir", tmp_path / name, *options)

    def open_gate(phase, place):
        wait_for(gates / f"{phase}-{place}-reached")
        (gates / f"{phase}-{place}").touch()

    with ThreadPoolExecutor(1) as pool, Browser((760, 560)) as browser:
        trained = pool.submit(fit, "looked-at", *looked_at)
        wait_for(gates / "joint-begin-reached")
        browser.driver.get(f"http://localhost:{port}")
        browser.wait_for_text("Scenes appear here as soon as")
        shown = []
        for phase in LOOKED_AT:
            open_gate(phase, "begin")
            browser.wait_for_text(phase)
            shown.append(browser.shown_scenes())
            if phase == LOOKED_AT[-1]:
                browser.driver.get("about:blank")  # the last phase has no browser
            open_gate(phase, "end")
        status, output = trained.result()
    assert status == 0, output[-3000:]
    assert [len(ids) for ids in shown] == [4, 4]
    assert not set(shown[0]) & set(shown[1])
    status, output = fit("alone")
    assert status == 0, output[-3000:]
    banks = [contents(tmp_path / name / "bank") for name in ("looked-at", "alone")]
    assert len(banks[0]) > 3
    assert banks[0] == banks[1]


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
