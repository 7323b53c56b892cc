"""Cameras of browsers and cameras of views.

A browser's window has any shape. The frame of a view stands in the middle of it, as large as it fits.
Letters: H rows and W columns of a view.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaled_ig.cameras import Cameras

PHONE = 576  # pixels of width up to which the panel lies over the lower part of the window
MOVED = 1e-3  # world units, and parts of a unit quaternion


def camera_of(camera: Any) -> Cameras:
    """What a browser's window sees; ``camera`` is a ``viser.CameraHandle``."""
    from viser.transforms import SO3

    focal = 0.5 / math.tan(camera.fov / 2)
    pose = torch.eye(4)
    pose[:3, :3] = torch.from_numpy(SO3(camera.wxyz).as_matrix())
    pose[:3, 3] = torch.as_tensor(camera.position)
    return Cameras(pose[None], torch.tensor([[focal / camera.aspect, focal, 0.5, 0.5]]))


def is_phone(camera: Any) -> bool:
    """Whether the panel covers what is looked at, so that its folders are closed at first."""
    return bool(camera.image_width <= PHONE)


def frame_in_window(size: tuple[int, int], aspect: float) -> tuple[float, float]:
    """Parts of the height and of the width of a window that the frame of a view takes.

    Args:
        size: H, W.
        aspect: Width over height of the window.
    """
    frame = size[1] / size[0]
    return min(1.0, aspect / frame), min(1.0, frame / aspect)


def window_around(view: Cameras, size: tuple[int, int], aspect: float) -> Cameras:
    """The camera of a whole window in whose middle a view stands.

    Args:
        view: One camera.
        size: H, W of the view.
        aspect: Width over height of the window.
    """
    height, width = frame_in_window(size, aspect)
    part = torch.tensor([width, height, width, height])
    margin = torch.tensor([0.0, 0.0, (1 - width) / 2, (1 - height) / 2])
    return Cameras(view.camera_to_world, view.intrinsics * part + margin)


def go_to(client: Any, view: Cameras, size: tuple[int, int]) -> None:
    """Put a browser's camera where a view was taken from, its frame in the middle of the window."""
    window = window_around(view, size, client.camera.aspect)
    position, wxyz = place_of(view.camera_to_world[0])
    forward = view.camera_to_world[0, :3, 2].double().numpy()
    depth = max(float(-position @ forward), 0.1)  # it goes on around the point of its axis next to the middle
    with client.atomic():
        client.camera.fov = 2 * math.atan(0.5 / float(window.intrinsics[0, 1]))
        client.camera.position = position
        client.camera.look_at = position + depth * forward
        client.camera.wxyz = wxyz


def is_at(camera: Any, view: Cameras) -> bool:
    """Whether a browser's camera stands where a view was taken from."""
    position, wxyz = place_of(view.camera_to_world[0])
    turn = min(np.abs(camera.wxyz - wxyz).max(), np.abs(camera.wxyz + wxyz).max())
    return bool(np.abs(camera.position - position).max() < MOVED and turn < MOVED)


def place_of(pose: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Position and quaternion, w first, of a pose [4, 4]."""
    from viser.transforms import SO3

    matrix = pose.double().numpy()
    return matrix[:3, 3], SO3.from_matrix(matrix[:3, :3]).wxyz


def nearest(cameras: Cameras, position: Any) -> int:
    """Which camera looks at the middle from most nearly the same side as from a position [3]."""
    directions = torch.nn.functional.normalize(cameras.camera_to_world[:, :3, 3].double(), dim=-1)
    return int((directions @ torch.as_tensor(position, dtype=torch.float64)).argmax())
