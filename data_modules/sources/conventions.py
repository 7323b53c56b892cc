"""Camera conventions: which way the axes of a file's cameras point, and the way of its matrices.

``opencv``: x right, y down, z forward. ``opengl``, also Blender's: x right, y up, z backward. The matrices are
camera-to-world; with the suffix ``_w2c`` they are world-to-camera.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaled_ig.errors import UsageError

CONVENTIONS = ("opencv", "opengl", "opencv_w2c", "opengl_w2c")
LARGEST = 1e18  # of a camera's numbers: their squares are float32, too
ROTATION_TOLERANCE = 1e-3  # files with few decimals pass, a scaled or skewed camera does not


def require_convention(name: str, where: str) -> str:
    """The convention in lower case.

    Args:
        name: as the user or the file has it.
        where: the option or file that names it, for the message.

    Raises:
        UsageError: it is none of ``CONVENTIONS``.
    """
    if name.lower() not in CONVENTIONS:
        raise UsageError(f"{where}: camera_convention {name!r} is not known: use {', '.join(CONVENTIONS)}")
    return name.lower()


def choose_convention(file: Path, option: str | None, key: str | None, rule: str) -> tuple[str, str]:
    """The user's option wins, then the file's own key, then the rule of the format.

    Args:
        file: for the message.
        option: what the user gave.
        key: what the file says.
        rule: the format's convention.

    Returns:
        The convention, and who decided: ``option``, ``key`` or ``format``.

    Raises:
        UsageError: the convention is not known.
    """
    for name, decided_by in ((option, "option"), (key, "key")):
        if name is not None:
            return require_convention(name, str(file)), decided_by
    return rule, "format"


def read_pose(values: Any, where: str) -> NDArray[np.float64]:
    """A rigid motion from 3x4 or 4x4 numbers, nested or in a row.

    Args:
        values: the file's numbers, row by row.
        where: file and frame, for the message.

    Returns:
        float64 [4, 4].

    Raises:
        UsageError: another count, not finite, or no rotation.
    """
    try:
        numbers = np.array(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if len(numbers) not in (12, 16) or not (np.abs(numbers) < LARGEST).all():
        raise UsageError(f"{where}: its pose is not 3x4 or 4x4 finite numbers: repair it")
    pose = np.eye(4)
    pose[:3] = numbers[:12].reshape(3, 4)
    rotation = pose[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise UsageError(f"{where}: its pose is scaled, skewed or mirrored: export the camera without scale")
    return pose


def opencv_camera_to_world(poses: NDArray[np.float64], convention: str) -> NDArray[np.float64]:
    """Poses of any convention as camera-to-world with OpenCV axes.

    Args:
        poses: [V, 4, 4], rigid.
        convention: one of ``CONVENTIONS``.

    Returns:
        float64 [V, 4, 4].
    """
    turned = poses.copy()
    if convention.endswith("_w2c"):
        turned[:] = np.linalg.inv(poses)
    turned[:, 3] = [0.0, 0.0, 0.0, 1.0]
    if convention.startswith("opengl"):
        turned[:, :3, 1:3] *= -1
    return turned
