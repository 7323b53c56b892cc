"""Volume rendering: raw densities and values along rays become pixels of any channel count (method 3).

The papers' mid-point rule: an interval has the mean of the values and of the *raw* densities at its two ends;
σ = softplus(raw − 1), α = 1 − exp(−σδ), w_k = α_k Π_{j<k} (1 − α_j), pixel = Σ w c + (1 − Σ w) · background.
Letters: R rays, S samples of each, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

EMPTY = -10.0
"""Raw density where nothing is: less than 1e-4 of the light is lost on 2 world units."""


@dataclass(frozen=True)
class Composite:
    """Pixels and what they were made of.

    Args:
        pixels: [R, C], in the range of the values.
        accumulation: [R] Σ w, opacity in [0, 1].
        depth: [R] mean depth of what was hit, weighted by w; that of the last sample where nothing was.
    """

    pixels: Tensor
    accumulation: Tensor
    depth: Tensor

    @classmethod
    def join(cls, parts: Iterable[Composite]) -> Composite:
        """Rays of one part after those of another."""
        return cls(*map(torch.cat, zip(*((part.pixels, part.accumulation, part.depth) for part in parts), strict=True)))


def interval_weights(raw_densities: Tensor, t: Tensor) -> Tensor:
    """Weights of the intervals between samples.

    Args:
        raw_densities: [R, S] before the softplus.
        t: [R, S] ascending depths.

    Returns:
        [R, S-1] non-negative; Σ w + transmittance = 1.
    """
    raw = 0.5 * (raw_densities[:, 1:] + raw_densities[:, :-1])
    optical_depth = F.softplus(raw - 1) * (t[:, 1:] - t[:, :-1])
    depth_before = F.pad(torch.cumsum(optical_depth, -1)[:, :-1], (1, 0))
    # exp of a sum equals the product of (1 − α), without its 0/0 in the gradient at α = 1.
    return -torch.expm1(-optical_depth) * torch.exp(-depth_before)


def composite(raw_densities: Tensor, values: Tensor, t: Tensor, background: Tensor) -> Composite:
    """Render rays.

    Args:
        raw_densities: [R, S] before the softplus.
        values: [R, S, C].
        t: [R, S] ascending depths.
        background: [C] value behind everything.
    """
    weights = interval_weights(raw_densities, t)
    accumulation = weights.sum(-1)
    # Half of each interval's weight goes to either end: the same sum as averaging neighbours, at half the work.
    at_samples = 0.5 * (F.pad(weights, (0, 1)) + F.pad(weights, (1, 0)))
    pixels = torch.einsum("rs,rsc->rc", at_samples, values) + (1 - accumulation)[:, None] * background
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    depth = torch.where(accumulation > 1e-3, (weights * middle).sum(-1) / accumulation.clamp(min=1e-3), t[:, -1])
    return Composite(pixels, accumulation, depth)
