"""What base planes learn: in how many directions they lie, and how much scenes make of each.

Letters: N scenes, M bases, D numbers of a row, R singular values.
"""

from __future__ import annotations

import torch
from torch import Tensor


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values of a matrix, descending, float64.

    Args:
        matrix: [N, D]; the work grows with the square of the smaller side.

    Returns:
        [min(N, D)].
    """
    rows = (matrix if len(matrix) <= matrix.shape[1] else matrix.T).double()
    return torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0).sqrt().flip(0)


def effective_rank(values: Tensor) -> float:
    """In how many directions a matrix lies: exp of the entropy of its singular values' shares (Roy and Vetterli 2007).

    Args:
        values: [R] singular values.

    Returns:
        From 1, all rows are multiples of one, to R, all directions are equally strong; 0 for a matrix of zeros.
    """
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


def shares_of_bases(mixing: Tensor, bases: Tensor) -> Tensor:
    """Use that scenes make of each base: mean |w_k| · ‖B_k‖, as a part of the sum over bases.

    Args:
        mixing: [N, M] coefficients of N scenes.
        bases: [M, ...] base planes.

    Returns:
        [M].
    """
    use = mixing.abs().mean(0) * bases.flatten(1).norm(dim=1)
    return use / use.sum().clamp(min=1e-30)
