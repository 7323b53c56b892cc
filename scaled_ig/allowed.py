"""Which classes a file may name: of packages that the user trusts, and of the kind that is wanted in their place."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from scaled_ig.errors import UsageError

PACKAGES = ("scaled_ig", "data_modules", "lightning", "torch", "diffusers")
"""A configuration may name classes of these; ``--allow-package`` adds others."""


def is_of(packages: tuple[str, ...], path: str) -> bool:
    """Whether a dotted path leads into one of some packages."""
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def require_class(
    thing: object, name: str, bases: type | tuple[type, ...], packages: tuple[str, ...] = PACKAGES
) -> type[Any]:
    """A class that a file may name: a name alone does not tell, ``torch.os.system`` is no part of torch.

    Args:
        thing: What the name stands for.
        name: As the file has it.
        bases: The class must be one of these, or a subclass.
        packages: It must be defined in one of these.

    Raises:
        UsageError: It is something else.
    """
    if not isinstance(thing, type):
        raise UsageError(f"{name[:120]} is no class: a file can name classes alone")
    if not issubclass(thing, bases):
        kind = bases.__name__ if isinstance(bases, type) else "kind of class that a file can name"
        raise UsageError(f"{name[:120]} is no {kind}: name another class")
    if inspect.isabstract(thing):
        raise UsageError(f"{name[:120]} is abstract: name a subclass of it")
    if not is_of(packages, thing.__module__):
        raise UsageError(f"{name[:120]} is defined in {thing.__module__}: name a class of {', '.join(packages)}")
    return thing


def class_in(module: ModuleType, name: object, base: type) -> type[Any]:
    """A class of this project, by its name in a module.

    Raises:
        UsageError: The module has no such class.
    """
    thing = getattr(module, name, None) if isinstance(name, str) else None
    if thing is None:
        raise UsageError(f"{base.__name__} {str(name)[:120]!r} is unknown to this version of scaled_ig")
    return require_class(thing, str(name), base)
