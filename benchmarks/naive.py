"""The method as one would write it down first: the thing to beat.

Micro-Macro tri-planes under latent supervision, dense, unfused and uncached: every view mixes planes of its own, even
where others show the same scene; features, hidden activations and colours of all samples of all views are tensors;
both passes go through the whole head; and the scenes are one table with a dense gradient, stepped by Adam over all of
them. Written from the equations (docs/method.md 2, 3 and 5). The latents are given: a cache that is read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scaled_ig.cameras import Rays
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

T_NEAR, T_FAR = 0.5, 2.1


class NaiveScenes(nn.Module):
    """All scenes, what they share, and the renderer.

    Args:
        model: Whose parameters to start from; its scenes are Micro-Macro planes.
    """

    background: Tensor

    def __init__(self, model: SceneModel) -> None:
        super().__init__()
        scenes, head = model.representation, model.renderer.head
        assert isinstance(scenes, MicroMacro)
        assert scenes.micro is not None
        assert scenes.mixing is not None
        self.axes, self.extent = scenes.axes, scenes.extent
        self.micro = nn.Parameter(channels_first(scenes.micro.weight))  # [N, 3, F_mic, K, K]
        self.mixing = nn.Parameter(scenes.mixing.weight.detach().clone())  # [N, M]
        self.bases = nn.Parameter(channels_first(scenes.bases))  # [M, 3, F_mac, K, K]
        self.hidden = nn.Linear(head.hidden.in_features, head.hidden.out_features)
        self.out = nn.Linear(head.out.in_features, head.out.out_features)
        self.hidden.load_state_dict(head.hidden.state_dict())
        self.out.load_state_dict(head.out.state_dict())
        self.register_buffer("background", (model.background.detach() + 1) / 2)

    def planes(self, scene_index: Tensor) -> Tensor:
        """Planes [B, 3, F, K, K] of every view."""
        macro = torch.einsum("bm,mpfyx->bpfyx", self.mixing[scene_index], self.bases)
        return torch.cat([self.micro[scene_index], macro], 2)

    def field(self, planes: Tensor, rays: Rays, t: Tensor) -> tuple[Tensor, Tensor]:
        """Raw densities [B, R, S, 1] and values [B, R, S, C] at depths [B, R, S]."""
        views, num_rays, samples = t.shape
        points = rays.origins[:, :, None] + t[..., None] * rays.directions[:, :, None]
        points = points.reshape(views, 1, -1, 3) / self.extent
        grid = torch.stack([points[..., list(pair)] for pair in self.axes], 1)  # [B, 3, 1, R·S, 2]
        features = F.grid_sample(
            planes.flatten(0, 1), grid.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False
        )
        features = features.view(views, 3, -1, num_rays * samples).permute(0, 1, 3, 2).sum(1)
        out = self.out(F.softplus(self.hidden(features))).view(views, num_rays, samples, -1)
        return out[..., :1], out[..., 1:].sigmoid() * 1.002 - 0.001

    def forward(self, scene_index: Tensor, rays: Rays, u: tuple[Tensor, Tensor]) -> Tensor:
        """Latent pixels.

        Args:
            scene_index: [B] long.
            rays: [B, R].
            u: [B, R, 48] each, where samples of the two passes lie within their bins, in [0, 1).

        Returns:
            [B, R, C] in [-1, 1].
        """
        planes = self.planes(scene_index)
        first = T_NEAR + (T_FAR - T_NEAR) * _stratify(u[0])
        density, value = self.field(planes, rays, first)
        _, weights = composite(density, value, first)
        second = importance(first, weights, u[1])
        fine_density, fine_value = self.field(planes, rays, second)
        t, order = torch.sort(torch.cat([first, second], -1), -1)
        density = torch.cat([density, fine_density], 2).gather(2, order[..., None])
        value = torch.cat([value, fine_value], 2)
        value = value.gather(2, order[..., None].expand_as(value))
        seen, weights = composite(density, value, t)
        return (seen + (1 - weights.sum(-1, keepdim=True)) * self.background) * 2 - 1

    def loss(self, scene_index: Tensor, rays: Rays, u: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """Mean squared error against latent pixels [B, R, C]."""
        return F.mse_loss(self(scene_index, rays, u), target)


def _stratify(u: Tensor) -> Tensor:
    """Positions in [0, 1) of one sample in each of S equal bins, from those within the bins [..., S]."""
    return (torch.arange(u.shape[-1], device=u.device) + u) / u.shape[-1]


def composite(density: Tensor, value: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Colours [B, R, C] without background, and weights [B, R, S-1], of raw densities and values at depths t."""
    delta = t[..., 1:] - t[..., :-1]
    density = F.softplus((density[:, :, :-1, 0] + density[:, :, 1:, 0]) / 2 - 1)
    value = (value[:, :, :-1] + value[:, :, 1:]) / 2
    alpha = 1 - torch.exp(-density * delta)
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha + 1e-10], -1), -1)[..., :-1]
    weights = alpha * through
    return (weights[..., None] * value).sum(2), weights


@torch.no_grad()
def importance(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Depths [B, R, S] drawn from the first pass's weights [B, R, S'-1] between its depths t [B, R, S']."""
    wide = F.avg_pool1d(F.max_pool1d(weights.flatten(0, 1)[:, None], 2, 1, padding=1), 2, 1) + 0.01
    pdf = wide[:, 0] / wide[:, 0].sum(-1, keepdim=True)
    cdf = F.pad(pdf.cumsum(-1), (1, 0))
    wanted, edges = _stratify(u).flatten(0, 1).clamp(max=1 - 1e-6), t.flatten(0, 1)
    above = torch.searchsorted(cdf, wanted, right=True).clamp(1, cdf.shape[-1] - 1)
    below = above - 1
    part = (wanted - cdf.gather(1, below)) / (cdf.gather(1, above) - cdf.gather(1, below)).clamp(min=1e-8)
    depth = edges.gather(1, below) + part * (edges.gather(1, above) - edges.gather(1, below))
    return depth.view(*t.shape[:2], -1)


def channels_first(planes: Tensor) -> Tensor:
    """[..., K, K, F] → a copy [..., F, K, K]."""
    return planes.detach().movedim(-1, -3).contiguous()
