"""Whether views agree on what they share: values carried from one view to its neighbour by known depth.

Images of a scene agree but for sampling and reflections. Latents need not, and it is what a 3D-aware autoencoder is for
(the predecessor's §3.1 and figure 3). Letters: P pairs of views, C channels, h rows and w columns of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.cameras import Cameras

OPAQUE = 0.9
"""Opacity from which on a pixel shows a surface, not its rim."""

TOLERANCE = 0.05
"""Difference of depth at which a point counts as hidden: a twentieth of an object, about a latent pixel."""


@dataclass(frozen=True)
class Surface:
    """What views see of surfaces.

    Args:
        cameras: P cameras.
        depth: [P, h, w] distance along the rays, world units.
        opacity: [P, h, w] in [0, 1].
    """

    cameras: Cameras
    depth: Tensor
    opacity: Tensor


@dataclass(frozen=True)
class Match:
    """Where the pixels of views lie in other views.

    Args:
        places: [P, h, w, 2] x, y; the other image covers [-1, 1].
        visible: [P, h, w] bool, whether both views see this point of a surface.
    """

    places: Tensor
    visible: Tensor

    @classmethod
    def joined(cls, matches: Sequence[Match]) -> Match:
        """Several after another."""
        return cls(*(torch.cat([getattr(match, name) for match in matches]) for name in ("places", "visible")))


def match_pixels(views: Surface, other_views: Surface, tolerance: float = TOLERANCE) -> Match:
    """Carry the pixel centres of views into other views, one by one, by their depth.

    Args:
        views: P views.
        other_views: P views of the same scenes, each beside its own.
        tolerance: Difference of depth at which a point counts as hidden, world units.
    """
    rays = views.cameras.rays((views.depth.shape[1], views.depth.shape[2]))
    points = rays.origins + rays.directions * views.depth.flatten(1)[..., None]
    projected = torch.cat([other_views.cameras[row : row + 1].project(points[row]) for row in range(len(points))])
    distance = (points - other_views.cameras.camera_to_world[:, None, :3, 3]).norm(dim=-1).reshape(views.depth.shape)
    places = (projected[..., :2] * 2 - 1).unflatten(1, views.depth.shape[1:])
    in_front = (projected[..., 2] > 0).reshape(views.depth.shape)
    depth, opacity = _read(torch.stack([other_views.depth, other_views.opacity], 1), places).unbind(1)
    opaque = torch.minimum(views.opacity, opacity.where(places.abs().amax(-1) <= 1, 0.0)) > OPAQUE
    return Match(places, opaque & in_front & ((distance - depth).abs() < tolerance))


def disagreement(values: Tensor, other_values: Tensor, match: Match) -> Tensor:
    """How far values are from those at the same points in other views: 0 where they are equal, 1 for unrelated ones.

    One minus Lin's concordance: the mean squared difference, divided by what it would be if the pixels of each pair of
    views were dealt out anew. It stays the same when a channel is scaled or shifted, so that latent spaces compare.

    Args:
        values: [P, C, h, w].
        other_values: [P, C, h, w] of the other views.
        match: Of their pixels.

    Returns:
        [C]; 0 of a channel that does not vary.
    """
    visible = match.visible[:, None].to(values.dtype)
    count = visible.sum((2, 3), keepdim=True).clamp(min=1)
    carried = _read(other_values, match.places)
    mean, mean_carried = ((image * visible).sum((2, 3), keepdim=True) / count for image in (values, carried))
    squared = (values - carried).square()
    unrelated = (values - mean).square() + (carried - mean_carried).square() + (mean - mean_carried).square()
    # The mean of equal values is not exactly that value.
    rounding = torch.finfo(values.dtype).eps * (values.square() * visible).sum((0, 2, 3))
    most = torch.maximum((unrelated * visible).sum((0, 2, 3)), rounding).clamp(min=1e-30)
    return (squared * visible).sum((0, 2, 3)) / most


def consistent_part(values: Tensor, other_values: Tensor, match: Match) -> Tensor:
    """A view in which each pixel is the mean over other views that see the same point; its own where none does.

    Args:
        values: [C, h, w] of the view.
        other_values: [P, C, h, w] of others; a view that is among them counts as they do.
        match: Of the view's pixels in each of them.

    Returns:
        [C, h, w]. Carrying is bilinear, and so a little blurred.
    """
    visible = match.visible[:, None].to(values.dtype)
    count = visible.sum(0)
    mean = (_read(other_values, match.places) * visible).sum(0) / count.clamp(min=1)
    return torch.where(count > 0, mean, values)


def _read(images: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples [P, C, h, w]; beyond the rim, its pixels."""
    return F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)
