"""The program ``scaled-ig``: verbs, their options, and one sentence for every mistake.

Tool verbs come from a table and are parsed without Lightning, which takes seconds to import; ``fit`` builds a
LightningCLI.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Sequence
from itertools import islice

from jsonargparse import ArgumentError, ArgumentParser

from scaled_ig.commands.sentences import tool_mistake
from scaled_ig.distributed import cores
from scaled_ig.errors import UsageError

TOOLS = {
    "synthesize": "make procedural cars or a face model, where there is no data",
    "pack": "turn meshes, a face model or posed views into a pack",
    "check": "verify a pack and draw its contact sheet",
    "export": "write the scenes of a pack as folders of images with a transforms.json",
    "bank": "look at the scenes of a bank, verify, remove, merge or shrink them",
    "render": "render a scene of a bank from a circle of viewpoints",
    "test": "measure a run on views that it has never seen",
    "report": "write the page that shows a run",
    "costs": "itemise what scenes of runs cost, and draw how it grows with their number",
    "tables": "build the tables of the papers from runs",
}
TRAINING = {
    "fit": "train: run the phases that a configuration names",
    "add": "learn further scenes for a finished run",
}


def _tool_parser(verb: str | None):
    parser = ArgumentParser(
        prog="scaled-ig", description="Learn thousands of 3D scenes from posed images.", exit_on_error=False
    )
    from scaled_ig import __version__

    parser.add_argument("--version", action="version", version=f"scaled-ig {__version__}")
    subcommands = parser.add_subcommands(required=True)
    for name, summary in {**TOOLS, **TRAINING}.items():
        sub = ArgumentParser(description=summary, exit_on_error=False)
        if name == verb:
            sub.add_function_arguments(_function(name), as_positional=True)
        subcommands.add_subcommand(name, sub, help=summary)
    return parser


def _function(verb: str):
    return getattr(importlib.import_module(f"scaled_ig.commands.{verb}"), verb)


def _with_one_spelling(arguments: list[str]) -> list[str]:
    """Option names with underscores: ``--dry-run`` is ``--dry_run``, ``--normalise`` is ``--normalize``."""
    spelled = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
            name = "--normalize" if name == "--normalise" else name
        spelled.append(name + equals + value)
    return spelled


def _with_bare_flags(verb: str | None, arguments: list[str]) -> list[str]:
    """``--append`` alone is ``--append=true``."""
    if verb not in TOOLS:
        return arguments
    parameters = inspect.signature(_function(verb)).parameters.values()
    flags = {f"--{parameter.name}" for parameter in parameters if isinstance(parameter.default, bool)}
    following = [*arguments[1:], ""]
    return [
        f"{argument}=true" if argument in flags and after.lower() not in ("true", "false", "yes", "no") else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def _with_listed_operands(verb: str | None, arguments: list[str]) -> list[str]:
    """``tables A B`` is ``tables ["A", "B"]`` for a verb that takes several."""
    if verb not in TOOLS or not arguments or arguments[0] != verb:
        return arguments
    first = next(iter(inspect.signature(_function(verb)).parameters.values()))
    if first.annotation != "list[str]":
        return arguments
    operands, options, rest = [], [], iter(arguments[1:])
    for argument in rest:
        if not argument.startswith("-"):
            operands.append(argument)
        else:  # with its value
            options += [argument] if "=" in argument or argument in ("-h", "--help") else [argument, *islice(rest, 1)]
    return [verb, *([json.dumps(operands)] if operands else []), *options]


def _mistake(message: str, verb: str | None) -> str:
    verbs = [*TOOLS, *TRAINING]
    if verb not in verbs:
        near = difflib.get_close_matches(verb or "", verbs, n=1)
        way_out = f"did you mean {near[0]!r}?" if near else f"name one of {', '.join(verbs)}"
        return f"unknown verb {verb!r}: {way_out}" if verb else way_out
    parameters = inspect.signature(_function(verb)).parameters.values()
    required = [
        f"{'--' if parameter.kind is parameter.KEYWORD_ONLY else ''}{parameter.name}"
        for parameter in parameters
        if parameter.default is parameter.empty
    ]
    return tool_mistake(message, verb, required, [parameter.name for parameter in parameters])


def _run_tool(verb: str | None, arguments: list[str]) -> int:
    try:
        config = _tool_parser(verb).parse_args(_with_bare_flags(verb, _with_listed_operands(verb, arguments)))
    except ArgumentError as error:
        raise UsageError(_mistake(str(error), verb)) from None
    function = _function(config.subcommand)
    chosen = config[config.subcommand]
    cores.share_cores()
    try:
        return function(**{name: chosen[name] for name in inspect.signature(function).parameters}) or 0
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"{error.filename}: {error.strerror}; name another place") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; leaves with 0 when done, 1 when failed, 2 for a mistake of the user."""
    cores.begin()
    arguments = _with_one_spelling(list(sys.argv[1:] if arguments is None else arguments))
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        if verb == "fit":
            from scaled_ig.commands.fit import run_training

            status = run_training(arguments)
        elif verb == "add":
            from scaled_ig.commands.add import run_adding

            status = run_adding(arguments[1:])
        elif arguments[:2] == ["bank", "refit"]:
            from scaled_ig.commands.add import run_refitting

            status = run_refitting(arguments[2:])
        else:
            status = _run_tool(verb, arguments)
    except UsageError as error:
        ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
        if all(os.environ.get(name, "0") == "0" for name in ranks):  # once, not by every rank
            print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    raise SystemExit(status)
