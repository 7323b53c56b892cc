"""Scenes that are formulas, against a line integral that is one too."""

import json

import numpy as np
import torch
from PIL import Image

from benchmarks import analytic


def test_a_cloud_of_one_density_dims_by_the_chord():
    """1 − exp(−σ ℓ), ℓ the chord of the ball of radius 0.5; white behind."""
    cloud = analytic.AnalyticScene(lambda x: torch.full_like(x[..., 0], 3.0), lambda x: torch.zeros_like(x))
    cameras = analytic.cameras_above(2)
    image = analytic.render(cloud, cameras, 8, 16)
    rays = cameras.rays(8)
    nearest = torch.linalg.cross(rays.origins, rays.directions).norm(dim=-1)
    chord = 2 * (0.25 - nearest**2).clamp(min=0).sqrt()
    expected = torch.exp(-3 * chord).view(2, 8, 8, 1).expand(-1, -1, -1, 3)
    assert 0 < int((expected < 1).sum()) < expected.numel()
    torch.testing.assert_close(image, expected, rtol=1e-9, atol=1e-9)


def test_quadrature_has_converged():
    cameras = analytic.cameras_above(1)
    for name, scene in analytic.SCENES.items():
        usual, finer = (analytic.render(scene, cameras, 8, samples) for samples in (256, 1024))
        assert float((usual - finer).abs().max()) < 1 / 255, name


def test_a_folder_has_what_its_cameras_saw(tmp_path):
    analytic.write(tmp_path, analytic.SCENES["blobs"], num_views=2, resolution=8)
    frames = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    cameras = analytic.cameras_above(2)
    expected = analytic.render(analytic.SCENES["blobs"], cameras, 8)
    for view, frame in enumerate(frames):
        pixels = np.asarray(Image.open(tmp_path / frame["file_path"])) / 255
        np.testing.assert_allclose(pixels, expected[view].numpy(), atol=0.501 / 255)
        assert frame["transform_matrix"] == cameras.camera_to_world[view].tolist()
