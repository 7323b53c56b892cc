"""Pages of reference, written from the code at the time of building: Python names, verbs, configuration, classes."""

from __future__ import annotations

import importlib
import inspect
import re
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from typing import Any

from jsonargparse import ActionYesNo

import scaled_ig
from scaled_ig import cli
from scaled_ig.bank.arrays import PlaneStatistics
from scaled_ig.bank.scene import BankScene
from scaled_ig.commands.training_cli import training_parser
from scaled_ig.commands.training_options import MODEL_KINDS
from scaled_ig.parsing import VerbParser
from scaled_ig.runs.record import RunRecord

KINDS = {
    "SceneRepresentation": "Representations of scenes",
    "Autoencoder": "Autoencoders",
    "SamplingPlan": "Where rays are sampled",
    "MultiViewDataModule": "Data",
    "Phase": "Phases",
    "Schedule": "Schedules of learning rates",
}
HOUSEKEEPING = ("help", "config", "print_config", "print_completion")
LONGEST_TYPE = 90  # signs; types of classes of the library fill pages


def pages() -> dict[str, str]:
    """Text of the pages by their path in the site."""
    return {
        "reference/python.md": python_page(),
        "reference/verbs.md": verbs_page(),
        "reference/configuration.md": configuration_page(),
        "reference/classes.md": classes_page(),
    }


def python_page() -> str:
    """Every name that ``import scaled_ig`` offers, and the classes of what they give."""
    names = scaled_ig.__all__
    homes = [getattr(scaled_ig, name) for name in names] + [BankScene, PlaneStatistics, RunRecord]
    entries = [f"::: {home.__module__}.{home.__qualname__}\n    options: {{inherited_members: true}}" for home in homes]
    intro = f"`import scaled_ig` offers {', '.join(f'`{name}`' for name in names)}. It imports torch when one is used."
    return "\n\n".join(["# Python", intro, *entries])


def verbs_page() -> str:
    """Every verb with its options."""
    sections = ["# Verbs", "What `scaled-ig VERB --help` says."]
    for name in [*(verb for verb in cli.VERBS if verb != "bank"), *(f"bank {action}" for action in cli.BANK_ACTIONS)]:
        summary = cli.BANK_ACTIONS[name[5:]] if name.startswith("bank ") else cli.VERBS[name]
        _, function, _ = cli.called(name.split())
        trains = "training" in inspect.signature(function).parameters
        parser = (
            training_parser(function, f"scaled-ig {name}") if trains else VerbParser(function, prog=f"scaled-ig {name}")
        )
        sections += [f"## scaled-ig {name}", f"{summary[0].upper()}{summary[1:]}."]
        if not trains:
            sections += [f"```text\n{parser.format_usage().strip()}\n```"]
        sections += [words(parser.description)] * bool(parser.description)
        actions = [action for action in parser._actions if not trains or is_of(function, action)]
        sections += [options_table(actions)]
        if trains:
            sections += ["Further options are the keys of [a configuration](configuration.md): `--key value`."]
        if not trains and parser.epilog:
            sections += [f"```text\n{parser.epilog.strip()}\n```"]
    return "\n\n".join(filter(None, sections))


def configuration_page() -> str:
    """Every key of a configuration, in the groups of the parser."""
    _, fit, _ = cli.called(["fit"])
    parser = training_parser(fit, "scaled-ig fit")
    sections = [
        "# Configuration",
        "Keys of a YAML file for `scaled-ig fit --config FILE`. Each is an option as well: `--adam.beta2 0.99`. "
        "A key whose type is a class takes `class_path` and `init_args`: [classes](classes.md) has all of them. "
        "`--print_config` shows all keys with the values that would be used.",
    ]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.option_strings]
        if table := options_table(actions, keys=True):
            said = (group.title or "").strip().rstrip(":")
            prefixes = {action.dest.partition(".")[0] for action in actions if action.dest not in HOUSEKEEPING}
            sections += [f"## {prefixes.pop()}", f"{said}."] if len(prefixes) == 1 else ["## The run"]
            sections += [table]
    return "\n\n".join(sections)


def classes_page() -> str:
    """Every class that a configuration may name by ``class_path``, with its ``init_args``."""
    sections = ["# What a configuration may name", "The short name is enough: `class_path: TriPlanes`."]
    for kind in MODEL_KINDS:
        sections += [f"## {KINDS.get(kind.__name__, kind.__name__)}"]
        classes = {f"{found.__module__}.{found.__qualname__}" for found in concrete(kind)}
        sections += [f"::: {path}\n    options: {{members: false}}" for path in sorted(classes)]
    return "\n\n".join(sections)


def concrete(kind: type) -> Iterator[type]:
    """Classes of a kind that are the project's own and that no other is made from."""
    for module in ("scaled_ig.representations", "scaled_ig.autoencoders", "scaled_ig.phases", "data_modules"):
        importlib.import_module(module)
    children = [
        child for child in kind.__subclasses__() if child.__module__.startswith(("scaled_ig.", "data_modules."))
    ]
    for child in children:
        yield from concrete(child)
    if not children and not inspect.isabstract(kind):
        yield kind


def is_of(function: Any, action: Action) -> bool:
    """Whether an option is a parameter of the verb, or its run."""
    return action.dest in inspect.signature(function).parameters


def options_table(actions: list[Action], keys: bool = False) -> str:
    """Rows of option, type, default and meaning; empty without options."""
    rows = []
    for action in actions:
        for_help = SUPPRESS in (action.help, action.default) or action.dest in HOUSEKEEPING
        if for_help or "Path to a config" in str(action.help):
            continue
        name = cell(action.dest if keys or not action.option_strings else ", ".join(action.option_strings))
        default = "" if action.default is None else f"`{cell(str(action.default))}`"
        default = "required" if action.required else default
        rows.append(f"| `{name}` | {type_of(action)} | {default} | {words(action.help)} |")
    if not rows:
        return ""
    return "\n".join([f"| {'key' if keys else 'option'} | type | default | |", "|---|---|---|---|", *rows])


def type_of(action: Action) -> str:
    """The type of an option in code; shortened where it is longer than a cell."""
    if isinstance(action, ActionYesNo):
        return "switch"
    hint = getattr(action, "_typehint", None) or action.type
    if hint is None:
        return ""
    text = hint.__name__ if isinstance(hint, type) else re.sub(r"\b(?:[a-z_]\w*\.)+", "", str(hint))
    text = re.sub(r"Annotated\[([^,\[\]]+), [^\[\]]*\]", r"\1", text).replace("NoneType", "None")
    text = re.sub(r"^(?:Optional|Union)\[(.*?)(?:, None)?\]$", r"\1", text)
    return f"`{cell(text if len(text) <= LONGEST_TYPE else text[:LONGEST_TYPE] + '…')}`"


def words(text: str | None) -> str:
    """Help as Markdown that has a place in a table."""
    plain = re.sub(r"(?<!\n)\n(?!\n)", " ", text or "").replace("%(default)s", "").replace("%%", "%").replace("``", "`")
    pieces = plain.strip().split("`")  # every second one is code, in which a stroke ends no cell
    pieces[::2] = [piece.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*") for piece in pieces[::2]]
    return "`".join(pieces)


def cell(text: str) -> str:
    """Code in a cell of a table: one line."""
    return " ".join(text.split())
