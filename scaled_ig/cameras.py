"""Pinhole cameras: poses, rays and paths.

World: right-handed, +Z up, objects in the ball of radius 0.5 around the origin. Camera: OpenCV axes (x right, y down,
z forward). Intrinsics are divided by the image size, so that one camera serves every resolution: the 16×16 latent
camera *is* the 128×128 camera (method 3). Images may be rectangles. Letters: B cameras, R rays, S samples of each,
P points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.errors import UsageError

PAPER_FOCAL = 525 / 512
"""Focal length over image width of the papers' renderings."""


@dataclass(frozen=True)
class Rays:
    """A bundle of rays.

    Args:
        origins: [..., 3], world units.
        directions: [..., 3], unit length; depth is the distance along them.
        near_far: [..., 2] depths between which the scene lies, or None where the cameras do not say.
    """

    origins: Tensor
    directions: Tensor
    near_far: Tensor | None = None

    def __getitem__(self, index) -> Rays:
        near_far = None if self.near_far is None else self.near_far[index]
        return Rays(self.origins[index], self.directions[index], near_far)

    def flatten(self) -> Rays:
        """All rays in one axis: [R, 3]."""
        near_far = None if self.near_far is None else self.near_far.reshape(-1, 2)
        return Rays(self.origins.reshape(-1, 3), self.directions.reshape(-1, 3), near_far)

    def at(self, t: Tensor) -> Tensor:
        """Points [R, S, 3] at depths t [R, S] of R rays."""
        return self.origins[:, None] + t[..., None] * self.directions[:, None]

    def ball_limits(self, radius: float) -> tuple[Tensor, Tensor]:
        """Where rays enter and leave the ball around the origin.

        Args:
            radius: Radius of the ball, world units.

        Returns:
            ``t_near`` and ``t_far``, [...]; ``t_far < t_near`` where a ray misses the ball.
        """
        middle = -(self.origins * self.directions).sum(-1)
        half_chord_squared = radius**2 - (self.origins.square().sum(-1) - middle.square())
        half_chord = half_chord_squared.clamp(min=0).sqrt()
        missed = half_chord_squared <= 0
        return middle - half_chord, torch.where(missed, middle - half_chord - 1, middle + half_chord)


@dataclass(frozen=True)
class Cameras:
    """A batch of cameras.

    Args:
        camera_to_world: [B, 4, 4] rigid, OpenCV axes.
        intrinsics: [B, 4] fx, fy, cx, cy divided by width, height, width, height.
        near_far: [B, 2] distances from the camera between which the scene lies, or None where they are not known.

    Raises:
        ValueError: The shapes do not fit.
    """

    camera_to_world: Tensor
    intrinsics: Tensor
    near_far: Tensor | None = None

    def __post_init__(self) -> None:
        if self.camera_to_world.dim() != 3 or self.camera_to_world.shape[1:] != (4, 4):
            raise ValueError(f"camera_to_world must be [B, 4, 4], got {list(self.camera_to_world.shape)}")
        if self.intrinsics.shape != (len(self.camera_to_world), 4):
            raise ValueError(f"intrinsics must be [{len(self.camera_to_world)}, 4], got {list(self.intrinsics.shape)}")
        if self.near_far is not None and self.near_far.shape != (len(self.camera_to_world), 2):
            raise ValueError(f"near_far must be [{len(self.camera_to_world)}, 2], got {list(self.near_far.shape)}")

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, index) -> Cameras:
        return self._map(lambda values: values[index])

    def to(self, *args, **kwargs) -> Cameras:
        return self._map(lambda values: values.to(*args, **kwargs))

    def pin_memory(self) -> Cameras:
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Cameras:
        near_far = None if self.near_far is None else change(self.near_far)
        return Cameras(change(self.camera_to_world), change(self.intrinsics), near_far)

    def rays(self, size: int | tuple[int, int]) -> Rays:
        """Rays through the pixel centres (i + ½) / size, row by row.

        Args:
            size: Rows H and columns W of the image; one number of a square one.

        Returns:
            Rays with origins and directions [B, H · W, 3].
        """
        y, x = (
            (torch.arange(side, device=self.intrinsics.device, dtype=self.intrinsics.dtype) + 0.5) / side
            for side in rows_and_columns(size)
        )
        y, x = torch.meshgrid(y, x, indexing="ij")
        return self._through(x.reshape(1, -1), y.reshape(1, -1))

    def rays_at(self, pixels: Tensor, size: int | tuple[int, int]) -> Rays:
        """Rays through chosen pixels.

        Args:
            pixels: [B, R] long, row · W + column.
            size: Rows H and columns W of the image; one number of a square one.

        Returns:
            Rays with origins and directions [B, R, 3].
        """
        height, width = rows_and_columns(size)
        rows, columns = pixels // width, pixels % width
        return self._through((columns + 0.5) / width, (rows + 0.5) / height)

    def _through(self, x: Tensor, y: Tensor) -> Rays:
        fx, fy, cx, cy = self.intrinsics[:, :, None].unbind(1)
        x, y = (x - cx) / fx, (y - cy) / fy
        in_camera = F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)
        directions = in_camera @ self.camera_to_world[:, :3, :3].transpose(1, 2)
        near_far = None if self.near_far is None else self.near_far[:, None].expand(*directions.shape[:2], 2)
        return Rays(self.camera_to_world[:, None, :3, 3].expand_as(directions), directions, near_far)

    def cropped(self, rows: Tensor, columns: Tensor, size: int, image_size: tuple[int, int]) -> Cameras:
        """Cameras of square parts of their images: a ray through a pixel of a part is that of the whole image.

        Args:
            rows: [B] first row of each part.
            columns: [B] first column.
            size: Pixels along the side of a part.
            image_size: Rows H and columns W of the whole image.
        """
        height, width = image_size
        fx, fy, cx, cy = self.intrinsics.unbind(1)
        x, y = cx * width - columns, cy * height - rows
        return replace(self, intrinsics=torch.stack([fx * width, fy * height, x, y], 1) / size)

    def project(self, points: Tensor) -> Tensor:
        """Image coordinates of world points.

        Args:
            points: [P, 3], world units.

        Returns:
            [B, P, 3]: x / width, y / height, depth along the optical axis.
        """
        rotation, centre = self.camera_to_world[:, :3, :3], self.camera_to_world[:, None, :3, 3]
        x, y, depth = ((points - centre) @ rotation).unbind(-1)
        fx, fy, cx, cy = self.intrinsics[:, :, None].unbind(1)
        return torch.stack([fx * x / depth + cx, fy * y / depth + cy, depth], -1)


def rows_and_columns(size: int | Sequence[int]) -> tuple[int, int]:
    """Rows and columns of an image; one number stands for both.

    Raises:
        UsageError: These are no two whole numbers.
    """
    sides = [size, size] if isinstance(size, int) else size
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(type(side) is int for side in sides):
        raise UsageError(f"resolution {size!r:.40} is no size of images: give one number, or [rows, columns]")
    return sides[0], sides[1]


def focal_of(size: tuple[int, int], focal: float = PAPER_FOCAL) -> tuple[float, float]:
    """Focal length over width and over height of an image of H rows and W columns, whose shorter side sees as much as
    a square image of this focal length over its side.
    """
    height, width = size
    return focal * min(size) / width, focal * min(size) / height


def look_at_origin(positions: Tensor, focal: float | tuple[float, float] = PAPER_FOCAL) -> Cameras:
    """Upright cameras that look at the origin.

    Args:
        positions: [B, 3] camera centres, world units; not on the Z axis.
        focal: Focal length over image width and over image height; one number of a square image.
    """
    fx, fy = focal if isinstance(focal, tuple) else (focal, focal)
    forward = F.normalize(-positions, dim=-1)
    right = F.normalize(torch.linalg.cross(forward, positions.new_tensor([0.0, 0.0, 1.0]).expand_as(forward)), dim=-1)
    down = torch.linalg.cross(forward, right)
    pose = torch.eye(4, dtype=positions.dtype).repeat(len(positions), 1, 1)
    pose[:, :3, :4] = torch.stack([right, down, forward, positions], -1)
    return Cameras(pose, positions.new_tensor([fx, fy, 0.5, 0.5]).expand(len(positions), 4).clone())


def orbit(
    num_views: int,
    elevation_radians: float = 0.3 * math.pi / 2,
    radius: float = 1.3,
    azimuth_range_radians: tuple[float, float] = (0.0, 2 * math.pi),
    focal: float | tuple[float, float] = PAPER_FOCAL,
) -> Cameras:
    """Cameras on a circle around the Z axis (the papers' videos: 40 views, elevation 0.3 · π/2, radius 1.3).

    The last view stands one step before the end of the range, so that a full turn loops.

    Raises:
        UsageError: There is no view, or cameras would not stand on a circle.
    """
    if not (num_views >= 1 and num_views == int(num_views) and abs(elevation_radians) <= math.pi / 2):
        raise UsageError(
            f"an orbit of {num_views} views, {elevation_radians} radians above the ground: give one view or more, and "
            "an elevation of at most π/2"
        )
    if not 0 < radius < math.inf:
        raise UsageError(f"an orbit at a distance of {radius}: give one above 0, such as 1.3")
    first, last = azimuth_range_radians
    azimuth = first + (last - first) * torch.arange(num_views) / num_views
    flat = math.cos(elevation_radians)
    positions = torch.stack(
        [flat * azimuth.cos(), flat * azimuth.sin(), torch.full_like(azimuth, math.sin(elevation_radians))], -1
    )
    return look_at_origin(radius * positions, focal)
