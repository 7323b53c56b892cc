"""Scripts with which shells complete calls of the program."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import shtab
from jsonargparse import ArgumentParser

from scaled_ig import presets
from scaled_ig.parsing import VerbParser


def script(parser: ArgumentParser, shell: str) -> str:
    """The script of a whole program: verbs, options, their choices, and files.

    Args:
        parser: With the parsers of all verbs.
        shell: ``bash`` or ``zsh``.
    """
    return shtab.complete(parser, shell)


def parser_of(name: str, function: Callable[..., int]) -> ArgumentParser:
    """The parser of a verb, with what its values can be."""
    if "training" in inspect.signature(function).parameters:
        from scaled_ig.commands.training_cli import training_parser

        parser: ArgumentParser = training_parser(function, f"scaled-ig {name}")
    else:
        parser = VerbParser(function)
    for action in parser._actions:
        choices = _choices(getattr(action, "_typehint", None))
        if action.dest == "preset":
            choices = list(presets.presets())
        if choices:
            action.choices = choices
        elif action.nargs != 0:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _choices(hint: Any) -> list[str]:
    """What a value of a type can be, where that can be listed."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if hint is bool:
        return ["true", "false"]
    return next((choices for part in get_args(hint) if (choices := _choices(part))), [])
