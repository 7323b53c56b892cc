"""Scenes as pictures: what a scene is shown as, alone, mixed with another one, or without some of its planes.

Letters: H rows and W columns of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from scaled_ig.bank.scene import BankScene
from scaled_ig.batch import to_unit_range
from scaled_ig.cameras import Cameras, focal_of, orbit
from scaled_ig.errors import UsageError
from scaled_ig.report.pictures import Picture, encode, to_pictures
from scaled_ig.report.views import show_depth
from scaled_ig.scene_model import SceneModel

MODES = ("image", "latent", "depth", "opacity", "normals")
PLANE_TABLES = {"micro": "micro", "macro": "mixing"}
"""Table of a Micro-Macro scene that is 0 where its planes of this kind are left out."""
FRONT_RIGHT = (-0.9, math.tau - 0.9)  # the front is at -π / 2
THUMBNAIL = 96  # pixels of the longer side
THUMBNAILS_KEPT = 4096  # some 3 kB each
SCENES_KEPT = 8  # a megabyte or two each


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
        self._scenes = scenes
        self._rows = lru_cache(maxsize=SCENES_KEPT)(self._mixed)
        self.thumbnail = lru_cache(maxsize=THUMBNAILS_KEPT)(self._thumbnail)

    def __contains__(self, scene_id: object) -> bool:
        return scene_id in self._scenes

    def __getitem__(self, scene_id: str) -> BankScene:
        return self._rows(scene_id, "", 0.0, frozenset())

    def camera_of(self, scene_id: str) -> Cameras:
        """Where a scene is first seen from: in front, from the right, with the lens of the papers."""
        return orbit(1, azimuth_range_radians=FRONT_RIGHT, focal=focal_of(self[scene_id].model.image_size))

    def draw(self, look: Look, cameras: Cameras, size: tuple[int, int]) -> Picture:
        """A picture uint8 [H, W, 3], from one camera.

        Raises:
            UsageError: The scene is damaged, or the two cannot be mixed.
        """
        scene = self._rows(look.scene, look.other, look.share, look.left_out)
        return draw(scene, look.mode, cameras, size)

    def _mixed(self, scene_id: str, other: str, share: float, left_out: frozenset[str]) -> BankScene:
        scene = self._scenes[scene_id]
        if other and share:
            scene = mix(scene, self._scenes[other], share)
        names = [PLANE_TABLES[kind] for kind in left_out]
        return scene.with_rows({name: torch.zeros_like(scene.rows[name]) for name in names if name in scene.rows})

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
    return scene.with_rows(rows)


def why_not_left_out(model: SceneModel, kind: str) -> str:
    """Why planes of a kind, ``micro`` or ``macro``, cannot be left out; empty where they can."""
    tables = model.representation.scene_tables()
    if "mixing" not in tables:
        return "These scenes share no base planes: there is no micro and macro part."
    return "" if PLANE_TABLES[kind] in tables else f"This model has no {kind} planes."


@torch.no_grad()
def draw(scene: BankScene, mode: str, cameras: Cameras, size: tuple[int, int]) -> Picture:
    """What one camera sees of a scene: uint8 [H, W, 3]; of latents the first three channels.

    Args:
        scene: The scene.
        mode: One of ``MODES``.
        cameras: One camera.
        size: H, W, multiples of the autoencoder's factor.
    """
    if mode == "latent":
        model = scene.model.at(size)
        latent = model.render_latent(cameras, torch.zeros(1, dtype=torch.long))
        picture = to_pictures(to_unit_range(latent[:, [channel % latent.shape[1] for channel in range(3)]]))[0]
        return picture.repeat(size[0] // len(picture), 0).repeat(size[1] // picture.shape[1], 1)
    if mode == "depth":
        outputs = scene.render(cameras, size, outputs=("depth", "opacity"))
        distance = float(cameras.camera_to_world[0, :3, 3].norm())
        return show_depth(outputs["depth"][0, 0], outputs["opacity"][0, 0], distance)
    if mode == "normals":
        outputs = scene.render(cameras, size, outputs=("normals", "opacity"))
        return to_pictures(1 + outputs["opacity"] * (outputs["normals"] / 2 - 0.5))[0]
    return to_pictures(scene.render(cameras, size, outputs=mode).expand(-1, 3, -1, -1))[0]
