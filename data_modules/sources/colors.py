"""Display colours of files that count to 1, to 255 or to 65535, with and without alpha."""

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import srgb_to_linear


def to_unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values in [0, 1] of a file that counts to 1, to 255 or to 65535, whichever its largest value needs.

    Fractions up to 2 are of those that count to 1, and brighter than white.
    """
    largest = values.max(initial=0.0)
    if largest > 255:
        return np.clip(values / 65535, 0.0, 1.0)
    if largest > 2 or (largest > 1 and (values == np.round(values)).all()):
        return np.clip(values / 255, 0.0, 1.0)
    return np.clip(values, 0.0, 1.0)


def linear_colors(display: NDArray[np.float64]) -> NDArray[np.float32]:
    """Display RGB in [0, 1], [n, 3], or with alpha, [n, 4], as linear RGB; alpha is left where it hides and shows some.

    An alpha of 1 throughout says nothing, and one of 0 throughout is what programs write that have none.
    """
    linear = srgb_to_linear(display).astype(np.float32)
    alpha = display[:, 3:]
    if not alpha.any() or (alpha >= 1).all():
        return linear[:, :3]
    linear[:, 3:] = alpha
    return linear
