"""One scene of a bank, in the hands of a user.

Letters: B views, C channels of latents, H rows and W columns of an image; P points; K texels along a plane, F features.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from scaled_ig.bank.table import BankRecord
from scaled_ig.batch import to_unit_range
from scaled_ig.cameras import Cameras
from scaled_ig.errors import UsageError
from scaled_ig.rendering.field_head import FieldHead, SceneHeads
from scaled_ig.rendering.normals import normals_of
from scaled_ig.rendering.renderer import Rendering
from scaled_ig.representations import PlaneRepresentation
from scaled_ig.scene_model import SceneModel, to_image

Resolution = int | tuple[int, int] | None
Names = list[str] | tuple[str, ...]
OUTPUTS = ("image", "depth", "opacity", "normals")
SEEN = 1e-3
"""Opacity from which on a pixel has a depth and a normal, as in :func:`scaled_ig.rendering.compositing.composite`."""
PIXELS_AT_ONCE = 2**18
POINTS_AT_ONCE = 2**20


@dataclass(frozen=True)
class BankScene:
    """One scene of a bank, ready to be rendered, from any number of threads.

    Args:
        record: What the bank knows of it: ``id``, ``version``, ``bytes``, ``sha256``, ``source_sha256``.
        model: Holds this scene alone, and shares with the other scenes of its version what they share.
    """

    record: BankRecord
    model: SceneModel

    def __repr__(self) -> str:
        parts = (f"{name} {' × '.join(map(str, row.shape))}" for name, row in self.rows.items())
        return f"BankScene({self.record.id!r}, {self.record.version}: {', '.join(parts)})"

    @property
    def id(self) -> str:
        """Its name."""
        return self.record.id

    @property
    def category(self) -> str:
        """What it is of, such as ``car``; empty where the bank does not know."""
        return self.record.category

    @property
    def licence(self) -> str:
        """Under which it may be used; empty where the bank does not know."""
        return self.record.licence

    @property
    def rows(self) -> dict[str, Tensor]:
        """Its own parameters by name, float32, and the bits of its visual hull, uint8, where it has one."""
        return {name: table.weight[0] for name, table in self.model.representation.scene_tables().items()}

    def with_rows(self, rows: dict[str, Tensor]) -> BankScene:
        """This scene with some of its own parameters changed, such as a blend of two scenes.

        Args:
            rows: The new ones, by the names and with the shapes that :attr:`rows` has.

        Raises:
            UsageError: They have another name or shape.
        """
        shapes = {name: tuple(row.shape) for name, row in self.rows.items()}
        for name, row in rows.items():
            if tuple(row.shape) != shapes.get(name):
                raise UsageError(f"scene {self.id!r} has no row {name!r} of {list(row.shape)}: its rows are {shapes}")
        model = self.model.of_rows({name: row[None] for name, row in (self.rows | rows).items()})
        return replace(self, model=model)

    @property
    def head(self) -> FieldHead:
        """The tiny MLP that reads it, a copy."""
        rows = self.rows.get("head")
        head = self.model.renderer.head
        return copy.deepcopy(head if rows is None else SceneHeads(head, rows[None]).split()[0])

    @torch.no_grad()
    def planes(self, fused: bool = True) -> Tensor:
        """Its feature planes [3, F, K, K].

        Args:
            fused: What is rendered: its own planes, then the mixture of base planes. Otherwise its own alone.

        Raises:
            UsageError: It has none.
        """
        return planes_of(self.model, self.record.version, fused)[0]

    @overload
    def render(self, cameras: Cameras, resolution: Resolution = None, outputs: str = "image") -> Tensor: ...

    @overload
    def render(self, cameras: Cameras, resolution: Resolution = None, *, outputs: Names) -> dict[str, Tensor]: ...

    @torch.no_grad()
    def render(
        self, cameras: Cameras, resolution: Resolution = None, outputs: str | Names = "image"
    ) -> Tensor | dict[str, Tensor]:
        """What any cameras see. Safe from any number of threads.

        Args:
            cameras: B cameras.
            resolution: Pixels along each side, or rows and columns, multiples of the autoencoder's factor; those that
                the scene was trained at where it is None.
            outputs: One name, for a tensor, or several, for a dictionary: ``image`` [B, 3, H, W] in [0, 1]; ``opacity``
                [B, 1, H, W] in [0, 1]; ``depth`` [B, 1, H, W], mean distance along the ray to what it hits, world
                units, 0 where nothing is; ``normals`` [B, 3, H, W], unit vectors out of the surface in world axes, 0
                where nothing is.

        Raises:
            UsageError: There is no such output, or no such resolution.
        """
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        for name in names:
            if name not in OUTPUTS:
                near = difflib.get_close_matches(str(name), OUTPUTS, n=1) or OUTPUTS
                raise UsageError(f"outputs {name!r} is not rendered: did you mean {' or '.join(near)}?")
        model = self.model if resolution is None else self.model.at(resolution)
        cameras = cameras.to(model.background)
        views = max(1, PIXELS_AT_ONCE // (model.image_size[0] * model.image_size[1]))
        starts = range(0, max(1, len(cameras)), views)
        parts = [_render(model, cameras[start : start + views], names) for start in starts]
        whole = {name: torch.cat([part[name] for part in parts]) for name in names}
        return whole[outputs] if isinstance(outputs, str) else whole

    @torch.no_grad()
    def render_latent(self, cameras: Cameras) -> Rendering:
        """Latent pixels, opacity and depth, before decoding."""
        return self.model.render(cameras, _only_scene(cameras))

    @torch.no_grad()
    def densities(self, points: Tensor) -> Tensor:
        """Densities [P] per world unit at points [P, 3]; 0 outside its visual hull, where it has one."""
        model, points = self.model, points.to(self.model.background)
        first = torch.zeros(1, dtype=torch.long, device=points.device)
        parts = points.split(POINTS_AT_ONCE)
        return torch.cat([model.renderer.densities(model.representation, first, part[None])[0] for part in parts])


def planes_of(model: SceneModel, version: str, fused: bool) -> Tensor:
    """Planes [S, 3, F, K, K] of the scenes that a model holds.

    Raises:
        UsageError: Scenes of the version have none.
    """
    representation = model.representation
    require_planes(model, version, fused)
    if not fused:
        return representation.scene_tables()["micro"].weight.movedim(-1, 2)
    assert isinstance(representation, PlaneRepresentation)
    return representation.planes(torch.arange(representation.num_scenes)).movedim(-1, 2)


def require_planes(model: SceneModel, version: str, fused: bool = True) -> None:
    """Raise UsageError where scenes of a version have no planes, or none of their own."""
    kind = type(model.representation).__name__
    if not isinstance(model.representation, PlaneRepresentation):
        raise UsageError(
            f"scenes of version {version!r} are {kind}, which have no planes: bank[id].rows has what is there"
        )
    if not fused and "micro" not in model.representation.scene_tables():
        raise UsageError(
            f"scenes of version {version!r} have no planes of their own: ask for fused ones, or for mixing"
        )


def _only_scene(cameras: Cameras) -> Tensor:
    return torch.zeros(len(cameras), dtype=torch.long, device=cameras.intrinsics.device)


def _render(model: SceneModel, cameras: Cameras, names: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of a model that holds one scene."""
    scene, size, outputs = _only_scene(cameras), model.image_size, {}
    rendering = model.render_pixels(cameras, scene) if {*names} - {"image"} else None
    if "image" in names:
        if rendering is not None and model.is_rgb:
            outputs["image"] = model.decode(to_image(rendering.pixels, size))
        else:
            outputs["image"] = model.render_image(cameras, scene)
        outputs["image"] = to_unit_range(outputs["image"])
    if rendering is not None:
        is_seen = rendering.accumulation > SEEN
        outputs["opacity"] = rendering.accumulation.unflatten(1, size)[:, None]
        outputs["depth"] = torch.where(is_seen, rendering.depth, 0).unflatten(1, size)[:, None]
        if "normals" in names:
            rays = cameras.rays(size)
            points = rays.origins + rendering.depth[..., None] * rays.directions
            maps = (to_image(values, size) for values in (points, rays.directions, is_seen[..., None]))
            outputs["normals"] = normals_of(*maps)
    return {name: outputs[name] for name in names}
