"""Reading feature planes.

Letters: B scenes, P points of each, K texels along a plane, F features.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

PlaneAxes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def sample_planes(planes: Tensor, positions: Tensor, axes: PlaneAxes) -> Tensor:
    """Sum of the bilinear samples of three planes; zero outside, texel centres at (i + ½) / K (method 3).

    Args:
        planes: [B, 3, K, K, F], channels last.
        positions: [B, P, 3]; planes cover [-1, 1]³.
        axes: For each plane the coordinates along its columns and rows.

    Returns:
        [B, P, F].
    """
    features = None
    for number, (column, row) in enumerate(axes):
        grid = positions[:, None, :, [column, row]]
        plane = planes[:, number].permute(0, 3, 1, 2)
        sample = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        features = sample if features is None else features + sample
    assert features is not None
    return features[:, :, 0].transpose(1, 2)
