"""YAML and JSON that anybody may have written: plain data within bounds, or a :class:`DocumentError`."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import yaml

LARGEST_JSON = 1 << 28  # bytes: records of a million scenes are long
MOST_JSON_MEMORY = 640 << 20
# About what a list, an object, one more value, a key and half a text take once they are parsed.
_JSON_BYTES = {b"[": 64, b"{": 128, b",": 32, b":": 32, b'"': 16}

MOST_CHARACTERS = {"YAML": 1 << 22, "JSON": LARGEST_JSON}
MOST_LEVELS = 32
MOST_NODES = 200_000  # of YAML; JSON can name nothing twice
LONGEST_STRING = 1 << 16  # of YAML
LONGEST_NUMBER = 64
LARGEST_INTEGER = 2**63 - 1

_FLOAT = re.compile(
    r"[-+]?(?:\d[\d_]*)\.[\d_]*(?:[eE][-+]?\d+)?|[-+]?\d[\d_]*[eE][-+]?\d+|\.\d[\d_]*(?:[eE][-+]?\d+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class DocumentError(yaml.YAMLError, ValueError):
    """What is wrong with a document, and in which line where that is known."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Numbers, text, lists and mappings; ``1e-3`` is a number and a date is text, as in YAML 1.2.

    Args:
        text: The document.

    Raises:
        DocumentError: It has anchors, aliases or tags, or is beyond the bounds.
    """

    def __init__(self, text: str) -> None:
        _check_events(text)
        super().__init__(text)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                raise DocumentError(f"{_line(key)}: a key is one word")
            if key.value in keys:
                raise DocumentError(f"{_line(key)}: {key.value[:60]!r} is there twice")
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number that a machine can hold."""
        is_float = node.tag.endswith("float")
        if len(node.value) > LONGEST_NUMBER:
            raise DocumentError(f"{_line(node)}: a number has more than {LONGEST_NUMBER} digits")
        value = self.construct_yaml_float(node) if is_float else self.construct_yaml_int(node)
        is_infinite = is_float and abs(value) == float("inf") and "inf" not in node.value.lower()
        if is_infinite or (not is_float and abs(value) > LARGEST_INTEGER):
            raise DocumentError(f"{_line(node)}: {node.value} has no room in 64 bits")
        return value


for _tag in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", Loader.construct_number)
Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith((":timestamp", ":float"))]
    for first, forms in Loader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def parse_yaml(text: str) -> Any:
    """Content of a YAML document.

    Raises:
        DocumentError: It is none, or beyond the bounds.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        raise DocumentError(f"{_line(error)}: {error.problem}") from None
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentError(" ".join(str(error).split())) from None


def parse_json(text: str | bytes) -> Any:
    """Content of a JSON document.

    Raises:
        DocumentError: It is none, or beyond the bounds.
    """
    _check_length(text, "JSON")
    content = text.encode() if isinstance(text, str) else text
    memory = sum(each * content.count(mark) for mark, each in _JSON_BYTES.items())
    if memory > MOST_JSON_MEMORY:
        raise DocumentError(f"it is too large: what it lists takes about {memory >> 20} MiB of memory")
    try:
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repeats, parse_int=_integer)
    except RecursionError:
        raise DocumentError(f"it has more than {MOST_LEVELS} levels") from None
    except ValueError as error:
        raise DocumentError(str(error)) from None
    level, number = [document], 0
    while level:
        number += 1
        if number > MOST_LEVELS + 1:
            raise DocumentError(f"it has more than {MOST_LEVELS} levels")
        below = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        level = [node for nodes in below for node in nodes if isinstance(node, dict | list)]
    return document


def read_file(path: Path, most_bytes: int = LARGEST_JSON) -> bytes:
    """Content of a file that anybody may have written.

    Raises:
        OSError: It cannot be read, is larger, or is a pipe or a device, which may have no end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")
    if status.st_size > most_bytes:
        raise OSError(f"it has {status.st_size:,} bytes, and {most_bytes:,} are the most that are read")
    return path.read_bytes()


def _check_events(text: str) -> None:
    """Raise DocumentError before anything is made of a document."""
    _check_length(text, "YAML")
    levels = nodes = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise DocumentError(f"{_line(event)}: anchors and aliases are not read: write the values out")
        if getattr(event, "tag", None) is not None:
            raise DocumentError(f"{_line(event)}: the tag {event.tag[:60]} is not read: give a plain value")
        levels += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if levels > MOST_LEVELS:
            raise DocumentError(f"{_line(event)}: it has more than {MOST_LEVELS} levels")
        if nodes > MOST_NODES:
            raise DocumentError(f"{_line(event)}: it has more than {MOST_NODES} values")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_STRING:
            raise DocumentError(f"{_line(event)}: a text has more than {LONGEST_STRING} characters")


def _check_length(text: str | bytes, language: str) -> None:
    if len(text) > MOST_CHARACTERS[language]:
        raise DocumentError(f"it has more than {MOST_CHARACTERS[language]} characters")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise DocumentError(f"{next(name for name in names if names.count(name) > 1)[:60]!r} is there twice")
    return content


def _integer(text: str) -> int:
    value = int(text) if len(text) <= LONGEST_NUMBER else LARGEST_INTEGER + 1
    if abs(value) > LARGEST_INTEGER:
        raise DocumentError(f"{text[:20]}… has no room in 64 bits")
    return value


def _line(place: Any) -> str:
    mark = getattr(place, "start_mark", None) or getattr(place, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else "somewhere"
