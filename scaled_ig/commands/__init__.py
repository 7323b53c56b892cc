"""The verbs of the program, one module each, with a function of the same name; the bank's are its actions."""

import shlex
import sys
from pathlib import Path


def say_next(*words: str) -> None:
    """Say which call usually follows, beside the output; in capitals what the user chooses."""
    print(f"next: {shlex.join(['scaled-ig', *words])}", file=sys.stderr, flush=True)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things; their plural ends in s unless given."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def listed(names: list[str] | str) -> list[str]:
    """Names with commas between, a list, or a text file, NAME.txt, with one a line."""
    if isinstance(names, str) and names.endswith(".txt"):
        from data_modules.streaming.choice import read_ids

        return read_ids(Path(names))
    if isinstance(names, str):
        names = [part.strip() for part in names.removeprefix("[").removesuffix("]").split(",") if part.strip()]
    return names
