"""People's own photographs: images brought to one size, cameras of any world brought into this project's.

Letters: V views, H rows and W columns of pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.sources.base import PosedViews, turn_about_z
from scaled_ig.errors import UsageError

BALL_RADIUS = 0.5
LEVEL_SPREAD = 0.01  # mean squared sine: below about 6 degrees of spread the x axes do not tell what is level
AXES_SPREAD = 1e-4  # mean squared sine: below about half a degree the optical axes are parallel
STRAY_IMAGES = 0.05  # share of images in which the object may reach a corner


def fit_image(
    image: NDArray[np.uint8], intrinsics: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Crops an image to the largest rectangle of a shape in its middle, and resizes it.

    Whole ratios take the mean over areas; others a kernel that shifts nothing, and does not ring when it shrinks.

    Args:
        image: uint8 [h, w, 3] or [h, w].
        intrinsics: [4], fx / w, fy / h, cx / w, cy / h; pixel centres at +0.5.
        size: height H and width W of the result.

    Returns:
        uint8 [H, W, 3] or [H, W], and the intrinsics [4] of the rectangle.
    """
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    rows, columns = min(height, max(1, round(scale * size[0]))), min(width, max(1, round(scale * size[1])))
    left, top = (width - columns) // 2, (height - rows) // 2
    fx, fy, cx, cy = intrinsics
    cropped = np.array([fx * width, fy * height, cx * width - left, cy * height - top]) / (columns, rows, columns, rows)
    part = Image.fromarray(np.ascontiguousarray(image[top : top + rows, left : left + columns]))
    if scale >= 1 and scale.is_integer():
        return np.asarray(part.reduce(int(scale))), cropped
    kernel = Image.Resampling.HAMMING if scale >= 1 else Image.Resampling.BICUBIC
    return np.asarray(part.resize(size[::-1], kernel)), cropped


def normalize_cameras(
    views: PosedViews, alphas: NDArray[np.uint8] | None = None, yaw_degrees: float = 0.0
) -> tuple[PosedViews, dict[str, Any]]:
    """Brings cameras into the world: up becomes +Z, the scene the ball of radius 0.5 around the origin.

    Up is the direction most orthogonal to all x axes, since people hold cameras level; where the x axes are nearly
    parallel it is the mean of the cameras' own. The centre is the point nearest to all optical axes. The ball's radius
    is the largest that a silhouette asks for; without silhouettes it is that of the largest ball around the centre
    that the median camera sees whole. Silhouettes are those of ``alphas``, else all that is not pure white; corners
    that are not background in more than a few images mean that there are none.

    Args:
        views: views in any rigid world; cameras of any float type.
        alphas: uint8 [V, H, W], 255 is foreground; or None.
        yaw_degrees: a turn about +Z at the end, part of the ``rotation``, that brings the front to -Y.

    Returns:
        The views, cameras in float32, and the record: ``rotation`` (3x3), ``center`` (3) and ``scale`` with
        world = ``scale`` * ``rotation`` @ (x - ``center``), hence x = ``rotation``^T @ world / ``scale`` + ``center``.

    Raises:
        UsageError: the cameras have no common centre before them, or no common up.
    """
    poses = views.camera_to_world.astype(np.float64)
    intrinsics = views.intrinsics.astype(np.float64)
    center = _center(poses)
    radius = _silhouette_radius(views.images, alphas, poses, intrinsics, center)
    if radius is None:
        radius = _frustum_radius(poses, intrinsics, center)
    rotation, scale = turn_about_z(yaw_degrees) @ _turn_to_z(_up(poses)), BALL_RADIUS / radius
    moved = poses.copy()
    moved[:, :3, :3] = rotation @ poses[:, :3, :3]
    moved[:, :3, 3] = scale * (poses[:, :3, 3] - center) @ rotation.T
    limits = None if views.near_far is None else (views.near_far * scale).astype(np.float32)
    record = {"rotation": rotation.tolist(), "center": center.tolist(), "scale": scale}
    world = PosedViews(views.images, moved.astype(np.float32), views.intrinsics.astype(np.float32), limits)
    return world, record


def denormalize_cameras(
    camera_to_world: NDArray[Any], near_far: NDArray[Any] | None, record: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Takes cameras back to the photographs' own world.

    Args:
        camera_to_world: [V, 4, 4] in this project's world.
        near_far: [V, 2] or None.
        record: as ``normalize_cameras`` gives it.

    Returns:
        camera_to_world float64 [V, 4, 4] and near_far float64 [V, 2] or None.
    """
    rotation, scale = np.array(record["rotation"]), record["scale"]
    back = camera_to_world.astype(np.float64)
    back[:, :3, 3] = back[:, :3, 3] @ rotation / scale + np.array(record["center"])
    back[:, :3, :3] = rotation.T @ back[:, :3, :3]
    return back, None if near_far is None else near_far.astype(np.float64) / scale


def nearest_to_axes(poses: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The point [3] with the least squared distances to all optical axes, and how far these are from parallel.

    The second is the smallest mean squared sine between the axes and any direction; near 0, the point may lie anywhere
    along them, and is that nearest to the mean place of the cameras.
    """
    across = np.eye(3) - poses[:, :3, 2, None] * poses[:, None, :3, 2]
    system = across.mean(axis=0)
    # From the mean place, for the sake of digits: worlds may have their origin far away.
    origin = poses[:, :3, 3].mean(axis=0)
    offset = np.einsum("vij,vj->i", across, poses[:, :3, 3] - origin) / len(poses)
    return origin + np.linalg.lstsq(system, offset, rcond=1e-9)[0], float(np.linalg.eigvalsh(system)[0])


def _center(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point [3] that the cameras surround."""
    center, spread = nearest_to_axes(poses)
    if spread < AXES_SPREAD:
        raise UsageError("all cameras look the same way, so that they have no common centre: leave out --normalize")
    depth = np.einsum("vi,vi->v", center - poses[:, :3, 3], poses[:, :3, 2])
    if np.median(depth) <= 0:
        raise UsageError(
            "most cameras look away from their common centre: leave out --normalize, or name another camera_convention"
        )
    return center


def _up(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector [3] that points up."""
    right, up = poses[:, :3, 0], -poses[:, :3, 1].mean(axis=0)
    spread, directions = np.linalg.eigh(right.T @ right / len(right))
    if spread[1] >= LEVEL_SPREAD:
        return directions[:, 0] if directions[:, 0] @ up >= 0 else -directions[:, 0]
    if np.linalg.norm(up) < 0.1:
        raise UsageError("the cameras' up directions cancel each other: turn the photographs or leave out --normalize")
    return up / np.linalg.norm(up)


def _turn_to_z(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shortest rotation [3, 3] that takes ``up`` to +Z."""
    x, y, z = up
    if z < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    return np.array([[1 - x * x / (1 + z), -x * y / (1 + z), -x], [-x * y / (1 + z), 1 - y * y / (1 + z), -y], up])


def _silhouette_radius(
    images: NDArray[np.uint8],
    alphas: NDArray[np.uint8] | None,
    poses: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    center: NDArray[np.float64],
) -> float | None:
    """Largest distance of the centre from the ray of a foreground pixel; None where there are no silhouettes."""
    height, width = images.shape[1:3]
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    farthest, strays = 0.0, 0
    for row, (pose, (fx, fy, cx, cy)) in enumerate(zip(poses, intrinsics, strict=True)):
        mask = (images[row] < 255).any(axis=-1) if alphas is None else alphas[row] > 127
        strays += bool(mask[:: height - 1 or 1, :: width - 1 or 1].any())
        rows, columns = np.nonzero(mask)
        if len(rows):
            rays = np.stack([(x[columns] - cx) / fx, (y[rows] - cy) / fy, np.ones(len(rows))], axis=1)
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            towards = (center - pose[:3, 3]) @ pose[:3, :3]
            farthest = max(farthest, float(np.linalg.norm(np.cross(towards, rays), axis=1).max()))
    return None if strays > STRAY_IMAGES * len(images) or farthest == 0.0 else farthest


def _frustum_radius(poses: NDArray[np.float64], intrinsics: NDArray[np.float64], center: NDArray[np.float64]) -> float:
    """Median over cameras of the centre's least distance to the four sides of the frustum."""
    point = np.einsum("vi,vij->vj", center - poses[:, :3, 3], poses[:, :3, :3])
    distances = []
    for axis in (0, 1):
        focal, principal = intrinsics[:, axis], intrinsics[:, 2 + axis]
        low = focal * point[:, axis] + principal * point[:, 2]
        high = (1 - principal) * point[:, 2] - focal * point[:, axis]
        distances += [low / np.hypot(focal, principal), high / np.hypot(focal, 1 - principal)]
    radius = float(np.median(np.min(distances, axis=0)))
    if radius <= 0:
        raise UsageError("most cameras do not see the point that they surround: leave out --normalize")
    return radius
