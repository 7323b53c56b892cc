"""The program ``scaled-ig``: its verbs, and how they end.

A verb is a function in the module of its name in :mod:`scaled_ig.commands`; an action of the bank is one in ``bank``.
Modules are imported when they are called: Lightning, which only verbs that train need, takes seconds.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser

from scaled_ig import __version__
from scaled_ig.distributed import cores
from scaled_ig.errors import NotFiniteError, UsageError, explain, explain_room, refuse_hidden_packages
from scaled_ig.parsing import VerbParser

VERBS = {
    "doctor": "say what is on this machine, and what works here",
    "demo": "draw cars, train on them and write the page that shows it",
    "synthesize": "make procedural cars or a face model, where there is no data",
    "pack": "turn meshes, a face model or posed views into a pack",
    "check": "verify a pack and draw its contact sheet",
    "fit": "train: run the phases that a configuration names",
    "presets": "list the configurations that are shipped",
    "add": "learn further scenes for a finished run",
    "bank": "look at the scenes of a bank, verify, remove, merge, shrink, refit or export them",
    "export": "write the scenes of a pack as folders of images with a transforms.json",
    "render": "render a scene of a bank from a circle of viewpoints",
    "view": "look at scenes or views in a browser",
    "test": "measure a run on views that it has never seen",
    "report": "write the page that shows a run",
    "costs": "itemise what scenes of runs cost, and draw how it grows with their number",
    "dashboard": "lay out a view of Weights & Biases that shows the runs of a table",
    "tables": "build the tables of the papers from runs",
}
BANK_ACTIONS = {
    "info": "say what a bank holds",
    "verify": "read every byte of a bank, and say what is wrong",
    "remove": "remove scenes",
    "merge": "add the scenes of other banks, encode all scenes in another way, or both",
    "refit": "learn scenes again",
    "export": "write scenes as files that other programs read",
    "read": "make a bank of a checkpoint of the papers' own code",
}
LOAD_LIGHTNING = {"fit", "add", "bank refit", "test", "report"}
"""What must load Lightning before it can do anything, which takes seconds."""
GO_ON = {
    **dict.fromkeys(("demo", "synthesize", "pack", "add"), "; the same call goes on"),
    "fit": "; the same call with --resume true goes on",
}
"""What is said to who interrupts a verb that can go on where it was."""


def overview(parser_of: Callable[[str, Callable[..., int]], ArgumentParser] | None = None) -> VerbParser:
    """Parser of a call that names no verb, or no action of the bank: for help, the version, and mistakes.

    Args:
        parser_of: Gives the parser of a verb, or of an action such as ``bank info``, by its name and function; they
            have no options unless it is given.
    """

    def described(name: str, summary: str) -> ArgumentParser:
        return parser_of(name, function_of(name)) if parser_of and name != "bank" else VerbParser(description=summary)

    examples = (
        "  scaled-ig demo\n"
        "  scaled-ig fit --preset quickstart --data.path PACK --run_dir RUN\n"
        "  scaled-ig --print_completion bash > ~/.scaled-ig && echo source ~/.scaled-ig >> ~/.bashrc"
    )
    parser = VerbParser(prog="scaled-ig", description="Learn thousands of 3D scenes from posed images.")
    parser.is_inner, parser.epilog = False, f"examples:\n{examples}"
    parser.add_argument("--version", action="version", version=f"scaled-ig {__version__}")
    parser.add_argument(
        "--print_completion", choices=["bash", "zsh"], help="print the script with which a shell completes calls"
    )
    verbs = parser.add_subcommands(dest="verb", required=True)
    for name, summary in VERBS.items():
        verbs.add_subcommand(name, described(name, summary), help=summary)
    actions = verbs.choices["bank"].add_subcommands(dest="action")
    for name, summary in BANK_ACTIONS.items():
        actions.add_subcommand(name, described(f"bank {name}", summary), help=summary)
    return parser


def function_of(name: str) -> Callable[..., int]:
    """The function of a verb, or of an action such as ``bank info``."""
    module, _, action = name.partition(" ")
    return getattr(importlib.import_module(f"scaled_ig.commands.{module}"), action or module)


def called(arguments: Sequence[str]) -> tuple[str, Callable[..., int], list[str]] | None:
    """Name of what is called, its function, and the arguments that are left for it; None where it is not known."""
    match arguments:
        case ["bank", action, *rest] if action in BANK_ACTIONS:
            name = f"bank {action}"
        case [verb, *rest] if verb in VERBS and verb != "bank":
            name = verb
        case _:
            return None
    return name, function_of(name), rest


def _run(arguments: Sequence[str]) -> int:
    command = called(arguments)
    if command is None:
        match list(arguments):
            case ["--print_completion", "bash" | "zsh" as shell]:
                from scaled_ig import completion

                print(completion.script(overview(completion.parser_of), shell))
            case []:
                overview().print_help(sys.stderr)
                return 2
            case ["bank"]:
                raise UsageError(f"bank needs one of {', '.join(BANK_ACTIONS)}: scaled-ig bank --help explains them")
            case _:
                overview().parse_args(arguments)
        return 0
    name, function, rest = command
    is_training = "training" in inspect.signature(function).parameters
    options = {} if is_training else VerbParser(function, prog=f"scaled-ig {name}").parse_args(rest)
    if name in LOAD_LIGHTNING and sys.stderr.isatty():
        print("loading torch and Lightning …", file=sys.stderr, flush=True)
    if is_training:
        from scaled_ig.commands.training_cli import TrainingCLI

        training = TrainingCLI(rest, function, f"scaled-ig {name}")
        return function(training, **training.options)
    cores.share_cores()
    return function(**options)


def _give_up_output() -> None:
    """Where output goes to a full disk or nobody reads it, what is left of it must not fail once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; leaves with 0 when done, 1 when failed, 2 for a mistake of the user, 3 where training is
    not finite."""
    cores.begin()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        refuse_hidden_packages()
        status = _run(words)
        sys.stdout.flush()
    except (UsageError, OSError) as error:
        said = explain(error) if isinstance(error, OSError) else str(error)
        ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
        if all(os.environ.get(name, "0") == "0" for name in ranks):  # once, not by every rank
            # It may quote a file, whose signs shall not reach the terminal.
            plain = "".join(sign if sign.isprintable() else "?" for sign in said)
            print(f"error: {plain}", file=sys.stderr)
        _give_up_output()
        status = 3 if isinstance(error, NotFiniteError) else 2
    except (RuntimeError, MemoryError) as error:
        said = explain_room(error)
        if not said:
            raise
        print(f"error: {said}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"interrupted{GO_ON.get(words[0] if words else '', '')}", file=sys.stderr)
        status = 130
    raise SystemExit(status)
