"""Cameras of views as frusta with their pictures in a browser's 3D scene."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scaled_ig.cameras import Cameras
from scaled_ig.viewer.lens import place_of

TRAINED, HELD_OUT = (28, 126, 214), (240, 140, 0)
PICTURE = 128  # pixels of the longer side
SCALE = 0.12  # of a frustum's depth to the cameras' distance; less where there are more than FEW
FEW = 40


def add_frusta(
    client: Any,
    cameras: Cameras,
    pictures: Iterable[NDArray[np.uint8]],
    colours: Sequence[tuple[int, int, int]],
    go: Callable[[int], None],
) -> list[Any]:
    """Add a frustum for each view; their handles.

    Args:
        client: A browser.
        cameras: Of the views.
        pictures: uint8 [H, W, 3] each.
        colours: Of their lines.
        go: Called with the number of a view that is clicked.
    """
    handles = []
    scale = SCALE * min(1.0, FEW / len(cameras)) ** 0.5 * float(cameras.camera_to_world[:, :3, 3].norm(dim=-1).median())
    with client.atomic():
        for number, (picture, colour) in enumerate(zip(pictures, colours, strict=True)):
            position, wxyz = place_of(cameras.camera_to_world[number])
            handle = client.scene.add_camera_frustum(
                f"/views/{number}",
                fov=2 * math.atan(0.5 / float(cameras.intrinsics[number, 1])),
                aspect=picture.shape[1] / picture.shape[0],
                scale=scale,
                color=colour,
                image=_small(picture),
                jpeg_quality=85,
                wxyz=wxyz,
                position=position,
                thickness=0.02 * scale,
                cast_shadow=False,
                receive_shadow=False,
            )
            handle.on_click(lambda _, number=number: go(number))
            handles.append(handle)
    return handles


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    image.thumbnail((PICTURE, PICTURE))
    return np.asarray(image)
