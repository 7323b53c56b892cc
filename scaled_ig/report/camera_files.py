"""Cameras of a film from a file: ``transforms.json``, or a camera path that nerfstudio's viewer saves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_modules.sources.conventions import choose_convention, opencv_camera_to_world, read_pose
from data_modules.sources.files import read_json_object, short
from data_modules.sources.lens import read_distortion, read_lens
from scaled_ig.cameras import Cameras
from scaled_ig.errors import UsageError

MOST_FRAMES = 100_000
MOST_PIXELS = 16_384  # of a side


@dataclass(frozen=True)
class CameraFile:
    """What a file says of a film.

    Args:
        cameras: One a frame.
        size: Rows and columns of the images that it speaks of.
        frames_per_second: None where it does not say.
    """

    cameras: Cameras
    size: tuple[int, int]
    frames_per_second: int | None = None

    @classmethod
    def read(cls, path: Path) -> CameraFile:
        """Read a file; places and axes of its cameras are those of the scene's world, and taken as they are.

        Axes are OpenGL's, unless the key ``camera_convention`` or a name such as ``transforms_opencv.json`` says other.

        Raises:
            UsageError: It is no such file, or a camera of it is no pinhole.
        """
        if not path.is_file():
            raise UsageError(f"{path} is no file: give a transforms.json, or a camera path of nerfstudio")
        document = read_json_object(path)
        is_path = "camera_path" in document
        frames = document.get("camera_path" if is_path else "frames")
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise UsageError(f"{path} has neither frames nor a camera_path: give a transforms.json or a camera path")
        if not 0 < len(frames) <= MOST_FRAMES:
            raise UsageError(f"{path} has {len(frames):,} cameras: give 1 to {MOST_FRAMES:,}")
        size = _size(path, document, frames[0], is_path)
        poses, lenses = [], []
        for number, frame in enumerate(frames):
            where = f"{path}, camera {number}"
            if _size(path, document, frame, is_path) != size:
                raise UsageError(f"{where}: its w and h are not those of camera 0: give a file for each size")
            kind = str(frame.get("camera_type") or document.get("camera_type") or "perspective")
            if kind.lower() != "perspective":
                raise UsageError(f"{where}: its camera_type is {short(kind)}, and scenes are rendered by pinholes")
            poses.append(read_pose(frame.get("camera_to_world" if is_path else "transform_matrix"), where))
            lenses.append(_lens_of_path(frame, size, where) if is_path else _lens(frame, document, size, where))
        rule, key = "opencv" if "_opencv" in path.stem else "opengl", document.get("camera_convention")
        convention, _ = choose_convention(path, None, None if key is None else str(key), rule)
        world = torch.from_numpy(opencv_camera_to_world(np.stack(poses), convention)).float()
        rate = document.get("fps") if is_path else None
        is_rate = isinstance(rate, int | float) and 1 <= rate <= 1000
        return cls(Cameras(world, torch.tensor(lenses)), size, round(rate or 0) if is_rate else None)


def _size(path: Path, document: dict[str, Any], frame: dict[str, Any], is_path: bool) -> tuple[int, int]:
    """Rows and columns; square where nobody says."""
    if is_path:
        sides = document.get("render_height", 100), document.get("render_width", document.get("render_height", 100))
    else:
        both = document | frame
        square = 2 * both["cy"] if "cy" in both and "h" not in both else 100
        sides = both.get("h", square), both.get("w", both.get("h", square))
    if not all(isinstance(side, int | float) and 1 <= side <= MOST_PIXELS for side in sides):
        raise UsageError(f"{path}: its images would be {sides[1]!r:.20} x {sides[0]!r:.20} pixels: repair w and h")
    return round(sides[0]), round(sides[1])


def _lens(
    frame: dict[str, Any], document: dict[str, Any], size: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    if read_distortion(document | frame, where) is not None:
        raise UsageError(f"{where}: its lens is distorted, and scenes are rendered by pinholes: remove k1 and the like")
    lens = read_lens(frame, document, size, where)
    if not all(map(math.isfinite, lens)) or min(lens[:2]) <= 0:
        raise UsageError(
            f"{where}: its focal lengths are not above 0, or a value is not finite: repair fl_x, fl_y, cx, cy"
        )
    return lens


def _lens_of_path(frame: dict[str, Any], size: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    """nerfstudio's ``fov`` is the whole vertical angle in degrees."""
    fov = frame.get("fov")
    if not isinstance(fov, int | float) or not 0 < fov < 180:
        raise UsageError(f"{where}: its fov is no angle between 0 and 180 degrees: repair it")
    focal = 0.5 / math.tan(math.radians(fov) / 2)
    return focal * size[0] / size[1], focal, 0.5, 0.5
