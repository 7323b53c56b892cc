"""NeRF: every scene is a perceptron of its own, on positions in sines and cosines."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from scaled_ig.errors import UsageError
from scaled_ig.ranges import Distance, Layers, Place, Range, Width, checked
from scaled_ig.representations.base import SceneRepresentation
from scaled_ig.representations.scene_table import SceneTable


@checked
class VanillaNerf(SceneRepresentation):
    """A perceptron a scene, whose last layer goes to the field head (Mildenhall et al. 2020, §5.1 and figure 7).

    Each layer is linear with a ReLU. What differs from the paper: values do not depend on the direction of view, the
    field head stands in for the last layers, and one network serves both passes of the renderer, where the paper has a
    coarse and a fine one.

    Args:
        depth: Layers.
        width: Neurons of a layer, F.
        skip: Layer, counted from 0, after which the encoded position is concatenated once more; 4 is the paper's fifth.
        frequencies: L, of the positional encoding.
        extent: Half the side, world units, of the cube whose positions are encoded as [-1, 1]³.
    """

    def __init__(
        self,
        depth: Layers = 8,
        width: Width = 256,
        skip: Place = 4,
        frequencies: Annotated[int, Range(0, 32)] = 10,
        extent: Distance = 1.0,
    ) -> None:
        super().__init__()
        if skip >= depth - 1:
            raise UsageError(f"VanillaNerf.skip {skip} must be 0 to {depth - 2}, a layer before the last of {depth}")
        self.depth, self.width, self.skip, self.frequencies, self.extent = depth, width, skip, frequencies, extent
        encoded = 3 + 6 * frequencies
        inputs = [encoded, *[width] * (depth - 1)]
        inputs[skip + 1] += encoded
        self.layers = [(fan_in, width) for fan_in in inputs]
        stds = [torch.tensor([(2 / fan_in) ** 0.5, 0.0]) for fan_in in inputs]  # He et al. 2015; biases start at 0
        repeats = [torch.tensor([fan_in * width, width]) for fan_in in inputs]
        self.micro = SceneTable(
            (sum((fan_in + 1) * width for fan_in in inputs),),
            torch.cat([std.repeat_interleave(repeat) for std, repeat in zip(stds, repeats, strict=True)]),
        )

    @property
    def feature_channels(self) -> int:
        return self.width

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        row = self.micro(scene_index)
        encoded = self.encode(positions / self.extent)
        features, start = encoded, 0
        for number, (fan_in, width) in enumerate(self.layers):
            end = start + fan_in * width
            weight, bias = row[:, start:end].unflatten(1, (fan_in, width)), row[:, None, end : end + width]
            features = torch.baddbmm(bias, features, weight).relu()
            if number == self.skip:
                features = torch.cat([encoded, features], -1)
            start = end + width
        return features

    def encode(self, positions: Tensor) -> Tensor:
        """γ(x) = (x, sin 2^k πx, cos 2^k πx), k < L, [..., 3 + 6 L] of [..., 3] (equation 4, and x itself)."""
        octaves = torch.pi * 2.0 ** torch.arange(self.frequencies, device=positions.device, dtype=positions.dtype)
        angles = (positions[..., None] * octaves).flatten(-2)
        return torch.cat([positions, angles.sin(), angles.cos()], -1)

    def own_tables(self) -> dict[str, SceneTable]:
        return {"micro": self.micro}
