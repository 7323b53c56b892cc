"""Lens keys of ``transforms.json``: focal lengths, principal points, fields of view, distortion."""

import math
from typing import Any

from data_modules.sources.files import short
from data_modules.sources.undistort import BY_HAND, Distortion
from scaled_ig.errors import UsageError

PERSPECTIVE = ("", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")
FISHEYE = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # in OpenCV's order
IN_A_LIST = ("k1", "k2", "k3", "k4", "p1", "p2")  # nerfstudio's order of distortion_params


def read_lens(
    frame: dict[str, Any], document: dict[str, Any], size: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """Intrinsics of a frame; its own keys win over the document's.

    ``fl_x fl_y cx cy`` in pixels of an image of ``w`` x ``h``, or ``camera_angle_x``, ``camera_angle_y``: the whole
    field of view in radians. One focal length serves both axes, the principal point is the middle if it is not given.

    Args:
        frame: keys of one frame.
        document: keys of the file.
        size: height and width of the image as it is stored.
        where: file and frame, for the message.

    Returns:
        fx / w, fy / h, cx / w, cy / h.

    Raises:
        UsageError: no focal length, a value that is no number, or ``w`` x ``h`` of another shape than the image.
    """
    camera = document | frame
    try:
        width, height = float(camera.get("w", size[1])), float(camera.get("h", size[0]))
        if width <= 0 or height <= 0:
            raise ValueError("w and h must be positive")
        fx = _focal(frame, document, "x", width)
        fy = _focal(frame, document, "y", height)
        cx, cy = float(camera.get("cx", width / 2)), float(camera.get("cy", height / 2))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"{where}: its lens cannot be read ({error}): repair it") from None
    _refuse_other_shape((height, width), size, where)
    focals = [focal for focal in (fx, fy) if focal is not None]
    if not focals:
        raise UsageError(f"{where}: its focal length is not there: give fl_x or camera_angle_x")
    return focals[0] / width, focals[-1] / height, cx / width, cy / height


def read_distortion(camera: dict[str, Any], where: str) -> Distortion | None:
    """How a lens differs from a pinhole, by ``camera_model``, ``is_fisheye``, ``k1`` to ``k6``, ``p1`` and ``p2``.

    A list ``distortion_params`` has nerfstudio's order, k1 k2 k3 k4 p1 p2. Only ``FULL_OPENCV`` divides by 1 + k4 r^2 +
    k5 r^4 + k6 r^6; the other perspective models know no k4.

    Args:
        camera: keys of the file and of the frame.
        where: file and frame, for the message.

    Returns:
        The distortion, or None of a pinhole.

    Raises:
        UsageError: another model, a value that is no number, or one that the model does not know.
    """
    model = str(camera.get("camera_model") or "").upper()
    is_fisheye = model in FISHEYE or bool(camera.get("is_fisheye"))
    if model not in PERSPECTIVE + FISHEYE:
        raise UsageError(f"{where}: its camera is of the model {short(model)}, which is not read: {BY_HAND}")
    values = dict(zip(IN_A_LIST, _listed(camera, where), strict=False)) | camera
    try:
        numbers = {key: float(values.get(key) or 0.0) for key in COEFFICIENTS}
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: its lens cannot be read ({error}): repair it") from None
    read = ("k1", "k2", "k3", "k4") if is_fisheye else COEFFICIENTS if model == "FULL_OPENCV" else COEFFICIENTS[:5]
    for key, number in numbers.items():
        if not math.isfinite(number) or (number and key not in read):
            lens = "fisheye lens" if is_fisheye else f"lens {model}".rstrip()
            raise UsageError(f"{where}: {key} is {number:g}, which its {lens} cannot have: {BY_HAND}")
    coefficients = tuple(numbers[key] for key in (read if is_fisheye else COEFFICIENTS))
    return Distortion(coefficients, is_fisheye) if is_fisheye or any(coefficients) else None


def _listed(camera: dict[str, Any], where: str) -> list[Any]:
    values = camera.get("distortion_params") or []
    if not isinstance(values, list) or len(values) not in (0, len(IN_A_LIST)):
        raise UsageError(f"{where}: its distortion_params must be k1, k2, k3, k4, p1, p2: repair them")
    return values


def read_limits(camera: dict[str, Any], where: str) -> tuple[float, float] | None:
    """``near`` and ``far``: the distances from a camera between which the scene lies; None where there are none.

    Raises:
        UsageError: one without the other, or not 0 <= near < far.
    """
    if "near" not in camera and "far" not in camera:
        return None
    try:
        near, far = float(camera["near"]), float(camera["far"])
    except (KeyError, TypeError, ValueError, OverflowError):
        near, far = math.nan, math.nan
    if not 0 <= near < far < math.inf:
        raise UsageError(f"{where}: its near and far must be two numbers with 0 <= near < far: repair or remove them")
    return near, far


def _focal(frame: dict[str, Any], document: dict[str, Any], axis: str, size: float) -> float | None:
    """Focal length along an axis in pixels."""
    for camera in (frame, document):
        if f"fl_{axis}" in camera:
            return float(camera[f"fl_{axis}"])
        if f"camera_angle_{axis}" in camera:
            return size / (2 * math.tan(float(camera[f"camera_angle_{axis}"]) / 2))
    return None


def _refuse_other_shape(spoken: tuple[float, float], size: tuple[int, int], where: str) -> None:
    """A scaled copy of the image will do; a turned or cropped one has another camera."""
    (height, width), (stored_height, stored_width) = spoken, size
    scaled = min(stored_width / width, stored_height / height)
    if abs(stored_width - width * scaled) > 1.5 or abs(stored_height - height * scaled) > 1.5:
        raise UsageError(
            f"{where}: its w and h speak of {width:g}x{height:g} pixels, the image has {stored_width}x{stored_height}: "
            "repair the keys, or store the image upright"
        )
