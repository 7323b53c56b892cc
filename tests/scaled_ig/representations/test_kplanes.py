"""K-Planes against the paper's product, in loops."""

import numpy as np
import pytest
import torch

from scaled_ig.representations import KPlanes
from tests.scaled_ig.representations.slow import lerp, row_of


def test_features_are_products_over_planes_of_each_scale():
    """Equations 1 and 2: two scales, of 3 and 6 texels, with 2 features."""
    representation = KPlanes(channels=2, resolution=3, scales=(1, 2), extent=0.5)
    where, features, row = row_of(representation)
    first, second = row[:54].reshape(3, 2, 3, 3), row[54:].reshape(3, 2, 6, 6)  # plane, channel, texels
    for x, feature in zip(where / 0.5, features, strict=True):
        expected = []
        for planes, side in ((first, 3), (second, 6)):
            u = [(each + 1) / 2 * (side - 1) for each in x]
            for channel in range(2):
                product = 1.0
                for plane, (column, line) in enumerate(((0, 1), (0, 2), (1, 2))):
                    product *= lerp(planes[plane, channel], [u[line], u[column]])
                expected.append(product)
        np.testing.assert_allclose(feature, expected, rtol=1e-6, atol=1e-9)


@torch.no_grad()
def test_planes_start_away_from_zero_and_end_with_the_cube():
    representation = KPlanes(channels=4, resolution=8, scales=(1, 2), extent=0.5)
    representation.new_scenes(3)
    assert float(representation.micro.weight.mean()) == pytest.approx(0.3, abs=0.01)
    assert float(representation.micro.weight.std()) == pytest.approx(0.115, rel=0.05)
    outside = torch.tensor([[[0.8, 0, 0], [0, -0.8, 0], [0.1, 0.1, 0.8]]])
    assert not representation(torch.tensor([0]), outside).any()
