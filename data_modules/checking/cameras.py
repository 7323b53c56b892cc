"""What can be wrong with the cameras of a scene, and which camera convention would make it right.

Letters: V views.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_modules.checking.findings import LEAVE_OUT, REPACK
from data_modules.sources.base import PosedViews
from data_modules.sources.conventions import CONVENTIONS, opencv_camera_to_world
from data_modules.sources.photographs import denormalize_cameras, nearest_to_axes

RIGID_TOLERANCE = 1e-3
FOCAL_LENGTHS = (0.05, 50.0)  # fields of view of 169 and 1.1 degrees; pixels instead of shares of the width are beyond
PRINCIPAL_POINTS = (-0.5, 1.5)
NEARLY_ALL = 0.9
SAME_PLACE = 1e-3  # of the distance from the origin

Flags = NDArray[Any]  # bool


class CameraFault(NamedTuple):
    """Which views, bool [V], what is wrong with them, and what to do."""

    views: Flags
    what: str
    remedy: str


def camera_faults(views: PosedViews, scene_radius: float, record: dict[str, Any]) -> Iterator[CameraFault]:
    """What is wrong with the cameras of a scene.

    Args:
        views: cameras [V, 4, 4], [V, 4], [V, 2]; the images are not looked at.
        scene_radius: radius of the ball around the origin that holds the object.
        record: where the scene came from; its ``camera_convention`` says how its poses were read.

    Yields:
        One fault of each kind. Poses that are no rigid motions are not looked at further.
    """
    yield from intrinsics_faults(views.intrinsics)
    poses = views.camera_to_world.astype(np.float64)
    if not np.isfinite(poses).all():
        yield CameraFault(np.asarray(~np.isfinite(poses).all(axis=(1, 2))), "the pose is not finite", REPACK)
        return
    rotation, position = poses[:, :3, :3], poses[:, :3, 3]
    error = np.abs(rotation.transpose(0, 2, 1) @ rotation - np.eye(3)).max(axis=(1, 2))
    skewed, affine = error > RIGID_TOLERANCE, (poses[:, 3] == [0, 0, 0, 1]).all(axis=1)
    mirrored = np.linalg.det(rotation) < 0
    if skewed.any():
        what = f"the pose is no rigid motion (|R^T R - I| up to {error.max():.2g})"
        yield CameraFault(skewed, what, REPACK)
    if mirrored.any():
        what = f"the pose is left-handed (det R = {np.linalg.det(rotation).min():.2f})"
        yield CameraFault(mirrored, what, REPACK)
    if not affine.all():
        yield CameraFault(~affine, "the last row of the pose is not 0, 0, 0, 1", REPACK)
    if (skewed | mirrored | ~affine).any():
        return
    inside = np.linalg.norm(position, axis=1) <= scene_radius
    yield from direction_faults(poses, views.intrinsics, scene_radius, record, inside)
    if views.near_far is not None:
        yield from range_faults(views.near_far, position, scene_radius)


def intrinsics_faults(intrinsics: NDArray[np.float32]) -> Iterator[CameraFault]:
    """Focal lengths and principal points [V, 4] that no camera has."""
    focal, principal = intrinsics[:, :2], intrinsics[:, 2:]
    for values, (low, high), name in (
        (focal, FOCAL_LENGTHS, "focal length"),
        (principal, PRINCIPAL_POINTS, "principal point"),
    ):
        absurd = np.asarray(~((values >= low) & (values <= high)).all(axis=1))  # NaN is absurd, too
        if absurd.any():
            worst = ", ".join(f"{value:.4g}" for value in values[absurd][0])
            what = f"the {name} ({worst} of the image's size) is outside {low:g} to {high:g}"
            yield CameraFault(absurd, what, REPACK)


def range_faults(near_far: NDArray[np.float32], position: NDArray[Any], scene_radius: float) -> Iterator[CameraFault]:
    """Ranges of distances [V, 2] that are none, or that miss the ball of the scene."""
    near, far = near_far.astype(np.float64).T
    is_range = np.isfinite(near_far).all(axis=1) & (near >= 0) & (near < far)
    distance = np.linalg.norm(position, axis=1)
    meets = (near < distance + scene_radius) & (far > distance - scene_radius)
    for wrong, what in (
        (~is_range, "near and far are no range (finite, 0 <= near < far)"),
        (is_range & ~meets, "the scene does not lie between near and far"),
    ):
        if wrong.any():
            yield CameraFault(wrong, f"{what}: {near[wrong][0]:.4g} to {far[wrong][0]:.4g}", REPACK)


def direction_faults(
    poses: NDArray[np.float64],
    intrinsics: NDArray[np.float32],
    scene_radius: float,
    record: dict[str, Any],
    inside: Flags,
) -> Iterator[CameraFault]:
    """Cameras in the object or that do not see it, and cameras that all stand at one place, as misread ones do."""
    seeing, _ = look_at_scene(poses, intrinsics, np.zeros(3), scene_radius)
    blind = ~(seeing | inside)
    position = poses[:, :3, 3]
    spread = np.linalg.norm(position - position[0], axis=1).max()
    one_place = len(poses) > 2 and spread <= SAME_PLACE * np.linalg.norm(position[0])
    turned = np.abs(poses[:, :3, :3] - poses[0, :3, :3]).max() > 0.1
    if not (blind | inside).any() and not (one_place and turned):
        return
    remedy = _remedy(poses, intrinsics, scene_radius, record)
    if one_place and turned:
        what = "all cameras stand at one place and look different ways, as inverted poses do"
        yield CameraFault(np.ones(len(poses), bool), what, remedy)
        return
    for wrong, what in (
        (inside, f"the camera stands inside the ball of radius {scene_radius:g} that holds the object"),
        (blind, "the camera does not see the scene"),
    ):
        if wrong.any():
            yield CameraFault(wrong, what, remedy)


def _remedy(poses: NDArray[np.float64], intrinsics: NDArray[Any], scene_radius: float, record: dict[str, Any]) -> str:
    better = better_convention(poses, intrinsics, scene_radius, record)
    if better:
        return f"repack with --camera_convention {better}, {LEAVE_OUT}"
    if "camera_convention" in record and not record.get("normalization"):
        return f"pack it with --normalize if its world is its own, {LEAVE_OUT}"
    return REPACK


def look_at_scene(
    poses: NDArray[np.float64], intrinsics: NDArray[Any], center: NDArray[np.float64], radius: float
) -> tuple[Flags, float]:
    """Which cameras see a ball, and how straight they look at its centre.

    Args:
        poses: [V, 4, 4] camera-to-world, OpenCV axes.
        intrinsics: [V, 4].
        center: of the ball, in the world.
        radius: of the ball.

    Returns:
        bool [V]: the ball is before the camera and its image touches the picture; and the mean cosine between the
        optical axes and the way to the centre.
    """
    in_camera = np.einsum("vij,vi->vj", poses[:, :3, :3], center - poses[:, :3, 3])
    depth = in_camera[:, 2]
    ahead = np.where(depth > 0, depth, 1.0)[:, None]
    place = in_camera[:, :2] / ahead * intrinsics[:, :2] + intrinsics[:, 2:]
    margin = 0.5 + radius / ahead * intrinsics[:, :2]
    straight = depth / np.maximum(np.linalg.norm(in_camera, axis=1), 1e-12)
    return (depth > 0) & (np.abs(place - 0.5) <= margin).all(axis=1), float(straight.mean())


def better_convention(
    poses: NDArray[np.float64], intrinsics: NDArray[Any], scene_radius: float, record: dict[str, Any]
) -> str | None:
    """The convention under which nearly all cameras see the scene; None if there is none, or the scene was rendered.

    The poses in the pack are the file's matrices read as ``record["camera_convention"]``, and perhaps moved into the
    world since. Both are undone, and the matrices read in all other ways; the way whose cameras look straightest at the
    scene is right, unless they see less of it than now.
    """
    recorded = record.get("camera_convention")
    if recorded not in CONVENTIONS:
        return None
    moved = record.get("normalization")
    if not (isinstance(moved, dict) and {"rotation", "center", "scale"} <= moved.keys()):
        moved = None  # of a format that others write
    if moved:
        poses, _ = denormalize_cameras(poses, None, moved)
    matrices = file_matrices(poses, recorded)

    def score(convention: str) -> tuple[float, float]:
        opencv_poses = opencv_camera_to_world(matrices, convention)
        center, radius = (nearest_to_axes(opencv_poses)[0], 0.0) if moved else (np.zeros(3), scene_radius)
        seeing, straight = look_at_scene(opencv_poses, intrinsics, center, radius)
        return straight, float(seeing.mean())

    best = max(CONVENTIONS, key=score)
    return best if best != recorded and score(best)[1] >= NEARLY_ALL else None


def file_matrices(poses: NDArray[np.float64], convention: str) -> NDArray[Any]:
    """What a file of this convention holds for cameras [V, 4, 4]: the inverse of ``opencv_camera_to_world``."""
    turned = poses.copy()
    if convention.startswith("opengl"):
        turned[:, :3, 1:3] *= -1
    return np.linalg.inv(turned) if convention.endswith("_w2c") else turned
