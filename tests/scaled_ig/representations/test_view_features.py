"""What views tell about texels, against closed forms of a ball whose colour is its place."""

import pytest
import torch
from torch.nn import functional as F

from scaled_ig.cameras import look_at_origin
from scaled_ig.representations.occupancy import HULL_RADIUS, HULL_RESOLUTION
from scaled_ig.representations.triplanes import TriPlanes
from scaled_ig.representations.view_features import COLUMN, FEATURES, view_features

RADIUS, SIZE = 0.3, 96
AXES = TriPlanes.AXES["xy-xz-yz"]
OF_ITSELF = slice(4 * COLUMN, 5 * COLUMN)  # the texel's own column, among the nine around it


@pytest.fixture(scope="module")
def views():
    """Images of a ball, whose red, green and blue are 2x, 2y and 2z, from all sides; the cameras."""
    directions = F.normalize(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    cameras = look_at_origin(1.3 * directions)
    rays = cameras.rays(SIZE)
    near, far = rays.ball_limits(RADIUS)
    points = rays.origins + near[..., None] * rays.directions
    seen = torch.where((far > near)[..., None], 2 * points, 1.0)
    return seen.transpose(1, 2).unflatten(2, (SIZE, SIZE)), cameras


def ball_cells() -> torch.Tensor:
    place = (torch.arange(HULL_RESOLUTION) + 0.5) / HULL_RESOLUTION - HULL_RADIUS
    return torch.stack(torch.meshgrid(place, place, place, indexing="ij"), -1).norm(dim=-1) < RADIUS


@pytest.mark.parametrize(("resolution", "extent"), [(64, 0.5), (32, 0.5), (48, 1.0)])
def test_a_column_through_a_ball(views, resolution, extent):
    features = view_features(ball_cells(), *views, resolution, extent, AXES)
    assert features.shape == (3, resolution, resolution, FEATURES)
    assert torch.equal((features * 4096).round(), features * 4096)
    place = ((2 * torch.arange(resolution) + 1) / resolution - 1) * extent
    across, down = torch.meshgrid(place, place, indexing="xy")  # columns, rows
    square = RADIUS**2 - across**2 - down**2
    depth = square.clamp(min=0).sqrt()
    inside, outside = depth > 0.15, square < -0.05
    for plane, (column, row) in enumerate(AXES):
        assert (features[plane, outside] == 0).all()
        part = features[plane, ..., OF_ITSELF][inside].float()
        expected = {0: torch.ones_like(depth), 1: 2 * depth, 2: -2 * depth, 3: 2 * depth, 4: torch.ones_like(depth)}
        for kind, values in expected.items():
            torch.testing.assert_close(part[:, kind], values[inside], atol=0.05, rtol=0)
        mean, low, high, spread = part[:, 5:].split([3, 3, 3, 1], -1)
        for colours, end in ((mean, 0), (low, -1), (high, 1)):  # the ball hides its far side from every view
            for axis, values in ((column, across), (row, down), (3 - column - row, end * depth)):
                difference = (colours[:, axis] - 2 * values[inside]).abs()
                assert difference.mean() < 0.05  # of colours in [-0.6, 0.6], painted on cells of 0.03
        assert spread.mean() < 0.1


def test_neighbours_are_columns_around(views):
    features = view_features(ball_cells(), *views, 80, 0.5, AXES).unflatten(-1, (3, 3, COLUMN))
    assert torch.equal(features[:, 2:, :, 0, 1], features[:, :-2, :, 1, 1])
    assert torch.equal(features[:, :, :-2, 1, 2], features[:, :, 2:, 1, 1])


def test_views_that_disagree_spread(views):
    images, cameras = views
    noise = torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = view_features(ball_cells(), noise.expand_as(images), cameras, 32, 0.5, AXES)[..., OF_ITSELF]
    assert (features[:, 14:18, 14:18, -1] - 12**-0.5 * 2).abs().mean() < 0.15  # of a uniform draw from [-1, 1]


def test_what_no_view_shows_has_no_paint(views):
    images, cameras = views
    below = cameras.camera_to_world[:, 2, 3] < 0
    features = view_features(ball_cells(), images[~below], cameras[~below], 64, 0.5, AXES)[0, ..., OF_ITSELF]
    low, high = features[30:34, 30:34, 8:11], features[30:34, 30:34, 11:14]
    torch.testing.assert_close(low, high)  # the lowest paint in the middle is that of the top
    assert (high[..., 2] > 0.5).all()
