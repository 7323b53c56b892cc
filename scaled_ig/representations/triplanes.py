"""Plain tri-planes: every scene has its own planes and shares nothing (the papers' baseline, in RGB or in latents)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from scaled_ig.ranges import Deviation, Distance, Width, checked
from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.representations.scene_table import SceneTable


@checked
class TriPlanes(PlaneRepresentation):
    """Three planes of F features a scene.

    Args:
        channels: F.
        plane_resolution: K.
        extent: Planes cover [-extent, extent]³, world units.
        plane_axes: See :class:`PlaneRepresentation`.
        plane_std: Standard deviation that planes start with.
    """

    def __init__(
        self,
        channels: Width = 32,
        plane_resolution: Width = 64,
        extent: Distance = 1.0,
        plane_axes: Literal["xy-xz-yz", "xy-xz-zx"] = "xy-xz-yz",
        plane_std: Deviation = 1.0,
    ) -> None:
        super().__init__(plane_resolution, extent, plane_axes)
        self.channels, self.plane_std = channels, plane_std
        self.micro = SceneTable((3, plane_resolution, plane_resolution, channels), plane_std)

    @property
    def feature_channels(self) -> int:
        return self.micro.row_shape[-1]

    def planes(self, scene_index: Tensor) -> Tensor:
        return self.micro(scene_index)

    def rows_of_planes(self, planes: Tensor, start: dict[str, Tensor], texels: Tensor) -> dict[str, Tensor]:
        return {"micro": planes}

    def own_tables(self) -> dict[str, SceneTable]:
        return {"micro": self.micro}
