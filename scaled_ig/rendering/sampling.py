"""Sampling plans: where along a ray the field is read.

Depths are distances along unit directions. ``u`` is uniform noise in [0, 1); the middle of each bin is used where it
is absent, so that evaluation is deterministic. Letters: R rays, S samples, B bins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.cameras import Rays
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Channels, Distance, Range, Width, checked

SCENE_RADIUS = 0.5  # of the ball that holds every object, world units


def stratified(t_near: Tensor, t_far: Tensor, num_samples: int, u: Tensor | None = None) -> Tensor:
    """One sample in each of ``num_samples`` equal bins.

    Args:
        t_near: [R] start of each ray.
        t_far: [R] end of each ray.
        num_samples: Bins, S.
        u: [R, S] position within the bins, in [0, 1).

    Returns:
        [R, S] ascending depths.
    """
    bins = torch.arange(num_samples, device=t_near.device, dtype=t_near.dtype)
    fraction = (bins + (0.5 if u is None else u.to(t_near.dtype))) / num_samples
    return t_near[:, None] + (t_far - t_near)[:, None] * fraction


def smooth_weights(weights: Tensor) -> Tensor:
    """Widen weights so that importance sampling also looks beside a surface: max-pool 2, average-pool 2, +0.01.

    Args:
        weights: [R, S-1] weights of the intervals between S samples.

    Returns:
        [R, S-1].
    """
    wide = F.max_pool1d(weights[:, None], 2, 1, padding=1)
    return F.avg_pool1d(wide, 2, 1)[:, 0] + 0.01


def importance(edges: Tensor, weights: Tensor, num_samples: int, u: Tensor | None = None) -> Tensor:
    """Samples from the piecewise-constant density that ``weights`` define, by inverse CDF. No gradient.

    Args:
        edges: [R, B+1] ascending bin edges.
        weights: [R, B] non-negative, not all zero.
        num_samples: S.
        u: [R, S] positions within S equal slices of the CDF, in [0, 1).

    Returns:
        [R, S] ascending depths.
    """
    with torch.no_grad():
        cdf = torch.cumsum(weights, -1)
        cdf = F.pad(cdf / cdf[:, -1:], (1, 0))
        # Stratified over the CDF: already sorted, and as many samples in a bin as its weight deserves.
        zero, one = torch.zeros_like(cdf[:, 0]), torch.ones_like(cdf[:, 0])
        target = stratified(zero, one, num_samples, u).clamp(max=1 - 1e-6)
        above = torch.searchsorted(cdf, target, right=True).clamp(1, edges.shape[-1] - 1)
        low, high = cdf.gather(1, above - 1), cdf.gather(1, above)
        start, end = edges.gather(1, above - 1), edges.gather(1, above)
        return start + (end - start) * ((target - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)


class SamplingPlan(ABC):
    """How many samples a ray gets, and where."""

    num_importance: int = 0
    in_hulls: bool = False
    """Whether rays are cut to the visual hulls of their scenes, and samples outside them are not read."""

    @abstractmethod
    def limits(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """First and last depth [R] of each ray; ``t_far < t_near`` for rays that see the background only."""

    @property
    @abstractmethod
    def num_first(self) -> int:
        """Samples of the first pass."""


@checked
class FullRay(SamplingPlan):
    """The papers' plan: samples over a fixed range, then as many by importance (method 3).

    Args:
        num_stratified: Samples of the first pass.
        num_importance: Samples of the second pass, drawn from the first one's weights; 0 for one pass.
        t_near: Start of every ray, world units; None takes what its camera says, or where the ball of radius 0.5
            around the origin begins.
        t_far: End of every ray; None likewise.
    """

    def __init__(
        self,
        num_stratified: Width = 48,
        num_importance: Channels = 48,
        t_near: Annotated[float, Range(0, 1000)] | None = 0.5,
        t_far: Distance | None = 2.1,
    ) -> None:
        if t_near is not None and t_far is not None and t_near >= t_far:
            raise UsageError(f"FullRay.t_far {t_far:g} must be more than t_near {t_near:g}")
        self.num_stratified, self.num_importance, self.t_near, self.t_far = (
            num_stratified,
            num_importance,
            t_near,
            t_far,
        )

    @property
    def num_first(self) -> int:
        return self.num_stratified

    def limits(self, rays: Rays) -> tuple[Tensor, Tensor]:
        distance = rays.origins.norm(dim=-1)
        ball = torch.stack([(distance - SCENE_RADIUS).clamp(min=0), distance + SCENE_RADIUS], -1)
        limits = ball if rays.near_far is None else rays.near_far
        near, far = (
            limits[:, end] if depth is None else torch.full_like(limits[:, end], depth)
            for end, depth in enumerate((self.t_near, self.t_far))
        )
        return near, far


@checked
class InsideBall(SamplingPlan):
    """One pass, only where a ray meets the ball that holds every object; other rays see the background (method 6).

    Args:
        num_samples: Samples per ray.
        radius: Radius of the ball, world units.
    """

    def __init__(self, num_samples: Width = 24, radius: Distance = 0.5) -> None:
        self.num_samples, self.radius = num_samples, radius

    @property
    def num_first(self) -> int:
        return self.num_samples

    def limits(self, rays: Rays) -> tuple[Tensor, Tensor]:
        t_near, t_far = rays.ball_limits(self.radius)
        return t_near.clamp(min=0), t_far  # a camera inside the ball does not see what is behind it


@checked
class InsideHull(InsideBall):
    """One pass, from the first to the last cell of the scene's visual hull that a ray meets (method 6).

    Samples in cells outside the hull are not read. A scene without a hull is sampled in the ball.

    Args:
        num_samples: Samples per ray.
        radius: Radius of the ball that holds every object, world units.
    """

    in_hulls = True

    def __init__(self, num_samples: Width = 16, radius: Distance = 0.5) -> None:
        super().__init__(num_samples, radius)
