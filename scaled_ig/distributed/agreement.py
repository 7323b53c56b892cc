"""What each rank finds for itself, and all must know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from scaled_ig.errors import UsageError, explain

T = TypeVar("T")


def together(action: Callable[[], T]) -> T:
    """Do something on every rank; a mistake of the user, or a file that is refused, ends all of them. Collective.

    A rank that left alone would leave the others waiting, until they die of its silence.

    Raises:
        UsageError: The first rank's that has one.
    """
    result: Any = None
    mistake: UsageError | None = None
    try:
        result = action()
    except UsageError as error:
        mistake = error
    except OSError as error:
        mistake = UsageError(explain(error))
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        mistakes: list[UsageError | None] = [None] * dist.get_world_size()
        dist.all_gather_object(mistakes, mistake)
        mistake = next(filter(None, mistakes), None)
    if mistake:
        raise mistake from None
    return result  # type: ignore[no-any-return]


def on_first_rank(action: Callable[[], Any]) -> None:
    """Do something on the first rank, for which the others wait, and end with it where it fails. Collective."""
    is_first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
    together(action if is_first else lambda: None)
