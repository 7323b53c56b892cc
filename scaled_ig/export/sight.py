"""What cameras all around a scene see of it: which points are hidden, and which colours surfaces have.

Letters: B views of H × W pixels, P points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.bank.scene import BankScene
from scaled_ig.cameras import Cameras, focal_of, look_at_origin
from scaled_ig.rendering.sampling import SCENE_RADIUS

NUM_VIEWS = 48
DISTANCE = 1.3  # of the cameras, as in the papers' data
OPAQUE = 0.75
RAY_SAMPLES = 128
SLACK = 0.02  # world units that a depth, which is a mean over what a ray passes, may be wrong by
SHARPNESS = 4  # power of the cosine: views that look straight at a surface decide its colour


@dataclass(frozen=True)
class Sight:
    """Renderings of a scene from all sides.

    Args:
        cameras: B cameras.
        images: [B, 3, H, W] in [0, 1].
        opacities: [B, 1, H, W] in [0, 1].
        depths: [B, 1, H, W] world units; beyond the scene where less than half of the light is stopped.
    """

    cameras: Cameras
    images: Tensor
    opacities: Tensor
    depths: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, scene: BankScene) -> Sight:
        """Render a scene, latents through their decoder, at the size of its training views."""
        cameras = all_around(NUM_VIEWS, DISTANCE, focal_of(scene.model.image_size))
        outputs = scene.render(cameras, outputs=("image", "depth", "opacity"))
        depths = torch.where(outputs["opacity"] >= 0.5, outputs["depth"], DISTANCE + SCENE_RADIUS)
        return cls(cameras, outputs["image"], outputs["opacity"], depths)

    def hides(self, points: Tensor) -> Tensor:
        """Whether all views have something before points [P, 3]; [P] bool."""
        hidden = torch.arange(len(points))
        for camera, _, depth in self._views():
            places, distance, _ = _projected(camera, points[hidden])
            hidden = hidden[distance > _read(depth, places)[:, 0] + SLACK]
        return torch.zeros(len(points), dtype=torch.bool).index_fill(0, hidden, True)

    def colours(self, points: Tensor, normals: Tensor) -> Tensor:
        """Colours of a surface: the mean over the views that see it, weighted by a power of the cosine.

        Args:
            points: [P, 3], world units.
            normals: [P, 3] unit vectors.

        Returns:
            [P, 3] in [0, 1]; NaN where no view sees the point.
        """
        total, weights = torch.zeros_like(points), torch.zeros_like(points[:, :1])
        for camera, image, depth in self._views():
            places, distance, towards = _projected(camera, points)
            is_seen = distance[:, None] <= _read(depth, places) + SLACK
            weight = (normals * towards).sum(1, keepdim=True).clamp(min=0) ** SHARPNESS * is_seen
            total, weights = total + weight * _read(image, places), weights + weight
        return (total / weights).clamp(0, 1)

    def surface_density(self, scene: BankScene) -> float:
        """Density whose surface has the silhouettes of the renderings.

        A ray meets the surface of a density where it meets more than that. Of all densities this is the one at which
        these rays and those that are at least half opaque agree best, as intersection over union: a scene that was
        learned from few or small pictures is softer than others.
        """
        most, is_opaque = [], []
        depths = torch.linspace(DISTANCE - SCENE_RADIUS, DISTANCE + SCENE_RADIUS, RAY_SAMPLES)
        for view in range(0, len(self.cameras), 4):
            opacity = self.opacities[view].flatten()
            pixels = (opacity > 0.01).nonzero()[:, 0]
            size = self.opacities.shape[2], self.opacities.shape[3]
            points = self.cameras[[view]].rays_at(pixels[None], size).flatten().at(depths.expand(len(pixels), -1))
            most.append(scene.densities(points.flatten(0, 1)).unflatten(0, points.shape[:2]).amax(1))
            is_opaque.append(opacity[pixels] >= OPAQUE)
        ordered, places = torch.cat(most).sort(descending=True)
        both = torch.cat(is_opaque)[places].cumsum(0)
        either = torch.arange(1, len(both) + 1) + both[-1:] - both
        return float(ordered[(both / either).argmax()]) if len(both) else math.inf

    def _views(self) -> Iterator[tuple[Cameras, Tensor, Tensor]]:
        for view in range(len(self.cameras)):
            yield self.cameras[[view]], self.images[[view]], self.depths[[view]]


def all_around(num_views: int, distance: float, focal: tuple[float, float]) -> Cameras:
    """Cameras spread evenly over a sphere, on a spiral by the golden angle, that look at its centre."""
    steps = torch.arange(num_views) + 0.5
    azimuth, height = steps * math.pi * (3 - math.sqrt(5)), 1 - 2 * steps / num_views
    flat = (1 - height.square()).sqrt()
    return look_at_origin(distance * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), height], -1), focal)


def _projected(camera: Cameras, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places [P, 2] in the image, both in [0, 1]; distances [P] from the camera; directions [P, 3] towards it."""
    towards = camera.camera_to_world[0, :3, 3] - points
    distance = towards.norm(dim=-1)
    return camera.project(points)[0, :, :2], distance, towards / distance[:, None]


def _read(image: Tensor, places: Tensor) -> Tensor:
    """Values [P, C] of an image [1, C, H, W] at places [P, 2]."""
    values = F.grid_sample(image, 2 * places[None, None] - 1, padding_mode="border", align_corners=False)
    return values[0, :, 0].T
