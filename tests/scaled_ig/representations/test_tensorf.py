"""Vectors and matrices against the papers' sums, in loops."""

import numpy as np
import torch

from scaled_ig.representations import TensoRF
from tests.scaled_ig.representations.slow import lerp, row_of


def test_features_are_sums_of_products_of_vectors_and_matrices():
    """R_σ 2, R_c 3, P 4, K 5."""
    representation = TensoRF(2, 3, 4, resolution=5, extent=0.5)
    where, features, row = row_of(representation)
    vectors, matrices = row[:75].reshape(3, 5, 5), row[75:450].reshape(3, 5, 5, 5)  # axis, component, texels
    basis = row[450:].reshape(4, 3, 3)  # channel, axis, component
    for x, feature in zip(where / 0.5, features, strict=True):
        texel = [(each + 1) / 2 * 4 for each in x]
        components = np.zeros((3, 5))
        for axis, (first, second) in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
            for r in range(5):
                vector = lerp(vectors[axis, r], [texel[axis]])
                matrix = lerp(matrices[axis, r], [texel[second], texel[first]])  # rows are the second of a pair
                components[axis, r] = vector * matrix
        expected = [components[:, :2].sum()]
        expected += [sum(basis[p, m, r] * components[m, 2 + r] for m in range(3) for r in range(3)) for p in range(4)]
        np.testing.assert_allclose(feature, expected, rtol=1e-6, atol=1e-9)


@torch.no_grad()
def test_nothing_is_outside_the_cube():
    representation = TensoRF(2, 3, 4, resolution=5, extent=0.5)
    representation.new_scenes(1)
    outside = torch.tensor([[[0.8, 0, 0], [0, -0.8, 0], [0.1, 0.1, 0.8]]])
    assert not representation(torch.tensor([0]), outside).any()
