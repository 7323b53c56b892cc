"""TensoRF: a scene is a sum of products of vectors and matrices.

Letters: S scenes, P points, R components (σ of the density, c of the colour), H and W texels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.ranges import Deviation, Distance, Width, checked
from scaled_ig.representations.base import SceneRepresentation
from scaled_ig.representations.scene_table import SceneTable


@checked
class TensoRF(SceneRepresentation):
    """A vector–matrix decomposition a scene (Chen et al. 2022, §3 and §4).

    A component of axis m is A_r^m(x) = v_r^m(x_m) · M_r^m(the other two), both interpolated linearly between texels of
    which the outermost lie on the faces of the cube, and zero outside. Density is a sum of components, Σ_m Σ_r A_σ,r^m:
    this sum is one feature. The appearance components of all axes, times a basis matrix, are the others. The field head
    makes a raw density and values of them, where the paper takes softplus of the sum for the density and gives the
    appearance to a perceptron: a head reads all features, so here density may lean on the appearance too.

    What differs besides: values do not depend on the direction of view, the resolution is that of the end from the
    start (the paper's grows), nothing shrinks the cube or skips what is empty, and nothing is regularised.

    Args:
        density_components: R_σ of an axis.
        appearance_components: R_c of an axis.
        appearance_channels: P, columns of the basis matrix.
        resolution: Texels along each side, K.
        extent: Vectors and matrices cover [-extent, extent]³, world units.
        component_std: Standard deviation that vectors and matrices start with.
    """

    AXES = ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))  # of a vector, and of its matrix

    def __init__(
        self,
        density_components: Width = 16,
        appearance_components: Width = 48,
        appearance_channels: Width = 27,
        resolution: Width = 300,
        extent: Distance = 1.0,
        component_std: Deviation = 0.1,
    ) -> None:
        super().__init__()
        self.density_components, self.appearance_components = density_components, appearance_components
        self.appearance_channels, self.resolution, self.extent = appearance_channels, resolution, extent
        self.component_std = component_std
        components = 3 * (density_components + appearance_components)
        self.sizes = [
            components * resolution,
            components * resolution**2,
            3 * appearance_components * appearance_channels,
        ]
        basis_std = (9 * appearance_components) ** -0.5  # that of a new nn.Linear
        stds = torch.tensor([component_std, component_std, basis_std])
        self.micro = SceneTable((sum(self.sizes),), stds.repeat_interleave(torch.tensor(self.sizes)))

    @property
    def feature_channels(self) -> int:
        return 1 + self.appearance_channels

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        vectors, matrices, basis = self.micro(scene_index).split(self.sizes, 1)
        unit, num_scenes, side = positions / self.extent, len(scene_index), self.resolution
        along = torch.stack([unit[..., axis] for axis, _ in self.AXES], 1)  # [S, 3, P]
        along = torch.stack([torch.zeros_like(along), along], -1)  # a vector is a matrix of one column
        across = torch.stack([unit[..., pair] for _, pair in self.AXES], 1)  # [S, 3, P, 2]
        components = self._interpolate(vectors.reshape(3 * num_scenes, -1, side, 1), along) * self._interpolate(
            matrices.reshape(3 * num_scenes, -1, side, side), across
        )  # [S, 3, R_σ + R_c, P]
        density = components[:, :, : self.density_components].sum((1, 2))[:, None]
        appearance = components[:, :, self.density_components :].flatten(1, 2)
        basis = basis.unflatten(1, (self.appearance_channels, -1))
        return torch.cat([density, basis @ appearance], 1).transpose(1, 2)

    @staticmethod
    def _interpolate(texels: Tensor, where: Tensor) -> Tensor:
        """[S, 3, R, P] of texels [S·3, R, H, W] at [S, 3, P, 2] (column, row) in [-1, 1]."""
        sample = F.grid_sample(texels, where.flatten(0, 1)[:, None], align_corners=True)
        return sample[:, :, 0].unflatten(0, (-1, 3))

    def own_tables(self) -> dict[str, SceneTable]:
        return {"micro": self.micro}
