"""The package as a library: names at its head, ``fit`` in a process that goes on, ``python -m scaled_ig``."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import scaled_ig
from scaled_ig.errors import UsageError
from scaled_ig.phases import LatentSupervision
from scaled_ig.runs.record import RunRecord
from tests.test_docs import fenced
from tests.test_kept_run import KEPT

BIG = ("lightning", "torchmetrics", "torchvision", "scipy", "matplotlib", "diffusers", "wandb", "h5py", "PIL", "sympy")


def test_names_are_those_of_the_house():
    from scaled_ig.bank.scene_bank import SceneBank
    from scaled_ig.cameras import Cameras, orbit
    from scaled_ig.fitting import fit
    from scaled_ig.scene_model import SceneModel

    expected = {"Cameras": Cameras, "SceneBank": SceneBank, "SceneModel": SceneModel, "fit": fit, "orbit": orbit}
    assert {name: getattr(scaled_ig, name) for name in expected} == expected
    assert scaled_ig.open == SceneBank.open
    assert set(scaled_ig.__all__) == {*expected, "open"}
    assert set(scaled_ig.__all__) <= set(dir(scaled_ig))
    with pytest.raises(AttributeError, match="scaled_ig has no 'Bank'; it has Cameras, SceneBank"):
        _ = scaled_ig.Bank
    with pytest.raises(ImportError):
        from scaled_ig import Bank  # noqa: F401


def test_a_bank_needs_no_more_than_torch(tmp_path):
    """Seconds of others' imports: a bank and its scenes are read and rendered without them."""
    code = (
        "import sys, torch; before = set(sys.modules); import scaled_ig; bank = scaled_ig.open(sys.argv[1]); "
        "bank[bank.ids[0]].render(scaled_ig.orbit(1), outputs=('image', 'normals')); bank.statistics(); "
        "print([name for name in set(sys.modules) - before if name.split('.')[0] in sys.argv[2:]])"
    )
    bank = shutil.copytree(KEPT / "run" / "bank", tmp_path / "bank")
    done = subprocess.run([sys.executable, "-c", code, str(bank), *BIG], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_the_package_is_the_program():
    call = [sys.executable, "-m", "scaled_ig"]
    done = subprocess.run([*call, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"scaled-ig {scaled_ig.__version__}\n"
    done = subprocess.run([*call, "look"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "usage: " not in done.stderr


def test_the_examples_of_the_page_run(tiny_run, tmp_path):
    """One after the other, on a run of Micro-Macro scenes in latents."""
    page = (Path(__file__).parents[1] / "docs" / "bank.md").read_text().partition("## Its files")[0]
    bank = shutil.copytree(tiny_run / "bank", tmp_path / "bank")  # its statistics are kept
    names: dict = {}
    blocks = [block for language, block in fenced(page) if language == "python"]
    for block in blocks:
        exec(block.replace("runs/demo", str(bank)).replace("car_000_00017", "ball-5"), names)
    assert len(blocks) == 6
    assert names["images"].shape == (8, 3, 32, 32)
    assert names["seen"]["depth"].shape == (8, 1, 256, 256)
    assert names["batch"]["planes"].shape == (4, 3, 10, 8, 8)
    normalised = names["normalised"].transpose(0, 2).flatten(1)
    torch.testing.assert_close(normalised.mean(1), torch.zeros(10), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std(1), torch.ones(10), atol=1e-2, rtol=0)


# -- fit -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config() -> dict:
    """Two phases of a few steps, as plain values."""
    config = yaml.safe_load((KEPT / "run.yaml").read_text())
    config["data"]["init_args"]["path"] = str(KEPT / "pack")
    return config


@pytest.fixture(scope="module")
def expected(config, tmp_path_factory, run_scaled_ig) -> dict[str, torch.Tensor]:
    """Planes of the scenes that the program trains."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    status, output = run_scaled_ig("fit", "--config", folder / "config.yaml", "--run_dir", folder / "run")
    assert status == 0, output[-3000:]
    return planes_of(RunRecord.open(folder / "run"))


def planes_of(run: RunRecord) -> dict[str, torch.Tensor]:
    return {name: scene.planes() for name, scene in run.bank.items()}


@pytest.mark.slow("two runs")
def test_fit_trains_what_the_program_trains(config, expected, tmp_path, capfd):
    """Twice in one process, once in a thread; it prints nothing, and the process is as it was."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    before, runs = _state(), []
    capfd.readouterr()
    first = scaled_ig.fit(tmp_path / "config.yaml", run_dir=tmp_path / "first")
    others = {"run_dir": tmp_path / "second", "phases.warm_up.max_steps": 2, "data__batch_size": 1}
    thread = threading.Thread(target=lambda: runs.append(scaled_ig.fit(config, **others)))
    thread.start()
    thread.join()
    (second,) = runs
    assert capfd.readouterr() == ("", "")
    assert _state() == before
    assert repr(first) == f"RunRecord({str(tmp_path / 'first')!r}: warm_up, latent_supervision)"
    assert len(expected) == 4
    assert all(torch.equal(planes, expected[name]) for name, planes in planes_of(first).items())
    assert not any(torch.equal(planes, expected[name]) for name, planes in planes_of(second).items())
    assert second.config["phases"]["warm_up"]["max_steps"] == 2
    assert second.config["data"]["init_args"]["batch_size"] == 1


def _state() -> list:
    """What training in the caller's process must leave as it was."""
    numbers = random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    variables = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "PL_GLOBAL_SEED", "MASTER_PORT")}
    levels = logging.getLogger("lightning.pytorch.utilities.rank_zero").level
    return [
        *numbers,
        handlers,
        variables,
        levels,
        torch.get_num_threads(),
        list(warnings.filters),
    ]


@pytest.mark.parametrize(
    ("overrides", "said_of_it"),
    [
        ({"nothing": 3}, "nothing"),
        ({"data__batch_size": "many"}, "data.batch_size many must be a whole number"),
        ({"data__path": Path("/nowhere")}, "/nowhere is no finished pack"),
        ({"lpips": object()}, "lpips is a object: give what a configuration can hold"),
        ({"trainer__devices": 2}, r"fit\(\) trains on one device, and the trainer has 2"),
    ],
)
def test_a_mistake_is_one_sentence(config, tmp_path, overrides, said_of_it):
    with pytest.raises(UsageError, match=said_of_it):
        scaled_ig.fit(config, run_dir=tmp_path / "run", **overrides)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"mine\.yaml: the file does not exist"):
        scaled_ig.fit(tmp_path / "mine.yaml")


@pytest.mark.slow("two runs")
def test_an_interrupt_ends_training_and_not_the_process(config, expected, tmp_path, monkeypatch):
    """The step that it falls into is saved, and the run goes on from there to the same scenes."""
    step, calls = LatentSupervision.training_step, []

    def interrupted(self, *arguments):
        calls.append(self.trainer.global_step)
        if calls[-1] == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(LatentSupervision, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="after step 6 of phase latent_supervision; go on with resume=True"):
        scaled_ig.fit(config, run_dir=tmp_path / "run")
    assert calls == [0, 1, 2, 3, 4, 5]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    calls.clear()
    run = scaled_ig.fit(config, run_dir=tmp_path / "run", resume=True)
    assert calls == [6, 7]
    assert all(torch.equal(planes, expected[name]) for name, planes in planes_of(run).items())
