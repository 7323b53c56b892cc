"""The tiny MLP R_α, of all scenes or of each: features become a raw density and values.

Letters: F features, C values, S scenes, P points of each, n parameters of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector


class FieldHead(nn.Module):
    """Linear(F, 64) – Softplus – Linear(64, 1 + C); values sigmoid(·)·1.002 − 0.001 (method 3).

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
        return _read(features, self.hidden.weight, self.hidden.bias, self.out.weight, self.out.bias)

    @property
    def row(self) -> Tensor:
        """Its parameters, one after the other, [n]."""
        return parameters_to_vector(self.parameters()).detach()


def _read(features: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    """What a head of these parameters makes of features."""
    out = F.linear(F.softplus(F.linear(features, w1, b1)), w2, b2)
    return out[..., 0], out[..., 1:].sigmoid() * 1.002 - 0.001


class SceneHeads:
    """A head for each of some scenes.

    Args:
        like: A head of the same sizes.
        rows: [S, n] their parameters, in the order of :attr:`FieldHead.row`; gradients reach them.
    """

    def __init__(self, like: FieldHead, rows: Tensor) -> None:
        self.like, self.rows = like, rows
        shapes = {name: parameter.shape for name, parameter in like.named_parameters()}
        parts = rows.split([shape.numel() for shape in shapes.values()], 1)
        self.parameters = {name: part.unflatten(1, shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Raw densities [S, P] and values [S, P, C] of features [S, P, F]."""
        return torch.vmap(_read)(features, *self.parameters.values())  # type: ignore[no-any-return]

    def __getitem__(self, scenes: slice) -> SceneHeads:
        return SceneHeads(self.like, self.rows[scenes])

    def split(self) -> list[FieldHead]:
        """The heads one by one."""
        return [
            self._of(tensors) for tensors in zip(*(part.unbind() for part in self.parameters.values()), strict=True)
        ]

    def _of(self, tensors: tuple[Tensor, ...]) -> FieldHead:
        with torch.device("meta"):
            hidden, out = self.like.hidden, self.like.out
            head = FieldHead(hidden.in_features, out.out_features - 1, hidden.out_features)
        for name, tensor in zip(self.parameters, tensors, strict=True):
            layer, kind = name.split(".")
            delattr(head.get_submodule(layer), kind)  # a parameter would end the gradient's way to the rows
            setattr(head.get_submodule(layer), kind, tensor)
        return head
