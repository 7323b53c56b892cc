"""The plain loop reads each ray's own planes."""

import torch

from scaled_ig.rendering.kernels.reference import sample_scenes
from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.representations.planes import sample_planes


def test_rays_read_the_planes_of_their_slot():
    axes = PlaneRepresentation.AXES["xy-xz-yz"]
    planes = torch.randn(4, 3, 5, 5, 2, generator=torch.Generator().manual_seed(0))
    slot = torch.tensor([0, 0, 2, 3, 3, 3])
    positions = torch.rand(6, 7, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = torch.cat(
        [sample_planes(planes[[s]], p[None], axes) for s, p in zip(slot.tolist(), positions, strict=True)]
    )
    torch.testing.assert_close(sample_scenes(planes, slot, positions, axes), expected)
