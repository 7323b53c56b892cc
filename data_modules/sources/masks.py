"""Which masks a scene of posed images gets: its alpha, what is not white, or none."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import PosedViews, SourceRecord
from data_modules.sources.silhouettes import MOST_LOST, lost_share, masks_from_white
from scaled_ig.errors import UsageError

OPTIONS = ("auto", "none", "from_white")
Mask = NDArray[np.uint8]


def require_option(masks: str) -> str:
    """The option, if it is one.

    Raises:
        UsageError: it is none of ``OPTIONS``.
    """
    if masks not in OPTIONS:
        raise UsageError(f"--masks {masks} is not known: use {', '.join(OPTIONS)}")
    return masks


def choose_masks(
    option: str, views: PosedViews, alphas: Sequence[Mask | None], names: Sequence[str]
) -> tuple[Mask | None, SourceRecord]:
    """Masks of a scene, and what its record says of them.

    Args:
        option: ``auto`` takes the alpha of the images; ``from_white`` does so where there is one, and else what is not
            white; ``none`` takes none.
        views: images on white, with cameras in the world of a pack.
        alphas: of each image, uint8 [H, W]; or None.
        names: of the images, for the record.

    Returns:
        uint8 [V, H, W] or None; and ``masks``: ``alpha``, ``from_white`` or None; with ``masks_refused``, a sentence,
        where there could have been some.
    """
    if option == "none":
        return None, {"masks": None}
    known_alphas = [alpha for alpha in alphas if alpha is not None]
    # Photographs that were saved with an alpha channel are opaque.
    if len(known_alphas) == len(alphas) and any((alpha < 255).any() for alpha in known_alphas):
        return np.stack(known_alphas), {"masks": "alpha"}
    if option == "from_white":
        masks = masks_from_white(views.images)
        refused = _refusal(masks, views)
        return (None, {"masks": None, "masks_refused": refused}) if refused else (masks, {"masks": "from_white"})
    if not known_alphas or len(known_alphas) == len(alphas):
        return None, {"masks": None}
    missing = [name for name, alpha in zip(names, alphas, strict=True) if alpha is None]
    what = f"{len(missing)} of its {len(alphas)} images have no alpha, e.g. {missing[0]}, while the others have"
    return None, {"masks": None, "masks_refused": f"{what}: give all of them alpha, or give --masks from_white"}


def _refusal(masks: Mask, views: PosedViews) -> str | None:
    """Why masks from white are worse than none."""
    empty = np.flatnonzero(~masks.any(axis=(1, 2)))
    if len(empty):
        what = f"all is white in {len(empty)} of its {len(masks)} images, e.g. in view {empty[0]}"
    elif (lost := lost_share(masks, views.camera_to_world, views.intrinsics)) > MOST_LOST:
        what = (
            f"its masks from white contradict each other in {100 * lost:.1f} % of their pixels, since parts of it are "
            "as white as the background, or its cameras are wrong"
        )
    else:
        return None
    return f"{what}: give images with alpha"
