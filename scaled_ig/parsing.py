"""Parsers of the verbs, made from their functions, and what they say to a mistake."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from scaled_ig.allowed import PACKAGES
from scaled_ig.class_paths import NO_CLASS, explain, loaded, out_of_range_below, values
from scaled_ig.complaints import in_plain_words
from scaled_ig.documents import LARGEST_INTEGER, DocumentError, parse_yaml
from scaled_ig.errors import UsageError
from scaled_ig.ranges import hints_of, refuse

LONGEST_MESSAGE = 600


class HelpFormatter(DefaultHelpFormatter):
    """Paragraphs stay apart, and lines that begin with spaces, such as examples, stay as they are.

    The range of a number stands behind its type in plain words.
    """

    def _expand_help(self, action: Any) -> str:
        return re.sub(r"Annotated\[(int|float), ([^]]+)]", r"\1 (\2)", super()._expand_help(action) or "")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        blocks = re.split(r"\n\s*\n|\n(?=\s)|(?<=:)\n", text.strip("\n"))
        lines = [block if block.startswith(" ") else fill(block, width, indent) for block in blocks]
        apart = ["" if one.endswith(":") or two.startswith(" ") else "\n" for one, two in pairwise(lines)]
        return "".join(f"{line}\n{gap}" for line, gap in zip(lines, [*apart, ""], strict=True)).rstrip("\n")


class VerbParser(ArgumentParser):
    """A verb's parser: names of options may have hyphens, switches are flags, and a list of operands is just listed.

    Args:
        verb: The function, whose signature and docstring are the options and their help.
        skip: Parameters of it that are no options.
        options: Of the parser.

    Attributes:
        packages: Whose classes may be named.
        is_inner: Whether it is one of a class within a configuration, whose mistakes the parser around it tells.
    """

    packages: tuple[str, ...] = PACKAGES
    before_keys = "--"

    def __init__(self, verb: Callable[..., int] | None = None, skip: tuple[str, ...] = (), **options: Any) -> None:
        usual: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "conflict_handler": "resolve"}
        usual["formatter_class"] = HelpFormatter
        super().__init__(**usual | options)
        self.is_inner, self.verb = verb is None, verb
        if verb is None:  # of a class within a configuration
            return
        self.description = re.split(r"\n\n(?:Args|Returns|Raises):", inspect.getdoc(verb) or "")[0]
        self.add_function_arguments(verb, as_group=False, as_positional=True, skip=set(skip))
        for action in list(self._actions):
            if isinstance(action.default, bool):
                names, default = list(action.option_strings), action.default
                self.add_argument(*names, action=ActionYesNo, default=default, help=action.help)
            elif not action.option_strings and getattr(action, "_typehint", None) == list[str]:
                action.nargs, action._typehint = "+", str  # type: ignore[attr-defined]
                action.metavar = action.dest

    def _parse_optional(self, arg_string: str):
        return super()._parse_optional(_with_underscores(arg_string))

    def parse_args(self, *arguments: Any, **options: Any):
        """As the library does.

        Raises:
            UsageError: The arguments are not understood.
        """
        if self.is_inner:
            return super().parse_args(*arguments, **options)
        words = self._appended(list(arguments[0]))
        try:
            try:
                config = super().parse_args(words, *arguments[1:], **options)
            except ArgumentError as error:
                bracketed = _with_brackets(words, str(error))
                if bracketed == words:
                    raise
                config = super().parse_args(bracketed, *arguments[1:], **options)
        except (ArgumentError, UnicodeDecodeError) as error:
            raise UsageError(self._mistake(str(error))) from None
        for key, value in values(config):
            if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                raise UsageError(f"{key}: {str(value)[:20]}… has no room in 64 bits: give a smaller number")
        refuse(self.wrong_values(config))
        return config

    def _appended(self, words: list[str]) -> list[str]:
        """``--compare X`` as ``--compare+ X``: an option of a list of texts takes one of them and may be repeated."""
        lists = [action for action in self._actions if getattr(action, "_typehint", None) == list[str] | None]
        names = {name for action in lists for name in action.option_strings if not name.endswith("+")}
        parts = [_with_underscores(word).partition("=") for word in words]
        return [
            f"{name}+{equals}{value}" if name in names else word
            for word, (name, equals, value) in zip(words, parts, strict=True)
        ]

    def wrong_values(self, config: Namespace) -> Iterator[str]:
        """What is said of each value that the annotation of its argument does not allow."""
        for key, hint in self.hints().items():
            if key in config:
                yield from out_of_range_below(hint, config[key], self.before_keys + key)

    def hints(self) -> dict[str, Any]:
        """Annotations of the options by key, with ranges."""
        hints = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
        return hints | (hints_of(self.verb) if self.verb else {})

    def _mistake(self, message: str) -> str:
        """What a file must not hold, the nearest known name for an unknown one, or the library's words: one line."""
        plain, message = in_plain_words(message, loaded), " ".join(message.split())
        refused = self._refused_file(message) or explain(message, self.packages)
        if plain and (not refused or refused.endswith(NO_CLASS)):
            return plain
        message = re.sub(r"(--\w+)/\1\+", r"\1", message)  # the library's own name for adding to a list
        no_file = r"Parser key \"(\S+)\": File (does not exist|.*?): '?(.*?)'?$"
        message = re.sub(no_file, r"\1: \3: the file \2", message)
        short = f"{message[:LONGEST_MESSAGE]}{'…' * (len(message) > LONGEST_MESSAGE)}"
        words = re.findall(r"(?:--|ption ')([\w.-]+)", message)
        if refused or not words:
            return refused or short
        known = {name for option in _options(self) for name in (option, option[2:], option.rpartition(".")[2])}
        asked = [_with_underscores(argument).partition("=")[0].replace(".init_args.", ".") for argument in self.args]
        for word in words:
            name = next((name for name in asked if name.endswith(word.replace("-", "_"))), word)
            near = difflib.get_close_matches(name, known, n=1)
            if near and name not in known:
                return f"{name} is not known: did you mean {near[0]}?"
        return short

    def _refused_file(self, message: str) -> str:
        """What is wrong with a configuration as a document; empty where that is in order."""
        nested = re.search(
            r"(?:sub-config file|Unable to load config) '?(\S+?)'?(?::| -) (line \d+: .*?)(?: - |$)", message
        )
        if nested:
            return f"{nested[1]}, {nested[2]}"
        if not message.startswith(("Problems parsing config", "Unexpected config", "'utf-8' codec")):
            return ""
        for file in (Path(argument.rpartition("=")[2]) for argument in self.args):
            try:
                if file.is_file() and not isinstance(parse_yaml(file.read_text()), dict):
                    return f"{file} is no configuration: give a YAML file that has keys and values"
            except (DocumentError, UnicodeDecodeError) as error:
                return f"{file}, {error}; mend it, or give another file"
        return f"a further file that the key config names is none: {message[:120]}"


def _with_underscores(argument: str) -> str:
    """``--dry-run=x-y`` is ``--dry_run=x-y``."""
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") else argument


def _with_brackets(words: list[str], message: str) -> list[str]:
    """Lists that were given as ``0,30``, or as the only text in them, where a list was expected, as ``[0,30]``."""
    numbers = r"value: ([-+\d.eE]+(?:, ?[-+\d.eE]+)+)(?=\s|$)"
    lists = set(re.findall(numbers, message)) if "<class 'tuple'>" in message else set()
    text = re.search(r"Subtypes: \[list\[str\], .*\n  Given value: (.+)$", message, re.DOTALL)

    def bracketed(word: str) -> str:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if text and value == text[1]:
            return f"{option}{equals}{json.dumps([value])}"
        return f"{option}{equals}[{value}]" if value in lists else word

    return [bracketed(word) for word in words]


def _options(parser: ArgumentParser, deep: int = 2) -> Iterator[str]:
    """Names of a parser's options, and of those of this project's classes that can be their values."""
    for action in parser._actions:
        yield from action.option_strings
        for base in getattr(action, "_help_types", ()) if deep else ():
            for described in _with_subclasses(base):
                if described.__module__.startswith(("scaled_ig.", "data_modules.")):
                    inner = ArgumentParser()
                    inner.add_class_arguments(described, action.dest.removesuffix(".help"))
                    yield from _options(inner, deep - 1)


def _with_subclasses(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for subclass in base.__subclasses__():
        yield from _with_subclasses(subclass)
