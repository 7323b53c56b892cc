"""Ranges of numbers: stated once, in the signature of a constructor or a verb, for Python and configurations alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from scaled_ig.errors import UsageError

C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True, repr=False)
class Range:
    """What a number may be; never NaN.

    Args:
        low: The least.
        high: The greatest.
        without_low: It must be more than ``low``.
        without_high: It must be less than ``high``.
    """

    low: float
    high: float
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.without_low else self.low <= value
        return above and (value < self.high if self.without_high else value <= self.high)

    def __str__(self) -> str:
        low, high = _plain(self.low), _plain(self.high)
        if self.low == self.high:
            return low
        if not (self.without_low or self.without_high):
            return f"{low} to {high}"
        least = f"more than {low}" if self.without_low else f"at least {low}"
        return f"{least} and {f'less than {high}' if self.without_high else f'at most {high}'}"

    __repr__ = __str__  # the help of a verb shows it


Count = Annotated[int, Range(1, 1_000_000)]
"""Of scenes, views of a batch, rays, epochs."""
Place = Annotated[int, Range(0, 1_000_000)]
"""In a list that is counted from 0."""
Steps = Annotated[int, Range(1, 100_000_000)]
StepsOrNone = Annotated[int, Range(0, 100_000_000)]
"""0 for never."""
Width = Annotated[int, Range(1, 4096)]
"""Channels or neurons of a layer, texels or pixels of a side, samples of a ray."""
Channels = Annotated[int, Range(0, 4096)]
"""The same of what may be absent."""
Layers = Annotated[int, Range(1, 256)]
Factor = Annotated[int, Range(1, 64)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Rate = Annotated[float, Range(0, 3e38)]
"""Of learning, in float32."""
Weight = Annotated[float, Range(0, 1e6)]
"""Of a term of the loss."""
Share = Annotated[float, Range(0, 1)]
PartBelowAll = Annotated[float, Range(0, 1, without_high=True)]
Mean = Annotated[float, Range(-1000, 1000)]
Deviation = Annotated[float, Range(0, 1000)]
"""Standard deviation of what training starts from."""
Angle = Annotated[float, Range(-3600, 3600)]
"""Degrees."""
Elevation = Annotated[float, Range(-90, 90)]
Distance = Annotated[float, Range(0, 1000, without_low=True)]
"""World units."""


def checked(thing: C) -> C:
    """A class whose constructor, or a verb that, refuses numbers out of their ranges, all in one sentence.

    Ranges are the annotations of the arguments, such as :data:`Width`.
    """
    call: Any = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
    signature = inspect.signature(call)

    @functools.wraps(call)
    def call_checked(*args: Any, **options: Any) -> Any:
        prefix = f"{type(args[0]).__name__}." if isinstance(thing, type) else "--"
        refuse(out_of_range(hints_of(call), signature.bind(*args, **options).arguments, prefix))
        return call(*args, **options)

    if not isinstance(thing, type):
        return call_checked  # type: ignore[return-value]
    thing.__init__ = call_checked  # type: ignore[misc]
    return thing


@functools.cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function or of a class's constructor, with ranges."""
    function = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:  # names that are imported for type checkers alone
        return {}


def out_of_range(hints: Mapping[str, Any], values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """What is said of each value that is out of its range.

    Args:
        hints: Annotations by name.
        values: By name.
        prefix: Of the names, as a user knows them.
    """
    for name, value in values.items():
        yield from value_out_of_range(hints.get(name), value, prefix + name)


def value_out_of_range(hint: Any, value: Any, key: str) -> Iterator[str]:
    """What is said of one value, or of each of those in a list, where it is out of the range of its annotation."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        ranges = list(_ranges(hint))
        if ranges and not any(value in one for one in ranges):
            yield f"{key} {value} must be {' or '.join(map(str, ranges))}"
    elif isinstance(value, list | tuple):
        for place, element in enumerate(value):
            yield from value_out_of_range(_element(hint, place), element, key)


def refuse(mistakes: Iterator[str]) -> None:
    """Raise UsageError where there are any."""
    listed = list(mistakes)
    if listed:
        left = f"; {len(listed) - 10} more" if len(listed) > 10 else ""
        raise UsageError("; ".join(listed[:10]) + left)


def _ranges(hint: Any) -> Iterator[Range]:
    """Of a number; of its alternatives all."""
    if get_origin(hint) is Annotated:
        yield from (mark for mark in hint.__metadata__ if isinstance(mark, Range))
    elif get_origin(hint) not in (tuple, list):
        for part in get_args(hint):
            yield from _ranges(part)


def _element(hint: Any, place: int) -> Any:
    """Annotation of an element of a tuple or list."""
    if get_origin(hint) in (tuple, list):
        parts = get_args(hint)
        return parts[min(place, 0 if parts[-1] is ... else len(parts) - 1)]
    inner = (_element(part, place) for part in get_args(hint))
    return next((part for part in inner if part is not None), None)


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) and abs(value) < 10**15 else f"{value:g}"
