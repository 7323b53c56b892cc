"""The renderer R_α: rays → samples → features → head → pixels, of any channel count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaled_ig.cameras import Rays
from scaled_ig.compositing import Composite, composite, interval_weights
from scaled_ig.field_head import FieldHead
from scaled_ig.kernels import Kernel, sample_scene_planes
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
        hit = by_scene[(t_far > t_near)[by_scene]]
        read = self._reader(representation, scenes, slot[hit // rays_per_view])
        ids = None if jitter is None else jitter.ray_ids.flatten()[hit]
        noise = None if jitter is None else jitter.noise
        behind = (background + 1) / 2
        seen = self._march(read, flat[hit], t_near[hit], t_far[hit], behind, noise, ids)

        pixels = behind.expand(len(flat.origins), -1).clone()
        pixels[hit] = seen.pixels
        accumulation, depth = torch.zeros_like(t_far), t_far.detach().clone()
        accumulation[hit], depth[hit] = seen.accumulation, seen.depth
        return Rendering(
            (pixels * 2 - 1).unflatten(0, (num_views, -1)),
            accumulation.unflatten(0, (num_views, -1)),
            depth.unflatten(0, (num_views, -1)),
        )

    def _reader(self, representation: SceneRepresentation, scenes: Tensor, slot: Tensor):
        """A function from positions [N, P, 3] to features, for rays that belong to ``scenes[slot]``, slot ascending."""
        if not isinstance(representation, PlaneRepresentation):
            return lambda positions: representation(scenes[slot], positions)
        planes = representation.planes(scenes)
        sample = sample_scene_planes(self.kernel, planes)
        return lambda positions: sample(planes, slot, positions / representation.extent, representation.axes)

    def _march(self, read, rays: Rays, t_near, t_far, background, noise: CounterNoise | None, ids) -> Composite:
        def uniform(count: int, stream: int) -> Tensor | None:
            return None if noise is None else noise.uniform(ids, count, stream)

        def field(t: Tensor) -> tuple[Tensor, Tensor]:
            return self.head(read(rays.origins[:, None] + t[..., None] * rays.directions[:, None]))

        first = self.sampling.num_first
        t = stratified(t_near, t_far, first, uniform(first, 0))
        densities, values = field(t)
        second = self.sampling.num_importance
        if second:
            weights = smooth_weights(interval_weights(densities.detach(), t))[:, 1:-1]
            more = importance(0.5 * (t[:, 1:] + t[:, :-1]), weights, second, uniform(second, 1))
            more_densities, more_values = field(more)
            t, order = torch.cat([t, more], 1).sort(1)
            densities = torch.cat([densities, more_densities], 1).gather(1, order)
            values = torch.cat([values, more_values], 1).gather(1, order[..., None].expand(-1, -1, values.shape[-1]))
        return composite(densities, values, t, background)
