"""What each rank finds for itself, and all must know."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from scaled_ig.errors import UsageError

T = TypeVar("T")


def together(action: Callable[[], T]) -> T:
    """Do something on every rank; a user's mistake that one of them finds ends all of them. Collective.

    A rank that left alone would leave the others waiting, until they die of its silence.

    Raises:
        UsageError: The first rank's that has one.
    """
    result, mistake = None, None
    try:
        result = action()
    except UsageError as error:
        mistake = str(error)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        mistakes: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(mistakes, mistake)
        mistake = next(filter(None, mistakes), None)
    if mistake:
        raise UsageError(mistake)
    return result  # type: ignore[return-value]
