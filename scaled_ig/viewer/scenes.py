"""Scenes as pictures: what a scene is shown as, alone, mixed with another one, or without some of its planes.

Letters: H rows and W columns of pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.bank.scene import BankScene
from scaled_ig.batch import to_unit_range
from scaled_ig.cameras import Cameras, focal_of, orbit
from scaled_ig.errors import UsageError
from scaled_ig.report.pictures import Picture, encode, to_pictures
from scaled_ig.report.views import show_depth
from scaled_ig.scene_model import SceneModel, to_image

MODES = ("image", "latent", "depth", "opacity", "normals")
PLANE_TABLES = {"micro": "micro", "macro": "mixing"}
"""Table of a Micro-Macro scene that is 0 where its planes of this kind are left out."""
THUMBNAIL = 96  # pixels of the longer side
THUMBNAILS_KEPT = 4096  # some 3 kB each
SCENES_KEPT = 8  # a megabyte or two each

_ALONE = threading.Lock()


@dataclass(frozen=True)
class Look:
    """What is to be seen of which scene.

    Args:
        scene: Its id.
        mode: One of ``MODES``.
        other: Id of a scene to mix it with; empty for none.
        share: Of the other scene, in [0, 1].
        left_out: Kinds of planes that are left out, of ``micro`` and ``macro``.
    """

    scene: str
    mode: str = "image"
    other: str = ""
    share: float = 0.0
    left_out: frozenset[str] = frozenset()


class Scenes:
    """Pictures of scenes, for any number of threads.

    Args:
        scenes: By id: a bank, or what is in memory.
    """

    def __init__(self, scenes: Mapping[str, BankScene]) -> None:
        self.use(scenes)

    def use(self, scenes: Mapping[str, BankScene]) -> None:
        """Show these scenes from now on; nothing is kept of others."""
        self._scenes = scenes
        self._rows = lru_cache(maxsize=SCENES_KEPT)(self._mixed)
        self.thumbnail = lru_cache(maxsize=THUMBNAILS_KEPT)(self._thumbnail)

    def __contains__(self, scene_id: object) -> bool:
        return scene_id in getattr(self._scenes, "ids", self._scenes)

    def __getitem__(self, scene_id: str) -> BankScene:
        return self._rows(scene_id, "", 0.0, frozenset())

    def camera_of(self, scene_id: str) -> Cameras:
        """Where a scene is first seen from: in front, from the right, with the lens of the papers."""
        focal = focal_of(self[scene_id].model.image_size)
        return orbit(1, azimuth_range_radians=(-0.9, 5.0), focal=focal)

    def draw(self, look: Look, cameras: Cameras, size: tuple[int, int]) -> Picture:
        """A picture uint8 [H, W, 3], from one camera.

        Raises:
            UsageError: The scene is damaged, or the two cannot be mixed.
        """
        scene = self._rows(look.scene, look.other, look.share, look.left_out)
        return draw(scene, look.mode, cameras, size)

    def _mixed(self, scene_id: str, other: str, share: float, left_out: frozenset[str]) -> BankScene:
        with _ALONE:
            scene = self._scenes[scene_id]
            if other and share:
                scene = mix(scene, self._scenes[other], share)
        names = [PLANE_TABLES[kind] for kind in left_out]
        zeros = {name: torch.zeros_like(scene.rows[name]) for name in names if name in scene.rows}
        return replace(scene, rows=scene.rows | zeros)

    def _thumbnail(self, scene_id: str) -> bytes:
        """JPEG of a scene."""
        height, width = self[scene_id].model.image_size
        picture = self.draw(Look(scene_id), self.camera_of(scene_id), (height, width))
        return thumbnail(picture)


def thumbnail(picture: Picture) -> bytes:
    """JPEG of a picture in little."""
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return encode(np.asarray(image), "JPEG")


def mix(scene: BankScene, other: BankScene, share: float) -> BankScene:
    """The scene on the way to another one; its hull is that of both.

    Args:
        scene: Where the way begins.
        other: Where it ends; of the same version, since a head and bases belong to a version.
        share: How far, in [0, 1].

    Raises:
        UsageError: They are of two versions.
    """
    if scene.record.version != other.record.version:
        raise UsageError(
            f"{scene.record.id} is of version {scene.record.version}, {other.record.id} of {other.record.version}: "
            "scenes of one version alone can be mixed"
        )
    rows = {
        name: row | other.rows[name] if row.dtype == torch.uint8 else torch.lerp(row, other.rows[name], share)
        for name, row in scene.rows.items()
    }
    return replace(scene, rows=rows)


def why_not_left_out(model: SceneModel, kind: str) -> str:
    """Why planes of a kind, ``micro`` or ``macro``, cannot be left out; empty where they can."""
    tables = model.representation.scene_tables()
    if "mixing" not in tables:
        return "These scenes share no base planes: there is no micro and macro part."
    return "" if PLANE_TABLES[kind] in tables else f"This model has no {kind} planes."


@torch.no_grad()
def draw(scene: BankScene, mode: str, cameras: Cameras, size: tuple[int, int]) -> Picture:
    """What one camera sees of a scene: uint8 [H, W, 3]; latents have a pixel for each of theirs.

    Args:
        scene: The scene.
        mode: One of ``MODES``.
        cameras: One camera.
        size: H, W, multiples of the autoencoder's factor.
    """
    model, factor = scene.model, scene.model.autoencoder.downsampling
    latent_size = size[0] // factor, size[1] // factor
    with _ALONE:
        rendering = _render(scene, cameras, latent_size)
    latent = to_image(rendering.pixels, latent_size)
    if mode == "image":
        return to_pictures(to_unit_range(model.decode(latent)))[0]
    if mode == "latent":
        channels = [channel % latent.shape[1] for channel in range(3)]
        return to_pictures(to_unit_range(latent[:, channels]))[0]
    depth, opacity = (values[0].unflatten(0, latent_size) for values in (rendering.depth, rendering.accumulation))
    if mode == "depth":
        return show_depth(depth, opacity, float(cameras.camera_to_world[0, :3, 3].norm()))
    if mode == "opacity":
        return to_pictures(opacity.expand(3, -1, -1))
    return to_pictures(_normals(cameras, depth, opacity) * 0.5 + 0.5)


def _render(scene: BankScene, cameras: Cameras, latent_size: tuple[int, int]):
    model = scene.model
    index = scene._enter(cameras)
    return model.renderer(model.representation, index, cameras.rays(latent_size), model.background)


def _normals(cameras: Cameras, depth: Tensor, opacity: Tensor) -> Tensor:
    size = (depth.shape[0], depth.shape[1])
    rays = cameras.rays(size)
    points = (rays.origins[0] + depth.flatten()[:, None] * rays.directions[0]).unflatten(0, size)
    right = F.pad((points[:, 1:] - points[:, :-1]).movedim(-1, 0), (0, 1), mode="replicate")
    down = F.pad((points[1:] - points[:-1]).movedim(-1, 0), (0, 0, 0, 1), mode="replicate")
    normals = F.normalize(torch.linalg.cross(down, right, dim=0), dim=0)
    return normals * (opacity > 0.5)
