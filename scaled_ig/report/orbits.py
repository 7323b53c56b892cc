"""Where the camera goes in films."""

from __future__ import annotations

import math

import torch

from scaled_ig.cameras import PAPER_FOCAL, Cameras, orbit

FULL_TURN_DEGREES = 360.0


def orbit_cameras(
    views: int,
    elevation_degrees: float = 27.0,
    azimuth_degrees: tuple[float, float] = (0.0, FULL_TURN_DEGREES),
    distance: float = 1.3,
    focal: float | tuple[float, float] = PAPER_FOCAL,
) -> Cameras:
    """Cameras of a film that loops: a full turn goes on, less than that swings there and back.

    Args:
        views: Number of cameras.
        elevation_degrees: Height over the horizon.
        azimuth_degrees: First and last angle around the vertical axis.
        distance: From the origin, world units.
        focal: Focal length over image width and over image height; one number of a square image.
    """
    first, last = (math.radians(angle) for angle in azimuth_degrees)
    elevation = math.radians(elevation_degrees)
    if abs(last - first) >= 2 * math.pi - 1e-6:
        return orbit(views, elevation, distance, (first, last), focal)
    # A cosine slows down where the camera turns back.
    places = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(views) / views)
    stops = [
        orbit(1, elevation, distance, (angle, angle), focal) for angle in (first + (last - first) * places).tolist()
    ]
    return Cameras(torch.cat([stop.camera_to_world for stop in stops]), torch.cat([stop.intrinsics for stop in stops]))


def orbit_like(cameras: Cameras, views: int) -> Cameras:
    """A film from where the given cameras stand: around for views from all sides, a swing for frontal ones.

    Args:
        cameras: Of a data set.
        views: Number of cameras of the film.
    """
    centres = cameras.camera_to_world[:, :3, 3]
    distance = centres.norm(dim=-1)
    elevation = torch.rad2deg(torch.asin((centres[:, 2] / distance).clamp(-1, 1)))
    middle = torch.atan2(centres[:, 1].mean(), centres[:, 0].mean())
    azimuth = torch.atan2(centres[:, 1], centres[:, 0]) - middle
    azimuth = torch.rad2deg(torch.remainder(azimuth + math.pi, 2 * math.pi) - math.pi)
    low, high = torch.quantile(azimuth, torch.tensor([0.05, 0.95])).tolist()
    centre = math.degrees(middle)
    span = (-90.0, FULL_TURN_DEGREES - 90.0) if high - low > 240 else (centre + low, centre + high)
    height = float(elevation.median())
    fx, fy = cameras.intrinsics[:, :2].median(0).values.tolist()
    return orbit_cameras(views, height, span, float(distance.median()), (fx, fy))
