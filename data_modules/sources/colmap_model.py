"""COLMAP's sparse models: cameras and images of ``cameras.bin`` and ``images.bin``, or the same as text.

The formats are those of https://colmap.github.io/format.html. Points are passed over.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.files import short
from data_modules.sources.undistort import BY_HAND
from scaled_ig.documents import read_file
from scaled_ig.errors import UsageError

LARGEST_FILE = 1 << 32  # bytes; points of a thousand photographs take some hundred million
POINT_BYTES = 24
MODELS = (
    ("SIMPLE_PINHOLE", "fl_x cx cy"),
    ("PINHOLE", "fl_x fl_y cx cy"),
    ("SIMPLE_RADIAL", "fl_x cx cy k1"),
    ("RADIAL", "fl_x cx cy k1 k2"),
    ("OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2"),
    ("OPENCV_FISHEYE", "fl_x fl_y cx cy k1 k2 k3 k4"),
    ("FULL_OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    ("FOV", ""),
    ("SIMPLE_RADIAL_FISHEYE", "fl_x cx cy k1"),
    ("RADIAL_FISHEYE", "fl_x cx cy k1 k2"),
)
"""Names of COLMAP's camera models by their number, and their parameters as ``transforms.json`` calls them."""
PARAMETERS = {name: keys.split() for name, keys in MODELS if keys}

T = TypeVar("T")


@dataclass(frozen=True)
class ModelImage:
    """An image of a model.

    Attributes:
        name: of its file, below the folder of images.
        pose: world-to-camera with OpenCV axes, float64 [4, 4].
        camera: number of its camera.
    """

    name: str
    pose: NDArray[np.float64]
    camera: int


def read_cameras(file: Path) -> dict[int, dict[str, Any]]:
    """Cameras of ``cameras.bin`` or ``cameras.txt`` by their numbers, with the keys of ``transforms.json``.

    Raises:
        UsageError: the file is malformed, or a camera is of a model that is not read.
    """
    cameras = dict(_read(file, _binary_cameras, _text_cameras))
    if not cameras:
        raise UsageError(f"{file} has no cameras: repair or remove the model")
    return cameras


def read_images(file: Path) -> list[ModelImage]:
    """Images of ``images.bin`` or ``images.txt`` by name.

    Raises:
        UsageError: the file is malformed, or names an image twice.
    """
    images = sorted(_read(file, _binary_images, _text_images), key=lambda image: image.name)
    for one, other in pairwise(images):
        if one.name == other.name:
            raise UsageError(f"{file} names {short(one.name)} twice: repair the model")
    return images


def _read(
    file: Path, read_binary: Callable[[Path, bytes], Iterator[T]], read_text: Callable[[Path, list[str]], Iterator[T]]
) -> list[T]:
    try:
        content = read_file(file, LARGEST_FILE)
        if file.suffix == ".bin":
            return list(read_binary(file, content))
        lines = content.decode("utf-8-sig").splitlines()
        return list(read_text(file, [line.strip() for line in lines if not line.startswith("#")]))
    except UsageError:
        raise
    except (OSError, ValueError, IndexError, OverflowError, struct.error) as error:
        raise UsageError(f"{file} cannot be read as a model of COLMAP ({error}): restore it") from None


def _binary_cameras(file: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    (count,), place = struct.unpack_from("<Q", content), 8
    for _ in range(count):
        number, model, width, height = struct.unpack_from("<IiQQ", content, place)
        name = MODELS[model][0] if 0 <= model < len(MODELS) else f"number {model}"
        keys = _keys(file, number, name)
        values = struct.unpack_from(f"<{len(keys)}d", content, place + 24)
        place += 24 + 8 * len(keys)
        yield number, _camera(name, width, height, values)
    _require_end(content, place)


def _text_cameras(file: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in filter(None, lines):
        number, name, width, height, *words = line.split()
        if len(words) != len(_keys(file, int(number), name)):
            raise ValueError(f"camera {short(number)} has {len(words)} parameters")
        yield int(number), _camera(name, int(width), int(height), tuple(map(float, words)))


def _keys(file: Path, number: int, name: str) -> list[str]:
    if name not in PARAMETERS:
        raise UsageError(f"{file}: camera {number} is of the model {short(name)}, which is not read: {BY_HAND}")
    return PARAMETERS[name]


def _camera(name: str, width: int, height: int, values: tuple[float, ...]) -> dict[str, Any]:
    return {"camera_model": name, "w": width, "h": height} | dict(zip(PARAMETERS[name], values, strict=True))


def _binary_images(file: Path, content: bytes) -> Iterator[ModelImage]:
    (count,), place = struct.unpack_from("<Q", content), 8
    for _ in range(count):
        _, *numbers, camera = struct.unpack_from("<I7dI", content, place)
        end = content.index(b"\0", place + 64)
        name = content[place + 64 : end].decode()
        (points,) = struct.unpack_from("<Q", content, end + 1)
        place = end + 9 + POINT_BYTES * points
        if place > len(content):
            raise ValueError("it ends too early")
        yield ModelImage(name, _pose(numbers, name), camera)
    _require_end(content, place)


def _require_end(content: bytes, place: int) -> None:
    if place != len(content):
        raise ValueError("it does not end where it should")


def _text_images(file: Path, lines: list[str]) -> Iterator[ModelImage]:
    rest = iter(lines)
    for line in rest:
        if not line:
            continue
        words = line.split(maxsplit=9)
        yield ModelImage(words[9], _pose(list(map(float, words[1:8])), words[9]), int(words[8]))
        next(rest, None)  # its points, or an empty line


def _pose(numbers: list[float], name: str) -> NDArray[np.float64]:
    """The matrix of a quaternion w, x, y, z and a translation."""
    size = math.hypot(*numbers[:4])
    if not 1e-6 < size < 1e6:  # it should be 1
        raise ValueError(f"the pose of {short(name)} is none")
    w, x, y, z = np.array(numbers[:4]) / size
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = numbers[4:]
    return pose
