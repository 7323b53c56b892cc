"""Zero-gradient updates of dense Adam that rows have missed, as a short sum for each row (method 5).

After step t0, dense Adam moves a row at step t0 + k by −m a_k / (√v + ε d_k), with weights a_k and nodes d_k that
depend on t0 and the rates alone. Some four well-chosen nodes replace the hundreds: Gauss quadrature of a discrete
measure, for all rows at once.

Letters: R rows, T terms of a long sum, P of its short rule; m and v are Adam's moments, x the nodes, w the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NEGLIGIBLE = 1e-13  # part of the first missed update: smaller ones, after some 300 steps, no longer move a row
_LENGTHS = (4, 6, 8, 12, 16, 24)  # of rules: the first suffices late in training, its first steps need some 16


def deferred_updates(
    last: Sequence[int], now: int, rates: Sequence[float], beta1: float, beta2: float, tolerance: float = 1e-12
) -> tuple[Array, Array]:
    """Nodes x and weights w [R, P] such that row r moves by −m Σ_p w_rp / (√v + ε x_rp).

    Args:
        last: Step up to which each of R rows is brought.
        now: Step to bring them to.
        rates: Learning rates of the last steps, up to ``now``; at least as many as any row has missed.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        tolerance: Relative error of the sum.
    """
    steps, row = np.unique(np.asarray(last, dtype=np.float64), return_inverse=True)  # many rows were seen together
    t0 = steps[:, None]
    missed = (now - t0).astype(np.int64)
    decay = beta1 / beta2**0.5
    longest = int(missed.max())
    if 0 < decay < 1:
        longest = min(longest, int(np.log(_NEGLIGIBLE) / np.log(decay)) + 1)
    k = np.arange(1, longest + 1)
    place = np.minimum(len(rates) - missed + k - 1, len(rates) - 1)
    rate = np.where(k <= missed, np.asarray(rates, dtype=np.float64)[place], 0.0)
    correction = np.sqrt(1 - beta2 ** (t0 + k))
    weights = rate * correction / (1 - beta1 ** (t0 + k)) * decay**k
    x, w = gauss_rules(correction / beta2 ** (k / 2), weights, tolerance)
    return x[row], w[row]


def gauss_rules(nodes: Array, weights: Array, tolerance: float = 1e-12) -> tuple[Array, Array]:
    """Short rules for long sums: Σ_t weights_t / (r + nodes_t) ≈ Σ_p w_p / (r + x_p) for every r ≥ 0.

    r = 0 is the hardest case, hence the check that decides the length.

    Args:
        nodes: [R, T] positive.
        weights: [R, T] non-negative.
        tolerance: Relative error.

    Returns:
        x and w [R, P], P ≤ T.
    """
    total, exact = weights.sum(1), (weights / nodes).sum(1)
    share = weights / np.where(total > 0, total, 1)[:, None]
    for points in _LENGTHS:
        if points >= nodes.shape[1]:
            break
        x, w = _lanczos_rules(nodes, share, points)
        w *= total[:, None]
        if (np.abs((w / x).sum(1) - exact) <= tolerance * exact).all():
            return x, w
    return nodes, weights


def _lanczos_rules(nodes: Array, weights: Array, points: int) -> tuple[Array, Array]:
    """Gauss rules of measures of total 1, by Lanczos and the eigenvalues of the Jacobi matrices."""
    rows, scale = len(nodes), nodes.max(1)
    jacobi = np.zeros((rows, points, points))
    basis = np.sqrt(weights)[:, None]
    for p in range(points):
        image = nodes * basis[:, -1]
        jacobi[:, p, p] = (basis[:, -1] * image).sum(1)
        if p + 1 == points:
            break
        for _ in range(2):  # twice is enough to keep the basis orthogonal to rounding
            image -= ((basis @ image[:, :, None]) * basis).sum(1)
        norm = np.linalg.norm(image, axis=1)
        norm[norm < 1e-14 * scale] = 0  # fewer distinct nodes than points: the rest of the rule has no weight
        jacobi[:, p, p + 1] = jacobi[:, p + 1, p] = norm
        image *= np.where(norm > 0, 1 / np.where(norm > 0, norm, 1), 0)[:, None]
        basis = np.concatenate([basis, image[:, None]], 1)
    values, vectors = np.linalg.eigh(jacobi)
    w = vectors[:, 0] ** 2
    return np.where(values > 0, values, scale[:, None]), np.where(values > 0, w, 0)
