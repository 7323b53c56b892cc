"""One picture of a browser's window: what is wanted, how large it is drawn, and the truth in its middle.

Letters: H rows and W columns of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from scaled_ig.cameras import PAPER_FOCAL, Cameras
from scaled_ig.report.pictures import Picture
from scaled_ig.viewer import lens
from scaled_ig.viewer.scenes import Look

MOST_SIDE = 1024  # pixels of the shorter side of a picture


@dataclass(frozen=True)
class Wish:
    """What a browser wants to see.

    Args:
        look: Of which scene.
        cameras: From where: one camera, of the whole window.
        window: Rows and columns of the window.
        truth: A picture uint8 [H, W, 3] over the middle of the window, None for none.
        share: Of the truth, in [0, 1].
        is_split: Whether the truth is on the left, and not mixed in.
    """

    look: Look
    cameras: Cameras
    window: tuple[int, int]
    truth: Picture | None = None
    share: float = 0.0
    is_split: bool = False


def size_of(wish: Wish, image_size: tuple[int, int], factor: int, is_rgb: bool, side: int) -> tuple[int, int]:
    """Rows and columns of the picture of a wish.

    Scenes in pixels are drawn at any size. Decoders know objects at one size, so that latents are as large in the
    picture as they were in training.

    Args:
        wish: The wish.
        image_size: Rows and columns of the model's images.
        factor: By which they are larger than latents.
        is_rgb: Whether there are no latents.
        side: Of a square with as many pixels as there is time for.
    """
    aspect = wish.window[1] / wish.window[0]
    if is_rgb:
        rows = min(side / aspect**0.5, wish.window[0], MOST_SIDE * max(1.0, 1 / aspect))
    else:
        focal = wish.cameras.intrinsics[0, 1]
        rows = PAPER_FOCAL * min(image_size) / float(focal)
    return max(factor, round(rows / factor) * factor), max(factor, round(rows * aspect / factor) * factor)


def with_truth(picture: Picture, wish: Wish) -> Picture:
    """The picture of a wish with the truth in its middle."""
    if wish.truth is None:
        return picture
    rows, columns = picture.shape[:2]
    height, width = lens.frame_in_window(wish.truth.shape[:2], wish.window[1] / wish.window[0])
    height, width = round(height * rows), round(width * columns)
    top, left = (rows - height) // 2, (columns - width) // 2
    truth = np.asarray(Image.fromarray(wish.truth).resize((width, height), Image.Resampling.BILINEAR))
    share = np.arange(width)[None, :, None] < wish.share * width if wish.is_split else wish.share
    frame = picture[top : top + height, left : left + width]
    painted = picture.copy()
    painted[top : top + height, left : left + width] = (frame + share * (truth.astype(float) - frame)).round()
    return painted
