"""Rays, projections and paths against their closed forms."""

import math
import re

import pytest
import torch

from scaled_ig.cameras import Cameras, Rays, look_at_origin, orbit
from scaled_ig.errors import UsageError
from tests.conftest import see_balls


def random_cameras(count: int = 6, seed: int = 0) -> Cameras:
    """Rigid poses in any orientation, with intrinsics of their own."""
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))
    rotation = rotation * rotation.det()[:, None, None]
    pose = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = rotation, torch.randn(count, 3, generator=generator, dtype=torch.float64)
    scale = torch.tensor([1.0, 1.3, 0.5, 0.4], dtype=torch.float64)
    return Cameras(pose, scale * (0.8 + 0.4 * torch.rand(count, 4, generator=generator, dtype=torch.float64)))


@pytest.mark.parametrize("resolution", [16, 128])
def test_rays_project_back_to_the_pixel_centres(resolution):
    cameras = random_cameras()
    rays = cameras.rays(resolution)
    index = torch.arange(resolution**2)
    expected = torch.stack([index % resolution + 0.5, index // resolution + 0.5], -1).double() / resolution
    for number in range(len(cameras)):
        points = rays.origins[number] + 2.7 * rays.directions[number]
        projected = cameras[[number]].project(points)[0]
        torch.testing.assert_close(projected[:, :2], expected, rtol=0, atol=1e-12)
        assert (projected[:, 2] > 0).all()
        along_axis = (2.7 * rays.directions[number]) @ cameras.camera_to_world[number, :3, 2]
        torch.testing.assert_close(projected[:, 2], along_axis)
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(len(cameras), resolution**2).double())


def test_a_camera_is_the_same_at_every_resolution():
    cameras = random_cameras()
    coarse = cameras.rays(2).directions.unflatten(1, (2, 2))
    # Centres of a 2 x 2 image are centres of a 6 x 6 image too.
    fine = cameras.rays(6).directions.unflatten(1, (6, 6))
    torch.testing.assert_close(fine[:, 1::3, 1::3], coarse)


def test_chosen_pixels_are_those_of_the_whole_image():
    cameras = random_cameras()
    pixels = torch.randint(256, (6, 40), generator=torch.Generator().manual_seed(1))
    every, some = cameras.rays(16), cameras.rays_at(pixels, 16)
    torch.testing.assert_close(some.directions, every.directions.gather(1, pixels[..., None].expand(-1, -1, 3)))
    torch.testing.assert_close(some.origins, every.origins[:, :40])


def test_look_at_origin_is_rigid_right_handed_upright_and_looks_there():
    positions = torch.randn(50, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    cameras = look_at_origin(positions, focal=1.1)
    rotation = cameras.camera_to_world[:, :3, :3]
    torch.testing.assert_close(rotation.transpose(1, 2) @ rotation, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(rotation.det(), torch.ones(50).double())
    torch.testing.assert_close(rotation[:, :, 2], -positions / positions.norm(dim=1, keepdim=True))
    torch.testing.assert_close(cameras.camera_to_world[:, :3, 3], positions)
    assert (rotation[:, 2, 1] < 0).all(), "image rows run downwards in the world"
    torch.testing.assert_close(rotation[:, 2, 0], torch.zeros(50).double(), rtol=0, atol=1e-12)
    seen = cameras.project(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.01]]).double())
    torch.testing.assert_close(seen[:, 0, :2], torch.full((50, 2), 0.5).double())
    assert (seen[:, 1, 1] < 0.5).all(), "what is higher in the world is higher in the image"


def test_ball_limits():
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator, dtype=torch.float64), dim=-1)
    origins = 2 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    origins[:100] = -origins[:100].norm(dim=1, keepdim=True) * directions[:100] + 0.3 * origins[100:]
    near, far = Rays(origins, directions).ball_limits(0.7)
    for origin, direction, first, last in zip(origins, directions, near, far, strict=True):
        half_b, c = float(origin @ direction), float(origin @ origin) - 0.49
        discriminant = half_b**2 - c  # of t² + 2 t (o·d) + |o|² − r² = 0
        if discriminant <= 0:
            assert last < first
        else:
            assert float(first) == pytest.approx(-half_b - math.sqrt(discriminant), abs=1e-9)
            assert float(last) == pytest.approx(-half_b + math.sqrt(discriminant), abs=1e-9)
    assert 20 < (far > near).sum() < 180


@pytest.mark.parametrize("turn", [(0.0, 2 * math.pi), (-0.7, 0.7)])
def test_orbit_is_evenly_spaced(turn):
    cameras = orbit(12, elevation_radians=0.4, radius=1.7, azimuth_range_radians=turn)
    x, y, z = cameras.camera_to_world[:, :3, 3].double().unbind(1)
    rounding = {"rtol": 0, "atol": 1e-5}  # of float32, some operations of numbers up to 7
    torch.testing.assert_close(torch.hypot(x, y), torch.full((12,), 1.7 * math.cos(0.4)).double(), **rounding)
    torch.testing.assert_close(z, torch.full((12,), 1.7 * math.sin(0.4)).double(), **rounding)
    azimuth = torch.atan2(y, x)
    step = (turn[1] - turn[0]) / 12
    expected = turn[0] + step * torch.arange(12).double()
    half_turns = (azimuth - expected + math.pi) % (2 * math.pi)
    torch.testing.assert_close(half_turns, torch.full((12,), math.pi).double(), **rounding)
    assert float((azimuth[-1] + step - turn[1] + math.pi) % (2 * math.pi)) == pytest.approx(math.pi, abs=1e-5)


def test_three_balls_are_seen_where_their_centres_project_to():
    centres = torch.tensor([[0.3, 0.0, 0.1], [-0.1, 0.3, 0.0], [0.0, -0.1, -0.3]])
    cameras, checked = orbit(8, elevation_radians=0.5), 0
    pixels = cameras.project(centres)[..., :2] * 64
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    images = see_balls(cameras, 64, centres, [0.05] * 3, torch.eye(3), grid=4)
    for image, own in zip(images, pixels, strict=True):
        for number in range(3):
            if (own - own[number]).norm(dim=1).topk(2, largest=False).values[1] < 9:
                continue  # one ball may hide another
            others = [channel for channel in range(3) if channel != number]
            weight = (1 - image[others].mean(0)) * (torch.hypot(columns - own[number, 0], rows - own[number, 1]) < 5)
            centroid = torch.stack([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            torch.testing.assert_close(centroid, own[number], rtol=0, atol=0.5)
            checked += 1
    assert checked > 12


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"camera_to_world must be \[B, 4, 4\], got \[2, 3, 4\]"):
        Cameras(torch.zeros(2, 3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"intrinsics must be \[2, 4\], got \[3, 4\]"):
        Cameras(torch.zeros(2, 4, 4), torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_views": 0}, "an orbit of 0 views"),
        ({"num_views": 2.5}, "an orbit of 2.5 views"),
        ({"elevation_radians": math.nan}, "nan radians"),
        ({"radius": 0.0}, "a distance of 0.0"),
        ({"radius": math.inf}, "a distance of inf"),
    ],
)
def test_an_orbit_that_cannot_be_is_refused(options, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        orbit(**({"num_views": 2} | options))
