"""Micro-Macro tri-planes: a scene's own planes beside a mixture of base planes that all scenes share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from scaled_ig.errors import UsageError
from scaled_ig.ranges import Channels, Deviation, Distance, Seed, Width, checked
from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.representations.mixture import mix
from scaled_ig.representations.scene_table import SceneTable


@checked
class MicroMacro(PlaneRepresentation):
    """T_i = T_i^mic ⊕ Σ_k w_i^k B_k, concatenated on features, micro first (method 2).

    Args:
        micro_channels: F_mic; 0 leaves the micro planes out (the papers' Ours-Macro).
        macro_channels: F_mac; 0 leaves bases and mixing out (Ours-Micro).
        num_bases: M.
        plane_resolution: K.
        extent: Planes cover [-extent, extent]³, world units.
        plane_axes: See :class:`PlaneRepresentation`.
        plane_std: Standard deviation that planes start with.
        mixing_std: Standard deviation that mixing coefficients start with.
        seed: Seed of the base planes.
    """

    def __init__(
        self,
        micro_channels: Channels = 10,
        macro_channels: Channels = 22,
        num_bases: Width = 50,
        plane_resolution: Width = 64,
        extent: Distance = 1.0,
        plane_axes: Literal["xy-xz-yz", "xy-xz-zx"] = "xy-xz-yz",
        plane_std: Deviation = 1.0,
        mixing_std: Deviation = 1.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__(plane_resolution, extent, plane_axes)
        if micro_channels + macro_channels == 0:
            raise UsageError("MicroMacro.micro_channels and macro_channels are both 0: a scene needs features")
        self.micro_channels, self.macro_channels, self.num_bases = micro_channels, macro_channels, num_bases
        self.plane_std, self.mixing_std, self.seed = plane_std, mixing_std, seed
        k = plane_resolution
        self.micro = SceneTable((3, k, k, micro_channels), plane_std) if micro_channels else None
        self.mixing = SceneTable((num_bases,), mixing_std) if macro_channels else None
        if macro_channels:
            generator = torch.Generator().manual_seed(seed)
            self.bases = nn.Parameter(plane_std * torch.randn(num_bases, 3, k, k, macro_channels, generator=generator))

    @property
    def feature_channels(self) -> int:
        return self.micro_channels + self.macro_channels

    def planes(self, scene_index: Tensor) -> Tensor:
        if self.mixing is None:
            assert self.micro is not None
            return self.micro(scene_index)
        shape = (len(scene_index), *self.bases.shape[1:-1], 0)
        micro = self.bases.new_empty(shape) if self.micro is None else self.micro(scene_index)
        masks = self.texel_masks()
        texels = None if masks is None else masks[self.mixing.row_of(scene_index)]
        return mix(micro, self.mixing(scene_index), self.bases, texels)

    @torch.no_grad()
    def rows_of_planes(self, planes: Tensor, start: dict[str, Tensor], texels: Tensor) -> dict[str, Tensor]:
        micro, macro = planes.split([self.micro_channels, self.macro_channels], -1)
        rows = {} if self.micro is None else {"micro": micro}
        if self.mixing is not None:  # least squares over the texels that are read
            bases = self.bases[:, texels].flatten(1).double()
            squares = bases @ bases.T
            rest = macro[texels].flatten().double() - start["mixing"].double() @ bases
            least = 1e-6 * squares.diagonal().mean() + 1e-12  # of bases that are alike
            step = torch.linalg.solve(squares + least * torch.eye(len(bases)).to(squares), bases @ rest)
            rows["mixing"] = (start["mixing"] + step).float()
        return rows

    def own_tables(self) -> dict[str, SceneTable]:
        tables = {"micro": self.micro, "mixing": self.mixing}
        return {name: table for name, table in tables.items() if table is not None}

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {"bases": self.bases} if self.macro_channels else {}
