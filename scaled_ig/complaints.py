"""What the parsing library complains of, in one sentence: its own words list every alternative that it has tried."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from scaled_ig.errors import did_you_mean

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list such as [1, 2]",
    "list": "a list",
    "dict": "keys with values",
    "NoneType": "null",
}
LONGEST_VALUE = 60


@dataclass
class _Place:
    """A key of which something is said.

    Args:
        keys: That lead to it.
        expected: What its value may be.
        value: What it is.
        unknown: Name of an argument that is not accepted.
        path: Of the class that does not accept it.
        missing: Names of arguments that are required.
    """

    keys: tuple[str, ...] = ()
    expected: list[str] = field(default_factory=list)
    value: str = ""
    unknown: str = ""
    path: str = ""
    missing: str = ""

    @property
    def key(self) -> str:
        return ".".join(self.keys)


def in_plain_words(message: str, load: Callable[[str], object]) -> str:
    """What is wrong with the value or the name of one key, or with a word that is none of those that can stand there.

    Empty where the library says something else.

    Args:
        message: The library's, of many lines.
        load: Gives the class of a dotted path, or None.
    """
    choice = re.search(r"argument (?:--)?(\w+): invalid choice: '(.*)' \(choose from (.*)\)", message)
    if choice:
        return _none_of(choice[1], choice[2], re.findall(r"'(.*?)'", choice[3]))
    places = [
        place
        for place in _places(message)
        if place.unknown or place.missing or any(kind != "null" for kind in place.expected)
    ]
    if not places:
        return ""
    place = max(places, key=lambda place: len(place.keys))
    if place.missing:
        names = [f"{place.key}.{name}" for name in place.missing.split(", ")]
        return f"{' and '.join(names)} must be given: add {' '.join(f'--{name}' for name in names)}"
    if not place.unknown:
        return _none_of(place.key, place.value, list(dict.fromkeys(place.expected)))
    kind = load(place.path)
    accepted = list(inspect.signature(kind).parameters) if isinstance(kind, type) else []
    hint = did_you_mean(place.unknown, accepted, f"{place.key}.")
    takes = ", ".join(accepted) if accepted else "no arguments"
    return f"{place.key}.{place.unknown} is not known: {hint}{place.path.rpartition('.')[2]} takes {takes}"


def _none_of(key: str, value: str, expected: list[str]) -> str:
    hint = did_you_mean(value, [name for name in expected if name not in _TYPES.values()])
    names = " or ".join(filter(None, [", ".join(expected[:-1]), expected[-1]]))
    return f"{key} {value}{f' is not known: {hint}It' if hint else ''} must be {names}"


def _places(message: str) -> Iterator[_Place]:
    """Keys of a message, with all that is said of each."""
    places: dict[tuple[str, ...], _Place] = {}
    around: list[tuple[int, str, str]] = []  # indent, key and class of the lines above
    for line in filter(str.strip, message.splitlines()):
        indent = len(line) - len(line.lstrip())
        while around and around[-1][0] >= indent:
            around.pop()
        key = re.search(r'Parser key "([\w.\[\]]+)":', line)
        path = re.search(r"Problem with given class_path '(\S+)':", line)
        if key or path:
            around.append((indent, key[1] if key else "", path[1] if path else ""))
        keys = tuple(key for _, key, _ in around if key)
        paths = [path for _, _, path in around if path]
        _read(places.setdefault(keys, _Place(keys)), line, paths[-1] if paths else "")
    yield from places.values()


def _read(place: _Place, line: str, path: str) -> None:
    unknown = re.search(r"Option '(\w+)' is not accepted", line)
    missing = re.search(r"the following arguments are required: (\w+(?:, \w+)*)", line)
    expected = re.search(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal(\[.*?\]))", line)
    value = re.search(r"(?:Got|Given) value: (?!NestedArg\()(.*?)(?:\. Got value: .*)?$", line)
    if missing and place.keys:  # what a verb itself needs, the library says well
        place.missing = missing[1]
    if unknown:
        place.unknown, place.path = unknown[1], path
    if expected and expected[2]:
        place.expected += [str(choice) for choice in ast.literal_eval(expected[2])]
    elif expected and expected[1] in _TYPES:
        place.expected.append(_TYPES[expected[1]])
    if value and not place.value:
        place.value = value[1] if len(value[1]) <= LONGEST_VALUE else f"{value[1][: LONGEST_VALUE - 1]}…"
