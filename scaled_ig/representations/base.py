"""The one abstraction: what a set of scenes is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from scaled_ig.representations.planes import sample_planes
from scaled_ig.representations.scene_table import SceneTable


class SceneRepresentation(nn.Module, ABC):
    """Features at points of scenes, from parameters in two roles: a scene's own, and those that all scenes share.

    The roles give optimiser groups, cost tables, hand-over between stages and sharding over ranks with no further code.
    """

    @property
    @abstractmethod
    def feature_channels(self) -> int:
        """Channels of a feature vector, F."""

    @abstractmethod
    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        """Features at points.

        Args:
            scene_index: [B] long.
            positions: [B, P, 3], world units.

        Returns:
            [B, P, F].
        """

    @abstractmethod
    def scene_tables(self) -> dict[str, SceneTable]:
        """The scenes' own parameters by name; the name is that of their learning rate."""

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that all scenes share, by name."""
        return {}

    @property
    def num_scenes(self) -> int:
        """Scenes over all ranks."""
        return next(iter(self.scene_tables().values())).num_scenes

    def new_scenes(self, num_scenes: int, seed: int = 0, start: dict[str, Tensor] | None = None) -> None:
        """Replace the scenes; shared parameters stay.

        Args:
            num_scenes: How many, over all ranks.
            seed: Seed of their noise.
            start: Row of each table that all scenes start from (method 6), instead of noise.
        """
        for number, (name, table) in enumerate(self.scene_tables().items()):
            table.new_scenes(num_scenes, seed * 31 + number, start[name] if start else None)

    def mean_scene(self) -> dict[str, Tensor]:
        """Mean row of each table over all scenes. Collective."""
        return {name: table.mean() for name, table in self.scene_tables().items()}

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the scenes that ``rank`` owns."""
        for table in self.scene_tables().values():
            table.shard(rank, world_size)


class PlaneRepresentation(SceneRepresentation):
    """A representation by three feature planes a scene, which renderers may read with a faster kernel.

    Args:
        plane_resolution: Texels along each side of a plane, K.
        extent: Planes cover the cube [-extent, extent]³, world units.
        plane_axes: ``xy-xz-yz``; or ``xy-xz-zx``, the authors' known defect, for comparison only (method 3).
    """

    AXES = {"xy-xz-yz": ((0, 1), (0, 2), (1, 2)), "xy-xz-zx": ((0, 1), (0, 2), (2, 0))}  # noqa: RUF012

    def __init__(self, plane_resolution: int, extent: float, plane_axes: str) -> None:
        super().__init__()
        self.plane_resolution, self.extent, self.plane_axes = plane_resolution, extent, plane_axes
        self.axes = self.AXES[plane_axes]

    @abstractmethod
    def planes(self, scene_index: Tensor) -> Tensor:
        """Planes [S, 3, K, K, F], channels last, of scenes [S] long. Rows are the second axis of each pair."""

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        return sample_planes(self.planes(scene_index), positions / self.extent, self.axes)
