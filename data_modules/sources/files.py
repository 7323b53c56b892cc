"""What readers of all formats do with files: finding folders, also behind links, reading JSON, and staying inside."""

import codecs
import os
import reprlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaled_ig.documents import parse_json, read_file
from scaled_ig.errors import UsageError

LARGEST_TEXT = 1 << 30  # bytes
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"
}  # fmt: skip

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong = 2, 60, 60


def walk(path: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk``, and through links to folders: every folder once, under its own name where it has one below.

    Yields:
        A folder, the names of folders in it, of which the caller may remove those that are not to be entered, and the
        names of its files.
    """
    visited: set[str] = set()
    waiting = deque([path])  # links come after all folders, so that no folder gets its name from a link to it
    while waiting:
        for folder, below, names in os.walk(waiting.popleft()):
            real = os.path.realpath(folder)
            if real in visited:  # a link may lead to a folder that holds it
                below.clear()
                continue
            visited.add(real)
            below.sort()
            parent = Path(folder)
            yield parent, below, names
            waiting.extend(parent / name for name in below if (parent / name).is_symlink())


def read_json(path: Path) -> dict[str, Any] | list[Any]:
    """The object or list of a JSON file.

    Raises:
        UsageError: the file cannot be read, is no JSON, is nested too deeply, or holds a single value.
    """
    try:
        document = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no readable JSON ({error}): repair or remove it") from None
    if not isinstance(document, dict | list):
        raise UsageError(f"{path} holds neither an object nor a list of JSON: repair or remove it")
    return document


def read_json_object(path: Path) -> dict[str, Any]:
    """As ``read_json``, where nothing but an object will do."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no JSON object: repair or remove it")
    return document


def read_lines(path: Path) -> list[str]:
    """Lines of a text of any system and encoding; one that goes on behind a backslash becomes its last line.

    Raises:
        UsageError: the file cannot be read, or is no text.
    """
    try:
        content = read_file(path, LARGEST_TEXT)
        text = decode_text(content)
        if "\0" in text:
            raise ValueError("it is no text")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): repair or remove it") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return _continued(lines) if "\\" in text else lines


def decode_text(content: bytes) -> str:
    """Text by its byte order mark; without one UTF-16 by its zeros, else UTF-8, else Latin-1, which takes any byte.

    Raises:
        ValueError: a byte order mark, or zeros, and no such text behind them.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    head = content[:1000]
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):
        zeros, others = head[first::2].count(0), head[1 - first :: 2].count(0)
        if others == 0 and 2 * zeros > len(head) // 2:
            return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _continued(lines: list[str]) -> list[str]:
    """Joins lines, and leaves empty ones before them, so that numbers of lines stay."""
    joined: list[str] = []
    parts: list[str] = []
    for line in lines:
        bare = line.rstrip()
        if bare.endswith("\\") and (parts or not bare.lstrip().startswith("#")):
            parts.append(bare[:-1])
            joined.append("")
        else:
            joined.append(" ".join([*parts, line]))
            parts = []
    return [*joined, " ".join(parts)]


def short(value: Any) -> str:
    """A value of a stranger's file as messages show it: printable, and at most a few words of it."""
    return _SHORT.repr(value).encode("ascii", "backslashreplace").decode()


def require_inside(place: Path, folder: Path, named_by: Path) -> None:
    """Refuses a file that a model names outside of its folder, such as ``../../somebody/picture.png``.

    Args:
        place: the file; where links lead is what counts.
        folder: in which the model's files lie.
        named_by: the model, or a file of it; links may have brought it from elsewhere, with what lies beside it.

    Raises:
        UsageError: it lies elsewhere.
    """
    real = place.resolve()
    if not any(real.is_relative_to(home) for home in (folder.resolve(), named_by.resolve().parent)):
        name = short(os.path.relpath(place, named_by.parent))
        raise UsageError(f"{named_by} names {name}, which is outside of its folder: copy it into {folder}")
