"""Scenes that are formulas, as posed images that a baseline can hold: python -m benchmarks.analytic --out FOLDER.

Density and colour are smooth functions of position; pixels are their line integrals by fine quadrature, in float64, on
white. ``scaled-ig pack transforms FOLDER --out PACK`` reads them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scaled_ig.cameras import Cameras, look_at_origin
from scaled_ig.rendering.sampling import SCENE_RADIUS, stratified

DISTANCE = 1.3


@dataclass(frozen=True)
class AnalyticScene:
    """A scene within the ball of radius 0.5.

    Args:
        density: σ ≥ 0 [...] per world unit at positions [..., 3].
        colour: [..., 3] in [0, 1] at positions [..., 3].
    """

    density: Callable[[Tensor], Tensor]
    colour: Callable[[Tensor], Tensor]


def blobs(seed: int, count: int = 6) -> AnalyticScene:
    """Gaussian clouds of one colour each; colours mix by density."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    centres = 0.24 * centres / centres.norm(dim=1, keepdim=True)
    widths = 0.05 + 0.03 * torch.rand(count, generator=generator, dtype=torch.float64)
    colours = torch.rand(count, 3, generator=generator, dtype=torch.float64)

    def exponents(x: Tensor) -> Tensor:
        return -(x[..., None, :] - centres).square().sum(-1) / (2 * widths**2)

    return AnalyticScene(lambda x: 80 * exponents(x).exp().sum(-1), lambda x: exponents(x).softmax(-1) @ colours)


def textured_ball() -> AnalyticScene:
    """A ball with waves on its surface, which is soft over some hundredths, in bands of colour."""

    def density(x: Tensor) -> Tensor:
        waves = 0.03 * (9 * x).sin().prod(-1)
        return 60 * torch.sigmoid((0.33 + waves - x.norm(dim=-1)) / 0.012)

    def colour(x: Tensor) -> Tensor:
        phases = x.new_tensor([0.0, 2.0, 4.0])
        return 0.5 + 0.45 * (12 * x + 4 * x.roll(1, -1) + phases).sin()

    return AnalyticScene(density, colour)


def striped_ring() -> AnalyticScene:
    """A soft ring, lying, whose colour goes around with it."""

    def density(x: Tensor) -> Tensor:
        from_axis = torch.hypot(torch.hypot(x[..., 0], x[..., 1]) - 0.28, x[..., 2])
        return 60 * torch.sigmoid((0.13 - from_axis) / 0.012)

    def colour(x: Tensor) -> Tensor:
        around = torch.atan2(x[..., 1], x[..., 0])[..., None]
        return 0.5 + 0.45 * (3 * around + x.new_tensor([0.0, 2.0, 4.0]) + 10 * x[..., 2:]).sin()

    return AnalyticScene(density, colour)


SCENES = {"blobs": blobs(0), "textured_ball": textured_ball(), "striped_ring": striped_ring()}


def cameras_above(num_views: int) -> Cameras:
    """Cameras at random places of the upper half of a sphere that look at the origin."""
    generator = torch.Generator().manual_seed(0)
    azimuth, height = torch.rand(2, num_views, generator=generator, dtype=torch.float64)
    azimuth, height = 2 * torch.pi * azimuth, 0.98 * height
    flat = (1 - height**2).sqrt()
    return look_at_origin(DISTANCE * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), height], -1))


def render(scene: AnalyticScene, cameras: Cameras, resolution: int, num_samples: int = 256) -> Tensor:
    """Pixels [V, resolution, resolution, 3] in [0, 1]: Σ T (1 − exp(−σδ)) c, and white behind."""
    rays = cameras.rays(resolution).flatten()
    t_near, t_far = rays.ball_limits(SCENE_RADIUS)
    pixels = torch.ones(len(t_near), 3, dtype=t_near.dtype)
    for some in torch.nonzero(t_far > t_near)[:, 0].split(256):  # few at a time stay in the processor's cache
        positions = rays[some].at(stratified(t_near[some], t_far[some], num_samples))
        optical_depth = scene.density(positions) * ((t_far - t_near)[some] / num_samples)[:, None]
        before = optical_depth.cumsum(1) - optical_depth
        weights = torch.exp(-before) * -torch.expm1(-optical_depth)
        pixels[some] = (weights[..., None] * scene.colour(positions)).sum(1) + (1 - weights.sum(1, keepdim=True))
    return pixels.view(len(cameras), resolution, resolution, 3)


def write(folder: Path, scene: AnalyticScene, num_views: int, resolution: int) -> None:
    """Images and ``transforms.json`` of a scene, in the axes of OpenCV."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = cameras_above(num_views)
    frames = []
    for view, (pose, intrinsics) in enumerate(zip(cameras.camera_to_world, cameras.intrinsics, strict=True)):
        pixels = (render(scene, cameras[[view]], resolution)[0] * 255).round().clamp(0, 255).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{view:03d}.png")
        fx, fy, cx, cy = (intrinsics * resolution).tolist()
        lens = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": resolution, "h": resolution}
        frames.append({"file_path": f"{view:03d}.png", "transform_matrix": pose.tolist()} | lens)
    document = {"camera_convention": "opencv", "license": "CC0-1.0", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write, one folder a scene in it")
    parser.add_argument("--views", type=int, default=40, help="views of a scene; the first tenth are test views")
    parser.add_argument("--resolution", type=int, default=64, help="pixels along each side")
    options = parser.parse_args()
    for name, scene in SCENES.items():
        write(options.out / name, scene, options.views, options.resolution)
        print(f"{options.out / name}: {options.views} views of {options.resolution}×{options.resolution}", flush=True)


if __name__ == "__main__":
    main()
