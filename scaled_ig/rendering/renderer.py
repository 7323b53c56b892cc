"""The renderer R_α: rays → samples → features → head → pixels, of any channel count.

Letters: B views, R rays of each, C channels, S samples of a ray; H of all rays meet something.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scaled_ig.cameras import Rays
from scaled_ig.randomness import CounterNoise, Stream
from scaled_ig.rendering.compositing import EMPTY, Composite
from scaled_ig.rendering.field_head import FieldHead, SceneHeads
from scaled_ig.rendering.fields import Field, Planes, Points
from scaled_ig.rendering.kernels import KernelChoice, choose_kernel
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.rendering.sampling import SamplingPlan, stratified
from scaled_ig.representations import PlaneRepresentation, SceneRepresentation
from scaled_ig.representations.occupancy import Hulls

TablePrecision = Literal["float32", "bfloat16"]


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
class Opacity:
    """What is known of the opacity of rays, by silhouettes.

    Args:
        coverage: [B, R] part of the pixel that the object covers, in [0, 1]; negative where nothing is known.
        weight: Of its squared error, beside that of one channel of the pixels in [0, 1].
    """

    coverage: Tensor
    weight: float


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
    """Volume rendering of a scene representation through the field head.

    Args:
        head: The tiny MLP of all scenes; where they have heads of their own, one of the same sizes.
        sampling: Where rays are sampled.
        kernel: Which version of the inner loop reads planes.
        table_precision: What planes are rounded to before they are read; parameters and sums of gradients stay float32.
            The fast CUDA kernel reads planes of this type, and autograd rounds their gradient to it once.
    """

    def __init__(
        self,
        head: FieldHead,
        sampling: SamplingPlan,
        kernel: KernelChoice = "auto",
        table_precision: TablePrecision = "float32",
    ) -> None:
        super().__init__()
        self.head, self.sampling, self.kernel, self.table_precision = head, sampling, kernel, table_precision

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
        background = (background + 1) / 2
        hits, t, field, t_far = self._cast(representation, scene_index, rays, background, jitter)
        composite = field.march(t)
        pixels = background.expand(len(t_far), -1).clone()
        pixels[hits] = composite.pixels
        accumulation, depth = torch.zeros_like(t_far), t_far.detach().clone()
        accumulation[hits], depth[hits] = composite.accumulation, composite.depth
        num_views = len(scene_index)
        return Rendering(
            (pixels * 2 - 1).unflatten(0, (num_views, -1)),
            accumulation.unflatten(0, (num_views, -1)),
            depth.unflatten(0, (num_views, -1)),
        )

    def squared_error(
        self,
        representation: SceneRepresentation,
        scene_index: Tensor,
        rays: Rays,
        background: Tensor,
        target: Tensor,
        jitter: Jitter | None = None,
        opacity: Opacity | None = None,
    ) -> Tensor:
        """Mean squared error of the pixels of :meth:`forward`; cheaper than by way of them.

        No gradient flows to target and background.

        Args:
            representation: As in :meth:`forward`.
            scene_index: ...
            rays: ...
            background: ...
            target: [B, R, C] in [-1, 1].
            jitter: ...
            opacity: What rays should end in, whose error is added.
        """
        background, pixels = (background.detach() + 1) / 2, (target.detach().flatten(0, 1) + 1) / 2
        hits, t, field, t_far = self._cast(representation, scene_index, rays, background, jitter)
        ray_targets = Target(pixels, 4 / pixels.numel())
        if opacity is not None:
            ray_targets = replace(ray_targets, opacity=opacity.coverage.flatten(), opacity_weight=opacity.weight)
        misses = torch.ones_like(t_far, dtype=torch.bool)
        misses[hits] = False
        zeros = torch.zeros_like(t_far[misses])  # rays that see the background only
        error_of_misses = ray_targets[misses].error(Composite(background.expand(len(zeros), -1), zeros, zeros))
        return field.squared_error(t, ray_targets[hits]) + error_of_misses

    @torch.no_grad()
    def raw_densities(self, representation: SceneRepresentation, scene_index: Tensor, positions: Tensor) -> Tensor:
        """Raw densities [S, P] at positions [S, P, 3], world units, of scenes [S] long; without a gradient."""
        return self._head(representation, scene_index)(representation(scene_index, positions))[0]

    @torch.no_grad()
    def densities(self, representation: SceneRepresentation, scene_index: Tensor, positions: Tensor) -> Tensor:
        """Densities [S, P] per world unit at positions [S, P, 3] of scenes [S] long, as rays read them; no gradient.

        They are 0 where rays read nothing: outside a hull, or where the scene says that it is empty.
        """
        points = positions.flatten(0, 1)
        slot = torch.arange(len(positions), device=points.device).repeat_interleave(positions.shape[1])
        # A ray of one sample for each point: the kernel that renders is many times faster than the head over features.
        rays = Rays(points, torch.zeros_like(points))
        background = points.new_zeros(self.head.out.out_features - 1)
        field = self._field(representation, scene_index, slot, rays, background, representation.hulls(scene_index))
        raw = field.densities(points.new_zeros(len(points), 1))
        return torch.where(raw > EMPTY, F.softplus(raw - 1), 0).view(positions.shape[:2])

    def _cast(
        self,
        representation: SceneRepresentation,
        scene_index: Tensor,
        rays: Rays,
        background: Tensor,
        jitter: Jitter | None,
    ) -> tuple[Tensor, Tensor, Field, Tensor]:
        """Places [H] of the rays that meet something, their depths [H, S], what they meet, and the end of every ray."""
        rays_per_view = rays.origins.shape[1]
        flat = rays.flatten()
        t_near, t_far = self.sampling.limits(flat)
        scenes, slot = scene_index.unique(return_inverse=True)
        hulls, end = representation.hulls(scenes), t_far
        if hulls is not None:
            first, last = hulls.limits(slot.repeat_interleave(rays_per_view), flat)
            t_near, t_far = torch.maximum(t_near, first), torch.minimum(t_far, last)
        # Rays of one scene side by side: its planes are mixed once, and read and written by one thread.
        order = slot.argsort(stable=True)
        by_scene = (order[:, None] * rays_per_view + torch.arange(rays_per_view, device=order.device)).flatten()
        hits = by_scene[(t_far > t_near)[by_scene]]
        field = self._field(representation, scenes, slot[hits // rays_per_view], flat[hits], background, hulls)
        hit_jitter = None if jitter is None else Jitter(jitter.noise, jitter.ray_ids.flatten()[hits])
        return hits, self._depths(field, t_near[hits], t_far[hits], hit_jitter), field, end

    def _field(
        self,
        representation: SceneRepresentation,
        scenes: Tensor,
        slot: Tensor,
        rays: Rays,
        background: Tensor,
        hulls: Hulls | None,
    ) -> Field:
        """What rays meet that read ``scenes[slot]``."""
        head = self._head(representation, scenes)
        if not isinstance(representation, PlaneRepresentation):
            return Points(representation, scenes, slot, rays, head, background, hulls)
        planes = representation.planes(scenes)
        # In the planes' coordinates, where they cover [-1, 1]³; depths stay as they are.
        rays_in_planes = Rays(rays.origins / representation.extent, rays.directions / representation.extent)
        kernel = choose_kernel(self.kernel, planes, self.head)
        if self.table_precision == "bfloat16":
            rounded = planes.bfloat16()
            # Else straight through: the sum is exact, and the gradient not rounded.
            planes = rounded if kernel.serves(rounded, self.head) else planes + (rounded - planes).detach()
        field = Planes(
            kernel,
            PlaneRays(
                planes, slot, rays_in_planes, self.head, background, representation.axes, hulls, representation.extent
            ),
        )
        return field.split(head) if isinstance(head, SceneHeads) else field

    def _head(self, representation: SceneRepresentation, scenes: Tensor) -> FieldHead | SceneHeads:
        """The head of all scenes, or those of ``scenes``."""
        head_rows = representation.head
        return self.head if head_rows is None else SceneHeads(self.head, head_rows(scenes))

    def _depths(self, field: Field, t_near: Tensor, t_far: Tensor, jitter: Jitter | None) -> Tensor:
        """Ascending depths [R, S] of the sampling plan; no gradient flows through where samples lie."""

        def noise(count: int, stream: Stream) -> Tensor | None:
            return None if jitter is None else jitter.noise.uniform(jitter.ray_ids, count, stream)

        first, second = self.sampling.num_first, self.sampling.num_importance
        t = stratified(t_near, t_far, first, noise(first, Stream.SAMPLES))
        if not second:
            return t
        return field.resample(t, field.densities(t), second, noise(second, Stream.IMPORTANCE))
