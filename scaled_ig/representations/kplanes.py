"""K-Planes of static scenes: products over three planes, at several scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.errors import UsageError
from scaled_ig.ranges import Deviation, Distance, Factor, Mean, Width, checked
from scaled_ig.representations.base import SceneRepresentation
from scaled_ig.representations.scene_table import SceneTable


@checked
class KPlanes(SceneRepresentation):
    """f(x) = ∪_s Π_c ψ(P_c^s, π_c(x)), c in {xy, xz, yz} (Fridovich-Keil et al. 2023, equations 1 and 2).

    ψ is bilinear, between texels of which the outermost lie on the faces of the cube; features are zero outside. What
    differs from the paper: values do not depend on the direction of view, the field head stands in for its decoder, the
    renderer's own samples for those of its proposal networks, and there is no total variation and no distortion loss.

    Args:
        channels: Features of a scale.
        resolution: Texels along each side of a plane at scale 1.
        scales: Factors on the resolution; the features of all scales are concatenated.
        extent: Planes cover [-extent, extent]³, world units.
        plane_mean: Mean that planes start with: a product of three that are about 0 would have no gradient.
        plane_std: Standard deviation that they start with; the authors draw from U(0.1, 0.5), whose moments these are.
    """

    PAIRS = ((0, 1), (0, 2), (1, 2))

    def __init__(
        self,
        channels: Width = 32,
        resolution: Width = 128,
        scales: tuple[Factor, ...] = (1, 2, 4),
        extent: Distance = 1.0,
        plane_mean: Mean = 0.3,
        plane_std: Deviation = 0.115,
    ) -> None:
        super().__init__()
        if not scales:
            raise UsageError("KPlanes.scales is empty: give some, such as [1, 2, 4]")
        self.channels, self.resolution, self.scales, self.extent = channels, resolution, tuple(scales), extent
        self.plane_mean, self.plane_std = plane_mean, plane_std
        sides = [scale * resolution for scale in self.scales]
        self.shapes = [(3, channels, side, side) for side in sides]
        self.micro = SceneTable((sum(map(math.prod, self.shapes)),), plane_std, plane_mean)

    @property
    def feature_channels(self) -> int:
        return len(self.scales) * self.channels

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        unit = positions / self.extent
        grid = torch.stack([unit[..., pair] for pair in self.PAIRS], 1).flatten(0, 1)[:, None]  # [S·3, 1, P, 2]
        features = []
        for planes, shape in zip(self._planes(scene_index), self.shapes, strict=True):
            sample = F.grid_sample(planes.reshape(-1, *shape[1:]), grid, align_corners=True)  # [S·3, C, 1, P]
            features.append(sample[:, :, 0].unflatten(0, (-1, 3)).prod(1))
        return torch.cat(features, 1).transpose(1, 2)

    def _planes(self, scene_index: Tensor) -> tuple[Tensor, ...]:
        """Planes [S, 3·C·K·K] of each scale."""
        return self.micro(scene_index).split(list(map(math.prod, self.shapes)), 1)

    def own_tables(self) -> dict[str, SceneTable]:
        return {"micro": self.micro}
