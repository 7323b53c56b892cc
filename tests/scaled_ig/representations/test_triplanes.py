"""Plain tri-planes: all is the scene's own."""

import torch

from scaled_ig.representations import TriPlanes
from scaled_ig.representations.planes import sample_planes


def test_features_are_samples_of_the_scenes_own_planes():
    representation = TriPlanes(channels=3, plane_resolution=4, extent=0.5, plane_axes="xy-xz-zx")
    representation.new_scenes(5)
    where = torch.rand(2, 7, 3) - 0.5
    expected = sample_planes(representation.micro.weight[[4, 1]], 2 * where, ((0, 1), (0, 2), (2, 0)))
    torch.testing.assert_close(representation(torch.tensor([4, 1]), where), expected)
    assert representation.feature_channels == 3
    assert set(representation.scene_tables()) == {"micro"}
    assert representation.shared_parameters() == {}
