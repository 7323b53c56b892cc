"""Silhouettes: masks from a white background, the visual hull that masks carve out, and masks that contradict it.

A point of the object is seen, or hidden by the object, in every view, so that its pixel belongs to every mask. The
*visual hull* is what no mask cuts away; it holds all of the object. Cells are cut away only where a view sees them
whole and none of their pixels is in the mask, so that a hull of coarse cells holds the object, too.

Letters: V views, H rows and W columns of pixels, G cells along a side of a hull.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 32
HALF_SIDE = 0.5  # of the cube that is carved; objects fill the ball of this radius
DILATION = 1.0  # pixels by which edges and poses may be wrong
WHITE = 250  # JPEG files leave the background a little below 255
# Of 54 vehicles before white, 7 lose 6 to 13 % of their pixels where their paint is white, too. Of their masks, others
# cut away 2.1 to 55 % with 50 views, 0.75 to 28 % with 20; of the four that lose 1 %, 0.1 % and less; of the rest, 0.
# JPEG files of quality 75 bring these up to 0.4 %.
FINE_GRID = 48
MOST_LOST = 0.005

Flags = NDArray[Any]  # bool
Pixels = NDArray[np.float64]  # x and y, [n, 2]


def masks_from_white(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Masks of objects on white: all but the white that is connected with the border of the image.

    White within the object belongs to it, as does the background that is seen through a hole. Where the edge of the
    object is white, a part of it is lost: ask ``lost_share``.

    Args:
        images: uint8 [V, H, W, 3], sRGB; white is 250 or more in every channel.

    Returns:
        uint8 [V, H, W], 0 or 255.
    """
    white = np.asarray((images >= WHITE).all(axis=-1))
    background = np.zeros_like(white)
    for edge in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):
        background[edge] = white[edge]
    num_known = -1
    while num_known < (num_known := int(background.sum())):
        for axis in (1, 2):
            background |= white & _swept(background, white, axis)
            background |= white & np.flip(_swept(np.flip(background, axis), np.flip(white, axis), axis), axis)
    return np.where(background, np.uint8(0), np.uint8(255))


def _swept(reached: Flags, passable: Flags, axis: int) -> Flags:
    """Where one gets from what is reached, on the way along an axis, over what is passable."""
    place = np.arange(reached.shape[axis]).reshape([-1 if a == axis else 1 for a in range(reached.ndim)])
    last_reached = np.maximum.accumulate(np.where(reached, place, -1), axis=axis)
    last_wall = np.maximum.accumulate(np.where(passable, -1, place), axis=axis)
    return last_reached > last_wall


def lost_share(masks: NDArray[np.uint8], camera_to_world: NDArray[Any], intrinsics: NDArray[Any]) -> float:
    """Share of the masks that other masks cut away, mean over views; more than ``MOST_LOST`` means that they are wrong.

    What one mask has lost is cut out of the hull, and missing there where other masks hold it. Arguments as of
    ``visual_hull``.
    """
    hull = visual_hull(masks, camera_to_world, intrinsics, FINE_GRID, 0.0)
    views = zip(masks, camera_to_world, intrinsics, strict=True)
    return float(np.mean([contradicted(*view, hull, 0.0).sum() / max(1, inner(view[0]).sum()) for view in views]))


def visual_hull(
    masks: NDArray[np.uint8],
    camera_to_world: NDArray[Any],
    intrinsics: NDArray[Any],
    grid: int = GRID,
    dilation: float = DILATION,
) -> Flags:
    """The cells that no mask cuts away.

    A view cuts away the cells that it sees whole, where no pixel of the mask lies in the box around the cell's
    projection, widened by ``dilation`` pixels. A cell that holds a point of the object stays.

    Args:
        masks: uint8 [V, H, W], above 0 is object.
        camera_to_world: [V, 4, 4], OpenCV axes.
        intrinsics: [V, 4], fx / W, fy / H, cx / W, cy / H.
        grid: cells G along each side of the cube [-0.5, 0.5]³.
        dilation: pixels by which masks and poses may be wrong.

    Returns:
        bool [G, G, G], along x, y and z.
    """
    carving = Carving(grid, dilation, at_most=1)
    for view, camera in enumerate(zip(camera_to_world, intrinsics, strict=True)):
        carving.cut(view, masks[view], *camera)
    return carving.times == 0


class Carving:
    """The cube as it is carved, view by view.

    Args:
        grid: cells G along each side.
        dilation: pixels by which masks and poses may be wrong.
        at_most: a cell that was cut away so often is not looked at again.

    Attributes:
        times: uint8 [G, G, G], how often each cell was cut away.
        view: int64 [G, G, G], the last view that did it, or -1.
    """

    def __init__(self, grid: int = GRID, dilation: float = DILATION, at_most: int = 2) -> None:
        self.dilation, self.at_most = dilation, at_most
        self.times = np.zeros((grid,) * 3, np.uint8)
        self.view = np.full((grid,) * 3, -1)

    def cut(self, view: int, mask: NDArray[np.uint8], camera_to_world: NDArray[Any], intrinsics: NDArray[Any]) -> None:
        """Cuts away what a view sees outside of its mask [H, W]; its camera is [4, 4] and [4]."""
        cells, size = np.flatnonzero(self.times < self.at_most), (mask.shape[1], mask.shape[0])
        low, high, ahead = _boxes(cells, len(self.times), camera_to_world, intrinsics, size)
        whole = ahead & (low >= 0).all(axis=1) & (high <= size).all(axis=1)
        outside = _sums(mask > 0, low[whole] - self.dilation, high[whole] + self.dilation) == 0
        self.times.flat[cells[whole][outside]] += 1
        self.view.flat[cells[whole][outside]] = view


def contradicted(
    mask: NDArray[np.uint8],
    camera_to_world: NDArray[Any],
    intrinsics: NDArray[Any],
    hull: Flags,
    dilation: float = DILATION,
) -> Flags:
    """Inner pixels of a mask [H, W] at which the cube has a cell and the hull has none: none, where masks are right."""
    camera = camera_to_world, intrinsics, mask.shape, dilation
    lost = inner(mask) & ~shadow(hull, *camera)
    return lost & shadow(np.ones((8, 8, 8), bool), *camera) if lost.any() else lost


def inner(mask: NDArray[np.uint8]) -> Flags:
    """Pixels of a mask whose neighbours are in it, bool [H, W]: edges and specks are not to be relied upon."""
    padded = np.pad(mask > 0, 1, mode="edge")
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    return rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]


def shadow(
    hull: Flags,
    camera_to_world: NDArray[Any],
    intrinsics: NDArray[Any],
    image_size: tuple[int, ...],
    dilation: float = DILATION,
) -> Flags:
    """Pixels bool [H, W] that the boxes around the projections of cells touch, widened by ``dilation``.

    Args:
        hull: bool [G, G, G].
        camera_to_world: [4, 4], OpenCV axes.
        intrinsics: [4].
        image_size: H, W.
        dilation: pixels.
    """
    height, width = image_size
    low, high, ahead = _boxes(np.flatnonzero(hull), len(hull), camera_to_world, intrinsics, (width, height))
    if not ahead.all():  # the camera stands in the hull
        return np.ones((height, width), bool)
    left, right, top, bottom = _edges(low - dilation, high + dilation, (width, height))
    corners = np.zeros((height + 1) * (width + 1))
    for rows, columns, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        corners += sign * np.bincount(rows * (width + 1) + columns, minlength=len(corners))
    return corners.reshape(height + 1, width + 1).cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0.5


def cells_at(
    cells: Flags, pixels: Flags, camera_to_world: NDArray[Any], intrinsics: NDArray[Any], dilation: float = DILATION
) -> NDArray[np.int64]:
    """Which of the cells bool [G, G, G] have some of the pixels bool [H, W] in their boxes: flat numbers, ascending."""
    numbers = np.flatnonzero(cells)
    size = pixels.shape[1], pixels.shape[0]
    low, high, ahead = _boxes(numbers, len(cells), camera_to_world, intrinsics, size)
    return numbers[ahead & (_sums(pixels, low - dilation, high + dilation) > 0)]


def _boxes(
    cells: NDArray[np.int64], grid: int, camera_to_world: NDArray[Any], intrinsics: NDArray[Any], size: tuple[int, int]
) -> tuple[Pixels, Pixels, Flags]:
    """Low and high ends of boxes around the projections of cells; whether cells are before the camera, bool [n]."""
    side = 2 * HALF_SIDE / grid
    centres = (np.stack(np.unravel_index(cells, (grid,) * 3), axis=1) + 0.5) * side - HALF_SIDE
    rotation, place = camera_to_world[:3, :3].astype(np.float64), camera_to_world[:3, 3].astype(np.float64)
    reach = side / 2 * np.abs(rotation).sum(axis=0)  # of a cell from its centre, along the axes of the camera
    points = (centres - place) @ rotation
    near, far = points[:, 2:] - reach[2], points[:, 2:] + reach[2]
    ahead, near, far = near[:, 0] > 1e-6, np.maximum(near, 1e-6), np.maximum(far, 1e-6)
    low, high = points[:, :2] - reach[:2], points[:, :2] + reach[:2]
    low, high = low / np.where(low < 0, near, far), high / np.where(high > 0, near, far)
    return (low * intrinsics[:2] + intrinsics[2:]) * size, (high * intrinsics[:2] + intrinsics[2:]) * size, ahead


def _edges(low: Pixels, high: Pixels, size: tuple[int, int]) -> list[NDArray[np.int64]]:
    """Columns from the first up to and without the last, then rows, of the pixels that boxes touch: four of [n]."""
    first = np.clip(np.floor(low), 0, size).astype(np.int64)
    last = np.clip(np.ceil(high), 0, size).astype(np.int64)
    return [first[:, 0], last[:, 0], first[:, 1], last[:, 1]]


def _sums(values: Flags, low: Pixels, high: Pixels) -> NDArray[np.int64]:
    """How many of the pixels [H, W] that each box touches are set, [n]."""
    left, right, top, bottom = _edges(low, high, (values.shape[1], values.shape[0]))
    table = np.pad(values.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
