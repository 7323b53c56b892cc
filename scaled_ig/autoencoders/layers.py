"""Pieces that several networks are built of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))) of [B, channels, h, w], the identity at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = _zero_convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


def residual_network(inputs: int, outputs: int, width: int, blocks: int) -> nn.Sequential:
    """A convolutional network that starts as zero."""
    body = (Residual(width) for _ in range(blocks))
    return nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), *body, nn.SiLU(), _zero_convolution(width, outputs))


def _zero_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
