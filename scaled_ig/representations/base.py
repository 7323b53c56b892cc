"""The one abstraction: what a set of scenes is.

Letters: B views, S scenes, P points of each, F features, K texels along a plane.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from scaled_ig.randomness import CounterNoise
from scaled_ig.representations.occupancy import Hulls
from scaled_ig.representations.planes import sample_planes
from scaled_ig.representations.scene_table import HullTable, SceneTable, twin


class SceneRepresentation(nn.Module, ABC):
    """Features at points of scenes, from parameters in two roles: a scene's own, and those that all scenes share.

    The roles give optimiser groups, cost tables, hand-over between stages and sharding over ranks with no further code.
    ``head`` has the weights of a field head for each scene, one flat row, where scenes share none; ``hull`` the visual
    hulls, where scenes are sampled within them.
    """

    head: SceneTable | None
    hull: HullTable | None

    def __init__(self) -> None:
        super().__init__()
        self.head = self.hull = None
        self._texel_masks: tuple[Tensor, int, torch.device, Tensor | None] | None = None

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
    def own_tables(self) -> dict[str, SceneTable]:
        """The scenes' own parameters that features are made of, by attribute; a table without a rate is not trained."""

    def scene_tables(self) -> dict[str, SceneTable]:
        """All of the scenes' own parameters by name, which is that of their learning rate."""
        other_tables = {"head": self.head, "hull": self.hull}
        return self.own_tables() | {name: table for name, table in other_tables.items() if table is not None}

    def hulls(self, scene_index: Tensor) -> Hulls | None:
        """Visual hulls of scenes [S] long; None where scenes have none."""
        return None if self.hull is None else Hulls(self.hull(scene_index))

    def texels(self, hulls: Hulls) -> Tensor | None:
        """Texels [S, 3, K, K] bool of planes that a sample within hulls reads; None where scenes have no planes."""
        return None

    def texel_masks(self) -> Tensor | None:
        """:meth:`texels` of all scenes held here, found once for each state of their hulls; None: all texels are read.

        Returns:
            [owned, 3, K, K] bool.
        """
        if self.hull is None:
            return None
        hulls = self.hull.weight
        state = hulls, hulls._version, hulls.device
        known = self._texel_masks
        if known is None or known[0] is not hulls or known[1:3] != state[1:]:
            self._texel_masks = known = *state, self.texels(Hulls(hulls.detach()))
        return known[3]

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that all scenes share, by name."""
        return {}

    def occupied(self, scene_index: Tensor, positions: Tensor) -> Tensor | None:
        """Where scenes may hold something, so that rendering reads nothing else; None where that is not known.

        Args:
            scene_index: [S] long.
            positions: [S, P, 3], world units.

        Returns:
            [S, P] bool.
        """
        return None

    def refresh(self, scene_index: Tensor, densities: Callable[[Tensor], Tensor], noise: CounterNoise) -> None:
        """Bring up to date what a scene knows of itself beside its parameters, before a training step reads it.

        Without a gradient. What must outlive the step belongs in a table, which is sharded and saved with the others.

        Args:
            scene_index: [S] long, the scenes of the step, without repetition.
            densities: Raw densities [S, P] of these scenes at positions [S, P, 3], world units.
            noise: Noise of the step, to be drawn for scenes in a stream of their own.
        """

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

    def of_rows(self, rows: dict[str, Tensor]) -> Self:
        """The same with other scenes; what scenes share is shared with this one, and nothing is copied.

        Args:
            rows: [S, *row_shape] of each table.
        """
        other = twin(self)
        other._texel_masks = None
        for name, table in self.scene_tables().items():
            setattr(other, name, table.of_rows(rows[name]))
        return other

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

    def texels(self, hulls: Hulls) -> Tensor:
        """Texels [S, 3, K, K] bool of planes that a sample within hulls reads; the others are never looked at."""
        return hulls.texels(self.plane_resolution, self.extent, self.axes)

    @abstractmethod
    def planes(self, scene_index: Tensor) -> Tensor:
        """Planes [S, 3, K, K, F], channels last, of scenes [S] long. Rows are the second axis of each pair."""

    @abstractmethod
    def rows_of_planes(self, planes: Tensor, start: dict[str, Tensor], texels: Tensor) -> dict[str, Tensor]:
        """Rows of the tables that planes are made of, whose planes come next to these; without a gradient.

        Args:
            planes: [3, K, K, F].
            start: Row of each table, to which what planes do not tell stays near.
            texels: [3, K, K] bool, those that are read.
        """

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        return sample_planes(self.planes(scene_index), positions / self.extent, self.axes)
