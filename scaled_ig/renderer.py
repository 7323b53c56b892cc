"""The renderer R_α: rays → samples → features → head → pixels, of any channel count."""

from __future__ import annotations

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
        seen = self._march(
            representation, scenes, slot[hit // rays_per_view], flat[hit], t_near[hit], t_far[hit], behind,
            None if jitter is None else Jitter(jitter.noise, jitter.ray_ids.flatten()[hit]),
        )  # fmt: skip

        pixels = behind.expand(len(flat.origins), -1).clone()
        pixels[hit] = seen.pixels
        accumulation, depth = torch.zeros_like(t_far), t_far.detach().clone()
        accumulation[hit], depth[hit] = seen.accumulation, seen.depth
        return Rendering(
            (pixels * 2 - 1).unflatten(0, (num_views, -1)),
            accumulation.unflatten(0, (num_views, -1)),
            depth.unflatten(0, (num_views, -1)),
        )

    def _march(
        self, representation: SceneRepresentation, scenes: Tensor, slot: Tensor, rays: Rays, t_near: Tensor, t_far: Tensor,
        background: Tensor, jitter: Jitter | None,
    ) -> Composite:  # fmt: skip
        """Render rays that read ``scenes[slot]``, slot ascending."""

        def noise(count: int, stream: int) -> Tensor | None:
            return None if jitter is None else jitter.noise.uniform(jitter.ray_ids, count, stream)

        t = stratified(t_near, t_far, self.sampling.num_first, noise(self.sampling.num_first, 0))
        if isinstance(representation, PlaneRepresentation):
            planes, axes = representation.planes(scenes), representation.axes
            # In the planes' coordinates, where they cover [-1, 1]³; depths stay as they are.
            scaled = Rays(rays.origins / representation.extent, rays.directions / representation.extent)

            def density(t: Tensor) -> Tensor:
                return self.head(sample_scenes(planes, slot, scaled.at(t), axes))[0]

            def march(t: Tensor) -> Composite:
                return choose_march(self.kernel, planes, self.head)(
                    planes, slot, scaled, t, self.head, background, axes
                )
        else:

            def density(t: Tensor) -> Tensor:
                return self.head(representation(scenes[slot], rays.at(t)))[0]

            def march(t: Tensor) -> Composite:
                densities, values = self.head(representation(scenes[slot], rays.at(t)))
                return composite(densities, values, t, background)

        second = self.sampling.num_importance
        if second:
            with torch.no_grad():
                weights = smooth_weights(interval_weights(density(t), t))[:, 1:-1]
                more = importance(0.5 * (t[:, 1:] + t[:, :-1]), weights, second, noise(second, 1))
            t = torch.cat([t, more], 1).sort(1).values
        return march(t)
