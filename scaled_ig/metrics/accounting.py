"""What N scenes cost, once and each: the papers' equations 10 to 13 as functions (method 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEGABYTE, MEBIBYTE = 10**6, 2**20


@dataclass(frozen=True)
class Growth:
    """A cost of N scenes, N ≥ N1: once + (N − N1)·each. Seconds, minutes or bytes alike.

    Args:
        once: What is spent whatever N: t1 or m1, the first N1 scenes included.
        each: What a further scene adds: τ or μ.
        first: N1; 0 where scenes are learned independently.
    """

    once: float
    each: float
    first: int = 0

    def at(self, scenes: int) -> float:
        """The cost of N scenes (equations 10 to 13).

        Raises:
            ValueError: There are fewer than N1.
        """
        if scenes < self.first:
            raise ValueError(f"the cost of {scenes} scenes is not known: the first {self.first} are learned together")
        return self.once + (scenes - self.first) * self.each

    def effective(self, scenes: int) -> float:
        """The cost of one of N2 further scenes when what is spent once is shared out over them: once/N2 + each."""
        return self.once / scenes + self.each

    def worth(self, other: Growth) -> float:
        """How many scenes the other way learns for what is spent here once."""
        return self.once / other.each

    def is_parallel(self, other: Growth, tolerance: float) -> bool:
        """Whether a further scene adds as much in both, but for this share of it."""
        return abs(self.each - other.each) < tolerance * other.each

    def break_even(self, other: Growth) -> int | None:
        """Fewest scenes from which on this costs no more than the other; None where no number is enough.

        It is not below the N1 of either: where it equals it, this is cheaper from N1 on.
        """
        first = max(self.first, other.first)
        excess, gain = self.at(first) - other.at(first), other.each - self.each
        if excess <= 0:
            return first if gain >= 0 else None
        return first + math.ceil(excess / gain) if gain > 0 else None
