"""The renderer R_α: rays → samples → features → head → pixels, of any channel count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaled_ig.cameras import Rays
from scaled_ig.compositing import Composite, composite, interval_weights
from scaled_ig.field_head import FieldHead
from scaled_ig.kernels import Kernel, choose_march
from scaled_ig.kernels.reference import sample_scenes
from scaled_ig.randomness import CounterNoise
from scaled_ig.representations import PlaneRepresentation, SceneRepresentation
from scaled_ig.sampling import SamplingPlan, importance, smooth_weights, stratified


@dataclass(frozen=True)
class Jitter:
    """Where the samples of training rays fall within their bins.

    Args:
        noise: Noise of this step.
        ray_ids: [B, R] long, unique for a ray of the data set.
    """

    noise: CounterNoise
    ray_ids: Tensor


@dataclass(frozen=True)
class Rendering:
    """What rays see.

    Args:
        pixels: [B, R, C] in [-1.002, 1.002].
        accumulation: [B, R] opacity in [0, 1].
        depth: [B, R] distance to what was hit, world units; the far end of the ray where nothing was.
    """

    pixels: Tensor
    accumulation: Tensor
    depth: Tensor


class Renderer(nn.Module):
    """Volume rendering of a scene representation through the shared head.

    Args:
        head: The tiny MLP.
        sampling: Where rays are sampled.
        kernel: Which version of the inner loop reads planes.
    """

    def __init__(self, head: FieldHead, sampling: SamplingPlan, kernel: Kernel = "auto") -> None:
        super().__init__()
        self.head, self.sampling, self.kernel = head, sampling, kernel

    def forward(
        self,
        representation: SceneRepresentation,
        scene_index: Tensor,
        rays: Rays,
        background: Tensor,
        jitter: Jitter | None = None,
    ) -> Rendering:
        """Render views.

        Args:
            representation: The scenes.
            scene_index: [B] long.
            rays: [B, R].
            background: [C] in [-1, 1].
            jitter: Noise in training; None samples the middle of each bin, so that evaluation is deterministic.
        """
        num_views, rays_per_view = rays.origins.shape[:2]
        flat = rays.flatten()
        t_near, t_far = self.sampling.limits(flat)
        # Rays of one scene side by side: its planes are mixed once, and read and written by one thread.
        scenes, slot = scene_index.unique(return_inverse=True)
        order = slot.argsort(stable=True)
        by_scene = (order[:, None] * rays_per_view + torch.arange(rays_per_view, device=order.device)).flatten()
        behind = (background + 1) / 2
        hit = by_scene[(t_far > t_near)[by_scene]]
        density, march = self._field(representation, scenes, slot[hit // rays_per_view], flat[hit], behind)
        own_jitter = None if jitter is None else Jitter(jitter.noise, jitter.ray_ids.flatten()[hit])
        seen = march(self._depths(density, t_near[hit], t_far[hit], own_jitter))

        pixels = behind.expand(len(flat.origins), -1).clone()
        pixels[hit] = seen.pixels
        accumulation, depth = torch.zeros_like(t_far), t_far.detach().clone()
        accumulation[hit], depth[hit] = seen.accumulation, seen.depth
        return Rendering(
            (pixels * 2 - 1).unflatten(0, (num_views, -1)),
            accumulation.unflatten(0, (num_views, -1)),
            depth.unflatten(0, (num_views, -1)),
        )

    def _field(
        self, representation: SceneRepresentation, scenes: Tensor, slot: Tensor, rays: Rays, background: Tensor
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Composite]]:
        """Raw densities at depths [R, S], and the composite, of rays that read ``scenes[slot]``, slot ascending."""
        if not isinstance(representation, PlaneRepresentation):

            def field(t: Tensor) -> tuple[Tensor, Tensor]:
                return self.head(representation(scenes[slot], rays.at(t)))

            return lambda t: field(t)[0], lambda t: composite(*field(t), t, background)

        planes, axes = representation.planes(scenes), representation.axes
        # In the planes' coordinates, where they cover [-1, 1]³; depths stay as they are.
        scaled = Rays(rays.origins / representation.extent, rays.directions / representation.extent)
        march = choose_march(self.kernel, planes, self.head)
        return (
            lambda t: self.head(sample_scenes(planes, slot, scaled.at(t), axes))[0],
            lambda t: march(planes, slot, scaled, t, self.head, background, axes),
        )

    def _depths(
        self, density: Callable[[Tensor], Tensor], t_near: Tensor, t_far: Tensor, jitter: Jitter | None
    ) -> Tensor:
        """Ascending depths [R, S] of the sampling plan; no gradient flows through where samples lie."""

        def noise(count: int, stream: int) -> Tensor | None:
            return None if jitter is None else jitter.noise.uniform(jitter.ray_ids, count, stream)

        first, second = self.sampling.num_first, self.sampling.num_importance
        t = stratified(t_near, t_far, first, noise(first, 0))
        if not second:
            return t
        with torch.no_grad():
            more = importance(t, smooth_weights(interval_weights(density(t), t)), second, noise(second, 1))
        return torch.cat([t, more], 1).sort(1).values
