"""Loggers of a configuration: they write into the run folder unless told otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger

from scaled_ig.errors import UsageError

PLACES: dict[type[Logger], dict[str, Any]] = {
    TensorBoardLogger: {"name": "tensorboard", "version": ""},  # resumptions write beside each other, and are one run
    MLFlowLogger: {"save_dir": "mlruns"},
    CSVLogger: {"name": "csv"},  # a resumption has a folder of its own: the library would remove the earlier rows
}
"""Defaults of the library's own arguments."""


def with_places(parser: ArgumentParser, kind: type[Logger]) -> None:
    """Let the arguments of a logger have defaults: its place is the run folder."""
    defaults = {"save_dir": "."} | PLACES.get(kind, {})
    for action in parser._actions:
        if action.dest in defaults:
            action.required = False
            parser.set_defaults({action.dest: defaults[action.dest]})


def in_run_folder(config: Namespace) -> Namespace:
    """A configuration whose loggers write where their ``save_dir`` leads from the run folder."""
    config = config.clone()
    loggers = config.trainer.logger
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        place = logger.get("init_args.save_dir") if isinstance(logger, Namespace) else None
        if place is not None:
            logger.init_args.save_dir = str(Path(config.run_dir) / place)
    return config


def why_not_made(message: str) -> UsageError | None:
    """What is said where a class of the library cannot be made; None where the library gives no reason of its own.

    Args:
        message: Of the parsing library, which has tried all alternatives.
    """
    reason = next((line[4:] for line in message.splitlines() if re.match(r"  - (?!Expected )", line)), "")
    if not reason:
        return None
    kind = re.search(r"class_path='[\w.]*?(\w+)'", message)
    name = kind[1] if kind else "a class of the configuration"
    needed = re.search(r"Requirement '([\w-]+).*?' not met|No module named '([\w-]+)|pip install ([\w-]+)", message)
    if needed:
        package = next(filter(None, needed.groups()))
        return UsageError(f"{name} needs {package}: pip install {package}")
    return UsageError(f"{name} cannot be made: {reason[:300]}")
