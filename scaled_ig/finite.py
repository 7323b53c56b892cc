"""Where tensors hold NaN or infinity: one pass over them, and no copy."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite."""
    # A sum is finite only if its terms are; where it alone is too large, every value is looked at.
    return not values.is_floating_point() or bool(values.sum().isfinite()) or bool(values.isfinite().all())


def names_not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that hold a value that is not finite."""
    return [name for name, values in tensors.items() if not is_finite(values)]


def rows_not_finite(rows: Tensor) -> list[int]:
    """Places of rows [N, ...] that hold a value that is not finite."""
    if not len(rows) or not rows.is_floating_point():
        return []
    suspects = (~rows.reshape(len(rows), -1).sum(1).isfinite()).nonzero()[:, 0].tolist()
    return [row for row in suspects if not is_finite(rows[row])]
