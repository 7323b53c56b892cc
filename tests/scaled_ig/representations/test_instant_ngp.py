"""The hash encoding against the paper's equations, in loops; the grid that tells what is empty."""

from itertools import product

import numpy as np
import pytest
import torch

from scaled_ig.randomness import CounterNoise
from scaled_ig.representations import InstantNgp
from tests.scaled_ig.representations.slow import row_of

SMALL = {"levels": 4, "log2_table_size": 7, "channels": 2, "coarsest": 2, "finest": 16, "extent": 0.5}


def test_features_are_trilinear_in_tables_that_share_entries_by_a_hash():
    """Equations 2 to 4: levels of 2, 4, 8 and 16 cells; the first two, of 27 and 125 vertices, have all of them."""
    representation = InstantNgp(**SMALL, density_resolution=2)
    assert (representation.cells, representation.sizes) == ([2, 4, 8, 16], [27, 125, 128, 128])
    where, features, row = row_of(representation)
    tables = np.split(row, np.cumsum(representation.sizes)[:-1])
    for x, feature in zip(where, features, strict=True):
        expected = []
        for table, cells in zip(tables, (2, 4, 8, 16), strict=True):
            scaled = [(each / 0.5 + 1) / 2 * cells for each in x]
            value = np.zeros(2)
            for corner in product((0, 1), repeat=3):
                vertex, weight = [], 1.0
                for each, high in zip(scaled, corner, strict=True):
                    low = min(int(np.floor(each)), cells - 1)
                    vertex.append(low + high)
                    weight *= each - low if high else 1 - (each - low)
                if (cells + 1) ** 3 <= 128:
                    entry = vertex[0] + (cells + 1) * (vertex[1] + (cells + 1) * vertex[2])
                else:
                    entry = (vertex[0] ^ vertex[1] * 2654435761 ^ vertex[2] * 805459861) % 128
                value += weight * table[entry]
            expected.extend(value)
        np.testing.assert_allclose(feature, expected, rtol=1e-6, atol=1e-9)


def test_a_scene_has_the_papers_bytes():
    sizes = InstantNgp().sizes
    assert len(sizes) == 16
    assert sizes[0] == 17**3
    assert sizes[-1] == 2**19
    assert 4 * 2 * sum(sizes) / 2**20 == pytest.approx(46.5, abs=0.1)


def ball(scene_index: torch.Tensor):
    """Raw densities: scene 0 has a ball of radius 0.25, others nothing."""

    def densities(positions):
        full = (positions.norm(dim=-1) < 0.25) & (scene_index == 0)[:, None]
        return torch.where(full, 40.0, -10.0)

    return densities


@torch.no_grad()
def test_what_is_empty_is_found():
    representation = InstantNgp(**SMALL, density_resolution=16)
    representation.new_scenes(3)
    everything, scenes, where = torch.arange(3), torch.tensor([0, 2]), (torch.rand(3, 4000, 3) - 0.5) * 0.999
    assert representation.occupied(everything, where).all(), "nothing is empty before training"
    for step in range(250):
        representation.refresh(scenes, ball(scenes), CounterNoise(0, 3, step))
    occupied, radius = representation.occupied(everything, where), where.norm(dim=-1)
    diagonal = 3**0.5 / 16
    assert occupied[0][radius[0] < 0.25 + 1 / 32].all(), "nor is what lies half a cell beside the ball"
    assert not occupied[0][radius[0] > 0.25 + 2 * diagonal].any()
    assert occupied[1].all(), "not looked into"
    assert not representation.occupied(everything, where + 1).any(), "nothing is outside the cube"
    before = representation.density_grid.weight[0].max()
    for step in range(250, 500):
        representation.refresh(scenes, ball(scenes + 1), CounterNoise(0, 3, step))
    assert representation.density_grid.weight[0].max() < 0.95 * before, "what is no longer there is forgotten"


@torch.no_grad()
def test_a_scenes_grid_depends_on_no_other():
    both, alone = InstantNgp(**SMALL, density_resolution=8), InstantNgp(**SMALL, density_resolution=8)
    for representation, scenes in ((both, torch.tensor([0, 2])), (alone, torch.tensor([2]))):
        representation.new_scenes(3)
        for step in range(20):
            representation.refresh(scenes, ball(2 - scenes), CounterNoise(0, 3, step))
    assert torch.equal(both.density_grid.weight[2], alone.density_grid.weight[2])
    assert torch.equal(alone.density_grid.weight[0], alone.density_grid.weight[1])
