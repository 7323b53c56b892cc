"""``scaled-ig fit`` as a function, for notebooks and scripts."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from scaled_ig.commands import fit as verb
from scaled_ig.commands.training_cli import TALKERS, TrainingCLI
from scaled_ig.distributed.watch import GuestWatch, Stopped
from scaled_ig.errors import UsageError
from scaled_ig.runs.record import RunRecord
from scaled_ig.runs.training import MakeTrainer


def fit(config: str | Path | Mapping[str, Any], *, quiet: bool = True, **overrides: Any) -> RunRecord:
    """Train what a configuration says, in this process, on one device.

    An interrupt ends training after the step in progress, which is saved, and a second one at once: ``resume=True``
    goes on.

    Args:
        config: A YAML file, the name of a preset, or the content of a configuration.
        quiet: Print nothing and draw no bars.
        overrides: Options of ``scaled-ig fit``, with ``__`` or, in a dictionary, dots between the parts of a key:
            ``run_dir="runs/mine", data__path="data/mine", **{"phases.warm_up.max_steps": 300}``.

    Returns:
        The run.

    Raises:
        UsageError: What is asked for cannot be trained.
        KeyboardInterrupt: Somebody has interrupted it.
    """
    watch = GuestWatch()
    with _as_before(), _silent() if quiet else nullcontext():
        with _words_of(config) as words:
            if quiet:
                words.append("--trainer.enable_progress_bar=false")
            words += [f"--{key.replace('__', '.')}={_word(key, value)}" for key, value in overrides.items()]
            training = TrainingCLI(words, verb.fit)
        if training.config.trainer.fast_dev_run:
            raise UsageError("trainer.fast_dev_run keeps no run that could be returned: call scaled-ig fit with it")
        try:
            training.train(adjust=lambda made: replace(made, watch=watch, make_trainer=_alone(made.make_trainer)))
        except Stopped:
            raise KeyboardInterrupt(watch.said) from None
    return RunRecord.open(training.config.run_dir, measured=False)


@contextmanager
def _words_of(config: str | Path | Mapping[str, Any]) -> Iterator[list[str]]:
    """Arguments that stand for a configuration, while they are read."""
    if isinstance(config, Mapping):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "config.yaml"
            file.write_text(yaml.safe_dump(_plain("config", config)))
            yield ["--config", str(file)]
    else:
        is_file = isinstance(config, Path) or Path(config).suffix in (".yaml", ".yml") or Path(config).is_file()
        yield ["--config" if is_file else "--preset", str(config)]


def _word(key: str, value: Any) -> str:
    """A value as the command line has it."""
    plain = _plain(key, value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _plain(key: str, value: Any) -> Any:
    """Builtin values of which files of configuration are made.

    Raises:
        UsageError: There is something else.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(f"{key}.{name}", entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(key, entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(
        f"{key} is a {type(value).__name__}: give what a configuration can hold, such as a number or a name"
    )


def _alone(make_trainer: MakeTrainer) -> MakeTrainer:
    """Other ranks would be started from the script or the notebook that this is called from."""

    def made(callbacks: list[Callback], **arguments: Any) -> Trainer:
        trainer = make_trainer(callbacks, **arguments)
        if trainer.world_size > 1:
            raise UsageError(
                f"fit() trains on one device, and the trainer has {trainer.world_size}: give trainer__devices=1, or "
                "call scaled-ig fit on the command line"
            )
        return trainer

    return made


@contextmanager
def _as_before() -> Iterator[None]:
    """Random numbers, threads, warnings and levels of logs are the caller's again afterwards."""
    threads = torch.get_num_threads()
    variables = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    loggers = [logging.getLogger(name) for name in TALKERS]
    levels = [logger.level for logger in loggers]
    with isolate_rng(), warnings.catch_warnings():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            for name, value in variables.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _silent() -> Iterator[None]:
    """What training prints goes nowhere."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield
