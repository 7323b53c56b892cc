"""Effective rank and use of bases, against closed forms."""

import math

import pytest
import torch

from scaled_ig.metrics.base_planes import effective_rank, shares_of_bases, singular_values


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (5, 5)])
def test_singular_values_are_those_of_the_decomposition(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(singular_values(matrix), torch.linalg.svdvals(matrix.double()))


def test_effective_rank_counts_directions_that_are_equally_strong():
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    assert effective_rank(singular_values(3 * rotation[:5])) == pytest.approx(5, abs=1e-5)
    copies = torch.outer(torch.tensor([1.0, -2.0, 0.5]), rotation[0])
    assert effective_rank(singular_values(copies)) == pytest.approx(1, abs=1e-5)
    three_to_one = torch.diag(torch.tensor([3.0, 1.0])) @ rotation[:2]
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(singular_values(three_to_one)) == pytest.approx(expected, abs=1e-5)
    assert effective_rank(torch.zeros(4)) == 0


def test_shares_are_of_coefficients_times_norms():
    bases = torch.zeros(3, 3, 2, 2, 1)
    bases[0, 0, 0, 0, 0], bases[1, 2], bases[2, 1, 1, 1, 0] = 5.0, 1.0, 100.0
    mixing = torch.tensor([[1.0, -3.0, 0.0], [-1.0, 5.0, 0.0]])
    assert shares_of_bases(mixing, bases).tolist() == pytest.approx([5 / 13, 8 / 13, 0.0])
