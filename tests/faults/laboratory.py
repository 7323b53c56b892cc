"""A run of all phases of a small pack that nothing has disturbed, and runs of the same that faults happen to."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data_modules.packing.pack import write_pack
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.callbacks.training_table import TrainingTable
from tests.conftest import LEAKS, TINY_RUN, BallScenes
from tests.faults.injection import Fault, operations
from tests.rounding import PHASES, checkpoint
from tests.warm import WarmProgram

OPTIONS = ("--eval_every_n_steps", "6", "--data.val_fraction", "0.2")
SECONDS = 240.0  # after which a process hangs


class Trial(NamedTuple):
    """A fault, in words, and what is done in an empty folder; an exception tells of a promise that is broken."""

    what: str
    work: Callable[[Path], None]


class Laboratory:
    """Where trials take place.

    Args:
        folder: An empty one, for the pack, the whole run and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {name: value for name, value in os.environ.items() if name not in LEAKS and "SLURM" not in name}
        self.environment = clean | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
        self.program = WarmProgram(self.environment)
        self.pack, self.config, self.whole = folder / "pack", folder / "run.yaml", folder / "whole"
        write_pack(BallScenes(8, 10, 32), self.pack, render=None)
        self.config.write_text(TINY_RUN.replace("init_args: {stage1", f"init_args: {{path: {self.pack}, stage1"))
        status, output = self.fit(self.whole)
        assert status == 0, output[-3000:]
        self.operations = operations(self.log(self.whole))
        names = [name for _, name in self.operations]
        self.saved = names.index("checkpoints/autoencoder/last.ckpt") + 1  # number of the first checkpoint

    def close(self) -> None:
        """End the process that programs are forked from."""
        self.program.close()

    def name(self, number: int) -> str:
        """An operation of a run that nothing disturbs, in words."""
        return f"operation {number}, {' of '.join(self.operations[number - 1])}"

    def log(self, run: Path, rank: int = 0) -> Path:
        """Operations of the last call that trained, or began to train, in a folder."""
        return run.with_name(f"{run.name}.{rank}.log")

    def call(self, *arguments: object, **environment: str) -> tuple[int, str]:
        """Exit status and output of ``scaled-ig``."""
        return self.program([str(word) for word in arguments], self.environment | environment, SECONDS)

    def fit(
        self, run: Path, *options: object, faults: Sequence[Fault] = (), rank: int = 0, **environment: str
    ) -> tuple[int, str]:
        """Exit status and output of ``scaled-ig fit``, in the course of which faults happen."""
        words = ["fit", "--config", self.config, "--run_dir", run, *OPTIONS, *options]
        self.log(run, rank).unlink(missing_ok=True)
        counted = {"folder": str(run), "log": str(self.log(run, rank)), "faults": [asdict(fault) for fault in faults]}
        return self.program([str(word) for word in words], self.environment | environment, SECONDS, counted)

    def fit_on_two(
        self,
        run: Path,
        *options: object,
        faults: dict[int, Fault] | None = None,
        when_ended: Callable[[int], object] = lambda rank: None,
    ) -> list[tuple[int, str]]:
        """The same of two ranks, as ``torchrun`` starts them; ``when_ended`` is told which one ends."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = ("--trainer.devices", "2", "--trainer.strategy", "ddp", *options)

        def start(rank: int) -> tuple[int, str]:
            where: dict[str, Any] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
            where |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "trial"}
            at_rank = [faults[rank]] if faults and rank in faults else []
            words = {name: str(value) for name, value in where.items()}
            end = self.fit(run, *ranks, faults=at_rank, rank=rank, **words)
            when_ended(rank)
            return end

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(start, range(2)))

    def go_on(self, run: Path, *options: object) -> None:
        """Resume with one process and no faults: it must end, and leave nothing unfinished."""
        status, output = self.fit(run, "--resume", "true", *options)
        assert status == 0, f"going on ends with {status}: {output[-600:]}"
        left = [path.name for path in run.rglob("*") if path.name.endswith((".part", ".lock"))]
        assert not left, f"{left} are left behind"


def require_sentence(status: int, output: str, expected_status: int = 2) -> str:
    """The one line of an error; a program that ends otherwise fails the trial."""
    assert status == expected_status, f"exit code {status}: {output[-600:]}"
    assert "Traceback" not in output, output[-1500:]
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")] or [output[-600:]]
    return line


def require_same(run: Path, other: Path) -> None:
    """Two runs hold the same to the bit: weights, moments, counters, what was measured, and the scenes of the bank."""
    for phase in PHASES:
        ours, theirs = checkpoint(run, phase), checkpoint(other, phase)
        for content in (ours, theirs):
            for name in [name for name in content["callbacks"] if name.startswith("KeepLast")]:
                del content["callbacks"][name]  # paths
            content["callbacks"].pop("TrainingClock", None)  # seconds
            content["loops"]["fit_loop"]["state_dict"].pop(
                "combined_loader"
            )  # what views come next: nobody goes on here
        require_equal(ours, theirs, phase)
    for name in ("metrics.json", "metrics.csv", "scenes.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), f"{name} differs"
    assert rows(run) == rows(other), "training.csv differs"
    assert len(set(rows(run))) == len(rows(run)), "training.csv has a row twice"
    costs, other_costs = (json.loads((folder / "costs.json").read_text())["phases"] for folder in (run, other))
    assert list(costs) == list(other_costs), "costs.json differs"
    require_same_bank(run / "bank", other / "bank")


def require_same_bank(folder: Path, other: Path) -> None:
    """Two banks hold the same scenes and models, to the bit."""
    ours, theirs = SceneBank.open(folder), SceneBank.open(other)
    digests, other_digests = (
        [(record.id, record.version, record.sha256) for record in bank.scenes()] for bank in (ours, theirs)
    )
    assert digests == other_digests, "the bank's records differ"
    assert ours.versions.keys() == theirs.versions.keys(), "the bank's versions differ"
    for version in ours.versions:
        models = (bank.load_version(version).state_dict() for bank in (ours, theirs))
        require_equal(*models, version)


def rows(run: Path) -> list[tuple[str, ...]]:
    """Of ``training.csv``, without its seconds."""
    return [
        (row["phase"], row["step"], row["name"], row["value"]) for row in TrainingTable(run / "training.csv").read()
    ]


def require_equal(ours: Any, theirs: Any, where: str) -> None:
    """Two nests of values hold the same, tensors to the bit."""
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype, f"{where} differs"
        assert torch.equal(ours, theirs), f"{where} differs"
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), f"{where} differs"
        for name, value in ours.items():
            require_equal(value, theirs[name], f"{where}.{name}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), f"{where} differs"
        for number, (value, other) in enumerate(zip(ours, theirs, strict=True)):
            require_equal(value, other, f"{where}.{number}")
    else:
        assert ours == theirs, f"{where} is {ours} instead of {theirs}"
