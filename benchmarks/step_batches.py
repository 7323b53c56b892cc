"""Models, and batches of views of latents, for benchmarks of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scaled_ig.cameras import Cameras, look_at_origin
from scaled_ig.rendering.sampling import FullRay, InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

VIEWS, SIZE, CHANNELS = 32, 16, 4  # of a batch; pixels along a side; of a latent image


class Latents(nn.Module):
    """Stands for the autoencoder, which latent supervision does not call."""

    latent_channels, downsampling, image_multiple = CHANNELS, 8, 8


def make_model(num_scenes: int, recommended: bool = False) -> SceneModel:
    """The papers' model, or the recommended one: one pass inside the ball; planes that fit it, of the same texels."""
    size: dict[str, Any] = {"plane_resolution": 32, "extent": 0.5} if recommended else {}
    scenes = MicroMacro(**size, plane_std=0.3, mixing_std=50**-0.5)
    scenes.new_scenes(num_scenes)
    plan = InsideBall(24) if recommended else FullRay()
    return SceneModel(scenes, Latents(), plan, "fast")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch:
    """Views of some scenes.

    Args:
        cameras: B cameras.
        scene_index: [B] long.
        ray_ids: [B, R] long.
        target: [B, R, C] in [-1, 1].
    """

    cameras: Cameras
    scene_index: Tensor
    ray_ids: Tensor
    target: Tensor


def draw_cameras(count: int, generator: torch.Generator) -> Cameras:
    """Cameras all over the upper hemisphere."""
    positions = nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    positions[:, 2].abs_()
    return look_at_origin(1.3 * positions)


def draw_batch(seed: int, num_scenes: int, views_per_scene: int) -> Batch:
    """Noise seen from everywhere."""
    generator = torch.Generator().manual_seed(seed)
    scenes = torch.randperm(num_scenes, generator=generator)[: VIEWS // views_per_scene]
    ids = torch.arange(VIEWS)[:, None] << 20 | torch.arange(SIZE**2)
    target = 2 * torch.rand(VIEWS, SIZE**2, CHANNELS, generator=generator) - 1
    return Batch(draw_cameras(VIEWS, generator), scenes.repeat_interleave(views_per_scene), ids, target)


def see_balls(cameras: Cameras, scene: int, fine: int = 3) -> Tensor:
    """Latents [B, R, C] in [-1, 1] of a scene that can be learned: shaded balls on white, fine² samples a pixel."""
    generator = torch.Generator().manual_seed(scene)
    centres, colours = torch.rand(4, 3, generator=generator) * 0.5 - 0.25, torch.rand(4, CHANNELS, generator=generator)
    radii, slope = 0.1 + 0.12 * torch.rand(4, generator=generator), torch.randn(3, CHANNELS, generator=generator)
    rays = cameras.rays(SIZE * fine)
    offset = rays.origins[:, :, None] - centres
    along = (offset * rays.directions[:, :, None]).sum(-1)
    chord = along.square() - offset.square().sum(-1) + radii.square()
    depth, nearest = torch.where(chord > 0, -along - chord.clamp(min=0).sqrt(), torch.inf).min(-1)
    points = rays.origins + depth.clamp(max=9)[..., None] * rays.directions
    normal = (points - centres[nearest]) / radii[nearest][..., None]
    seen = (1.6 * colours[nearest] - 0.8 + 0.15 * normal @ slope).clamp(-1, 1)
    image = torch.where((depth < torch.inf)[..., None], seen, 1.0)
    image = image.unflatten(1, (SIZE, fine, SIZE, fine)).mean((2, 4))
    return image.flatten(1, 2)


def learnable(num_scenes: int = 16, views: int = 36, unseen: int = 4) -> tuple[Callable[[int], Batch], Batch]:
    """The batch of a step, 4 views of 8 scenes of balls, and views of all scenes that are in no batch."""
    generator, size = torch.Generator().manual_seed(7), torch.arange(SIZE**2)
    cameras = [draw_cameras(views + unseen, generator) for _ in range(num_scenes)]
    latents = [see_balls(own, scene) for scene, own in enumerate(cameras)]

    def gather(scenes: list[int], shown: list[Tensor]) -> Batch:
        index = torch.tensor(scenes).repeat_interleave(len(shown[0]))
        own = [cameras[scene][view] for scene, view in zip(scenes, shown, strict=True)]
        joined = Cameras(torch.cat([c.camera_to_world for c in own]), torch.cat([c.intrinsics for c in own]))
        target = torch.cat([latents[scene][view] for scene, view in zip(scenes, shown, strict=True)])
        return Batch(joined, index, (index * views + torch.cat(shown))[:, None] << 20 | size, target)

    def batch(step: int) -> Batch:
        own = torch.Generator().manual_seed(step)
        scenes = torch.randperm(num_scenes, generator=own)[: VIEWS // 4].tolist()
        return gather(scenes, [torch.randperm(views, generator=own)[:4] for _ in scenes])

    return batch, gather(list(range(num_scenes)), [torch.arange(views, views + unseen)] * num_scenes)
