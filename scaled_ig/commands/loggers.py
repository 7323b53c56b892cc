"""Loggers of a configuration: they write into the run folder unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

PLACES: dict[type[Logger], dict[str, Any]] = {
    TensorBoardLogger: {"name": "tensorboard", "version": ""},  # resumptions write beside each other, and are one run
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
