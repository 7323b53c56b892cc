"""What the parser says of a mistake, made one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], verb: str) -> str:
    """The way out of a misspelled word."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"scaled-ig {verb} --help lists the known ones"


def wrong_value(message: str) -> str:
    """The innermost complaint about a value, without all that the parser tried around it."""
    keys = re.findall(r'[Pp]arser key "([\w.]+)"', message)
    innermost = message.rpartition("arser key")[2]
    one = re.match(r"[^\n]*\n\s*Expected an? (.+?)\. Got value: (.+?)(?:\. Got value.*)?$", innermost, re.MULTILINE)
    given = one[2] if one else next(iter(re.findall(r"Given value: (.+)", innermost)), None)
    tried = innermost.partition("Given value")[0]
    wanted = [one[1]] if one else re.findall(r"Expected an? (.+?)(?:\. Got value.*)?$", tried, re.MULTILINE)
    if not (keys and given and wanted):
        return " ".join(message.split())
    # Where keys and values may be given, the parser has also looked for a file that holds them.
    wanted = [re.sub("^dot import path.*", "keys and values", name) for name in wanted if name[:8] != "path but"]
    wanted = [re.sub(r"(?:typing\.)?Literal\[(.+)\]", lambda m: m[1].replace(", ", " or "), name) for name in wanted]
    names = [re.sub(r"<class '([\w.]+)'>|typing\.", r"\1", name).replace("NoneType", "null") for name in wanted]
    return f"{'.'.join(dict.fromkeys(keys))} must be {' or '.join(names)}, not {given}"


def tool_mistake(message: str, verb: str, required: Iterable[str], options: Iterable[str]) -> str:
    """One sentence for a mistake in the call of a tool.

    Args:
        message: What the parser says.
        verb: The tool.
        required: Arguments that it cannot do without, as one writes them.
        options: Names of all its arguments.
    """
    missing = re.search(r"the following arguments are required: (.+)", message)
    if missing:
        given = [name for name in required if f"{verb}.{name.lstrip('-')}" in missing[1].split(", ")]
        return f"{verb} needs {' and '.join(given)}: scaled-ig {verb} --help says more"
    unknown = re.search(r"unrecognized arguments: (\S+)", message)
    if unknown:
        return f"unknown argument {unknown[1]!r}: {did_you_mean(unknown[1].lstrip('-'), options, verb)}"
    return wrong_value(message).removeprefix(f"{verb}.")
