"""What is wrong with the masks of a scene, each by itself and beside the others."""

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from data_modules.checking.cameras import CameraFault, Flags
from data_modules.checking.findings import LEAVE_OUT
from data_modules.processes import BEAT
from data_modules.sources.base import PosedViews
from data_modules.sources.silhouettes import HALF_SIDE, Carving, cells_at, contradicted, inner, shadow

MASKS = f"repair its masks, or pack it with --masks none, {LEAVE_OUT}"
MOST_CONTRADICTED = 0.01  # of a mask
MOST_SUSPECTS = 4


def mask_faults(views: PosedViews) -> Iterator[CameraFault]:
    """Views whose mask holds nothing, although something is shown, or everything."""
    if views.masks is None:
        return
    covered = views.masks > 0
    shown = (views.images < 255).any(axis=(1, 2, 3))
    for wrong, what in (
        (~covered.any(axis=(1, 2)) & shown, "the mask is empty, though something is shown"),
        (covered.all(axis=(1, 2)), "the mask is full, as if the object covered the whole picture"),
    ):
        if wrong.any():
            yield CameraFault(np.asarray(wrong), what, MASKS)


def contradiction_faults(views: PosedViews, scene_radius: float) -> Generator[str, None, list[CameraFault]]:
    """Views whose masks contradict those of the others.

    The hull of all masks must lie behind each of them. Where a part of one has nothing behind it, another has cut away
    what it holds. The view without which most pixels of all masks come back is wrong; the others are looked at again.

    Args:
        views: with masks, and nothing else that is wrong with them.
        scene_radius: radius of the ball around the origin that holds the object.

    Yields:
        ``BEAT``, after each view that was looked at.

    Returns:
        One fault, or none. Where more than four views would have to be left out, nobody can say which are right.
    """
    assert views.masks is not None
    poses = views.camera_to_world.astype(np.float64)
    poses[:, :3, 3] *= HALF_SIDE / scene_radius
    wrong: Flags = np.zeros(len(poses), bool)
    while wrong.sum() <= MOST_SUSPECTS:
        carving, trusted = Carving(), np.flatnonzero(~wrong).tolist()
        for view in trusted:
            carving.cut(view, views.masks[view], poses[view], views.intrinsics[view])
            yield BEAT
        pixels = np.zeros(len(poses))
        for view in trusted:
            _count(pixels, carving, view, views.masks[view], poses[view], views.intrinsics[view])
            yield BEAT
        if not pixels.any():
            what = "the mask contradicts those of the other views, as if it were shifted, mirrored or cut off"
            return [CameraFault(wrong, what, MASKS)] if wrong.any() else []
        wrong[pixels.argmax()] = True
    return [CameraFault(np.ones(len(poses), bool), "the masks contradict each other", MASKS)]


def _count(
    pixels: NDArray[np.float64],
    carving: Carving,
    view: int,
    mask: NDArray[np.uint8],
    pose: NDArray[np.float64],
    intrinsics: NDArray[np.float32],
) -> None:
    """Adds to ``pixels`` [V] how many contradicted pixels of a view's mask come back without each of the views."""
    lost = contradicted(mask, pose, intrinsics, carving.times == 0)
    if lost.sum() <= MOST_CONTRADICTED * inner(mask).sum():
        return
    pixels[view] += lost.sum()
    once = carving.times == 1
    for other in np.unique(carving.view.flat[cells_at(once, lost, pose, intrinsics)]):
        if other != view:
            back = shadow(once & (carving.view == other), pose, intrinsics, mask.shape)
            pixels[other] += (lost & back).sum()
