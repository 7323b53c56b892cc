"""The tiny MLP R_α: features become a raw density and values."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FieldHead(nn.Module):
    """Linear(F, 64) – Softplus – Linear(64, 1 + C); values sigmoid(·)·1.002 − 0.001 (method 3). Shared by all scenes.

    Args:
        feature_channels: F.
        value_channels: C, 4 for Stable Diffusion's latents, 3 for RGB.
        hidden_channels: Width of the hidden layer.
    """

    def __init__(self, feature_channels: int, value_channels: int, hidden_channels: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_channels, hidden_channels)
        self.out = nn.Linear(hidden_channels, 1 + value_channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Raw densities [...] and values [..., C] in [-0.001, 1.001] of features [..., F]."""
        out = self.out(F.softplus(self.hidden(features)))
        return out[..., 0], out[..., 1:].sigmoid() * 1.002 - 0.001
