"""Distorted images to those of a pinhole, by OpenCV, which comes with ``pip install 'scaled-ig[undistort]'``.

Letters: H rows and W columns of pixels, P points.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scaled_ig.errors import UsageError

BY_HAND = "undistort the images first, e.g. by COLMAP's image_undistorter"
WIDEST, NARROWEST = 0.5, 4.0  # focal length of the pinhole over the lens's own
BORDER_POINTS = 64  # along each side
STEPS = 32  # from the principal point to the border
BISECTIONS = 30


@dataclass(frozen=True)
class Distortion:
    """How a lens differs from a pinhole, as OpenCV defines it.

    Attributes:
        coefficients: k1 k2 p1 p2 k3 k4 k5 k6 of the rational model, or k1 k2 k3 k4 of the fisheye model.
        is_fisheye: the angle, not its tangent, is what the coefficients bend.
    """

    coefficients: tuple[float, ...]
    is_fisheye: bool = False


def undistort(
    image: NDArray[np.uint8], intrinsics: NDArray[np.float64], distortion: Distortion
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The image of a pinhole with the principal point of the lens.

    Its focal lengths are those of the lens times one factor: the least by which the image has no pixel that the lens
    did not see.

    Args:
        image: uint8 [H, W, 3] or [H, W].
        intrinsics: [4], fx / W, fy / H, cx / W, cy / H of the lens; pixel centres at +0.5.
        distortion: of the lens.

    Returns:
        The image, of the same shape, and the intrinsics [4] of the pinhole.

    Raises:
        UsageError: OpenCV is not installed, or no pinhole sees what this lens sees.
    """
    cv2 = _opencv()
    factor, columns, rows = _maps(image.shape[:2], tuple(intrinsics.tolist()), distortion)
    straight = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return straight, intrinsics * (factor, factor, 1.0, 1.0)


def _opencv():
    try:
        import cv2
    except ImportError:
        raise UsageError(
            f"its lens is distorted: install OpenCV (pip install 'scaled-ig[undistort]'), or {BY_HAND}"
        ) from None
    cv2.setNumThreads(1)  # there is a process a core
    return cv2


@lru_cache(maxsize=1)  # images of one lens follow each other; the maps of a large image are large
def _maps(
    size: tuple[int, int], intrinsics: tuple[float, ...], distortion: Distortion
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """Factor on the focal lengths, and the place in the image of every pixel of the pinhole, float32 [H, W] each."""
    height, width = size
    if max(size) >= 1 << 15:
        raise UsageError(f"its lens is distorted, and OpenCV undistorts images of up to 32767 pixels a side: {BY_HAND}")
    fx, fy, cx, cy = np.array(intrinsics) * (width, height, width, height)
    lens = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    factor = _least_factor(size, lens, distortion)
    pinhole = lens * [[factor, 1, 1], [1, factor, 1], [1, 1, 1]]
    for camera in (lens, pinhole):
        camera[:2, 2] -= 0.5  # OpenCV's pixel centres are integers
    cv2, coefficients = _opencv(), np.array(distortion.coefficients)
    module = cv2.fisheye if distortion.is_fisheye else cv2
    columns, rows = module.initUndistortRectifyMap(lens, coefficients, np.eye(3), pinhole, size[::-1], cv2.CV_32FC1)
    return factor, columns, rows


def _least_factor(size: tuple[int, int], lens: NDArray[np.float64], distortion: Distortion) -> float:
    """Bisects for the smallest factor with which all that the pinhole sees is in the image."""
    if not _is_seen(size, lens, distortion, NARROWEST):
        raise UsageError(f"no pinhole sees what its lens sees ({distortion.coefficients}): look at the coefficients")
    low, high = WIDEST, NARROWEST
    if _is_seen(size, lens, distortion, low):
        return low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if _is_seen(size, lens, distortion, middle) else (middle, high)
    return high


def _is_seen(size: tuple[int, int], lens: NDArray[np.float64], distortion: Distortion, factor: float) -> bool:
    """Whether the border of the pinhole's image is in that of the lens, and nothing is folded on the way there."""
    height, width = size
    along, ends = np.linspace(0, 1, BORDER_POINTS), np.ones(BORDER_POINTS)
    sides = [(along, 0 * ends), (along, ends), (0 * ends, along), (ends, along)]
    border = np.concatenate([np.stack(side, 1) for side in sides]) * (width, height)
    focal, middle = lens.diagonal()[:2], lens[:2, 2]
    steps = np.linspace(0, 1, STEPS + 1)[1:, None, None]
    places = _project(steps * (border - middle) / (focal * factor), lens, distortion)
    if not np.isfinite(places).all():
        return False
    outwards = np.diff(np.linalg.norm((places - middle) / focal, axis=-1), axis=0, prepend=0.0) > 0
    return bool(outwards.all() and (places[-1] >= 0).all() and (places[-1] <= (width, height)).all())


def _project(tangents: NDArray[np.float64], lens: NDArray[np.float64], distortion: Distortion) -> NDArray[np.float64]:
    """Where rays (x, y, 1) [..., 2] meet the image of the lens, in pixels [..., 2]."""
    cv2, still = _opencv(), np.zeros(3)
    points = np.concatenate([tangents.reshape(-1, 1, 2), np.ones((tangents.size // 2, 1, 1))], 2)
    coefficients = np.array(distortion.coefficients)
    if distortion.is_fisheye:
        places, _ = cv2.fisheye.projectPoints(points, still, still, lens, coefficients)
    else:
        places, _ = cv2.projectPoints(points, still, still, lens, coefficients)
    return places.reshape(tangents.shape)
