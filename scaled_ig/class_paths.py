"""What parsers let a configuration name: classes of allowed packages, looked at before and after the import."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, get_args

from jsonargparse import Namespace, Path, _loaders_dumpers, set_parsing_settings

from scaled_ig.allowed import PACKAGES, require_class
from scaled_ig.documents import Loader
from scaled_ig.errors import UsageError, did_you_mean
from scaled_ig.ranges import hints_of, value_out_of_range

# The library looks at a path before it imports anything, and once more at what the path leads to.
set_parsing_settings(
    import_path_denylist=["*"], import_path_allowlist=list(PACKAGES), instantiate_subclass_spec_in_any=False
)
# set_loader would not do: numbers are loaded past it. Where a version of the library has this elsewhere, nothing runs.
_loaders_dumpers.yaml_default_loader = Loader  # type: ignore[assignment]
if _loaders_dumpers.get_yaml_default_loader() is not Loader:
    raise ImportError("this version of jsonargparse would read configurations without bounds: install an older one")

OURS = ("scaled_ig.", "data_modules.")
PLAIN = (str, int, float, type(None), timedelta, Enum, Path)  # paths of files that were read
_COMPLAINTS = (
    r"(?:given class_path '(?P<path>\S+)': )?Importing '(?P<target>\S+)' is not allowed.*? denylist\.",
    r"Import path (?:(?P<path>\S+) )?does not correspond to a subclass of (?P<kind>\w+)",
    r"Expected '(?P<path>\S+)' to be a (?:function that returns|subclass of) (?:<class ')?(?P<kind>\w+)",
    r"Expected a dot import path string: (?P<path>\S+)",
    r"(?P<reason>module '\S+' has no attribute '\w+'|No module named '\S+')",
)
"""What the library says of a class path that is not allowed, or not the class that is wanted."""
_VALUE = re.compile(r"(?:Got|Given) value: (?:Namespace\(class_path=')?([\w.]+)")


NO_CLASS = "give the path of a class"


def allow(packages: list[str]) -> tuple[str, ...]:
    """Let configurations name classes of further packages; returns all that are allowed.

    Raises:
        UsageError: These are no names of packages.
    """
    try:
        set_parsing_settings(import_path_allowlist=packages)
    except ValueError:
        raise UsageError(f"--allow-package {' '.join(packages)}: give names such as my_package") from None
    return (*PACKAGES, *packages)


def explain(message: str, packages: tuple[str, ...]) -> str:
    """One sentence of a class path that was refused; empty where the library complains of something else."""
    if "'allow_package'" in message:
        return "no file can allow packages: give --allow-package on the command line"
    for named in re.finditer(r"class_path'?[=:] ?'([\w.]+)'", message):
        thing = loaded(named[1])
        if thing is not None and (not isinstance(thing, type) or inspect.isabstract(thing)):
            return f"{_key(message[: named.start()])}: {named[1][:120]} is no class that can be made: name another one"
    complaint = next((complaint for form in _COMPLAINTS if (complaint := re.search(form, message))), None)
    if complaint is None:
        return ""
    words = dict.fromkeys(("path", "target", "kind", "reason"), "")
    words |= {name: word for name, word in complaint.groupdict().items() if word}
    key = _key(message[: complaint.start()])
    value = _VALUE.search(message, complaint.end())
    path = (words["path"] or (value[1] if value else words["target"]))[:120]
    if words["kind"]:
        return f"{key}: {path} is no {words['kind']}: name a subclass of it"
    if not words["target"]:
        hint = did_you_mean(path.rpartition(".")[2], _our_classes())
        return f"{key}: {words['reason'] or f'{path} is no class'}: {hint}{NO_CLASS}"
    allowed = f"not of {', '.join(packages)}"
    if path != words["target"]:
        return f"{key}: {path} is {words['target']}, which is {allowed}: name a class of these"
    return (
        f"{key}: {path} is {allowed}: name a class of these, or give --allow-package {path.partition('.')[0]} on the "
        "command line if you trust its code"
    )


def _key(message: str) -> str:
    return ".".join(re.findall(r'Parser key "([\w.]+)"', message))


def check_classes(config: Namespace, bases: tuple[type, ...], packages: tuple[str, ...]) -> None:
    """Raise UsageError where a configuration holds anything but data and the names of classes of some kinds.

    Args:
        config: As parsed. What it names is loaded, and nothing of it has been called.
        bases: Kinds of classes. Which kind belongs where is known by the parser.
        packages: Packages that they may be of.
    """
    for key, value in values(config):
        if key.endswith("class_path"):
            require_class(loaded(value), f"{key.removesuffix('.class_path')}: {value}", bases, packages)
        elif not isinstance(value, PLAIN):  # what a path led to that is no class
            require_class(value, f"{key}: {getattr(value, '__qualname__', type(value))!s}", bases, packages)


def values(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of a configuration that are neither mappings nor lists."""
    if isinstance(config, Namespace | dict):
        for name, value in (vars(config) if isinstance(config, Namespace) else config).items():
            yield from values(value, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list | tuple | set):
        for value in config:
            yield from values(value, key)
    else:
        yield key, config


def out_of_range_below(hint: Any, value: Any, key: str) -> Iterator[str]:
    """What is said of each number at a key, or beneath it, that is out of its range.

    Args:
        hint: Annotation of the value.
        value: As parsed; what it names is loaded.
        key: Its dotted key.
    """
    if isinstance(value, Namespace):
        path, arguments = value.get("class_path"), value.get("init_args", value)
        kind = loaded(path) if path else _dataclass_in(hint)
        hints = hints_of(kind) if isinstance(kind, type) and kind.__module__.startswith(OURS) else {}
        for name, inner in vars(arguments).items():
            yield from out_of_range_below(hints.get(name), inner, f"{key}.{name}")
    elif isinstance(value, list) and any(isinstance(inner, Namespace) for inner in value):
        for inner in value:
            yield from out_of_range_below(None, inner, key)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key} {value} must be a finite number"
    else:
        yield from value_out_of_range(hint, value, key)


def _dataclass_in(hint: Any) -> type | None:
    """The one that is an annotation, or among its alternatives."""
    parts = (hint, *get_args(hint))
    return next((part for part in parts if isinstance(part, type) and is_dataclass(part)), None)


def _our_classes() -> set[str]:
    """Names of all classes of this project that are loaded."""
    ours = [module for name, module in list(sys.modules.items()) if name.startswith(OURS)]
    return {name for module in ours for name, thing in vars(module).items() if isinstance(thing, type)}


def loaded(path: object) -> object:
    """What a dotted path names, among modules that are loaded; None where it is no such path."""
    parts = str(path).split(".")
    for end in range(len(parts) - 1, 0, -1):
        thing: Any = sys.modules.get(".".join(parts[:end]))
        if thing is not None:
            for name in parts[end:]:
                thing = getattr(thing, name, None)
            return thing
    return None
