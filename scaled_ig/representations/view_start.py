"""A map from what views tell about texels to planes, linear for each plane, which the scenes of stage 1 fit.

Letters: K texels along a plane, D features of views, F features of planes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaled_ig.representations.view_features import rounded

RIDGE = 0.01
"""Penalty of a weight, in variances of its feature over all texels: features of neighbours are much alike, and tens of
thousands of texels determine the others well."""


@dataclass(frozen=True)
class ViewStart:
    """Planes where a scene's training may begin.

    Args:
        weight: [3, D, F].
        offset: [3, K, K, F] what each texel has beside its features' part.
    """

    weight: Tensor
    offset: Tensor

    def __post_init__(self) -> None:
        if self.weight.dim() != 3 or self.offset.dim() != 4 or self.weight.shape[::2] != self.offset.shape[::3]:
            raise ValueError(f"weight {list(self.weight.shape)} and offset {list(self.offset.shape)} do not fit")

    def planes(self, features: Tensor) -> Tensor:
        """Planes [3, K, K, F] float32 of features [3, K, K, D]."""
        moved = features.float().flatten(1, 2) @ self.weight
        return self.offset + moved.view_as(self.offset)


class ViewRegression:
    """Ridge regression of planes on features, each less its mean over the scenes that read a texel.

    What is kept does not grow with scenes. Sums are exact: the order of scenes and the number of ranks change nothing.

    Args:
        resolution: K.
        num_features: D.
        channels: F.
    """

    def __init__(self, resolution: int, num_features: int, channels: int) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(3, *shape, dtype=torch.float64)

        texels = resolution**2
        self.count = zeros(texels, 1)
        self.features, self.planes = zeros(texels, num_features), zeros(texels, channels)
        self.squares, self.products = zeros(num_features, num_features), zeros(num_features, channels)

    def add(self, features: Tensor, planes: Tensor, texels: Tensor) -> None:
        """Add a scene.

        Args:
            features: [3, K, K, D] float64, multiples of 1/4096.
            planes: [3, K, K, F].
            texels: [3, K, K] bool, those that rendering reads.
        """
        read = texels.flatten(1)[..., None].double()
        x, y = features.flatten(1, 2) * read, rounded(planes.flatten(1, 2)) * read
        self.count += read
        self.features += x
        self.planes += y
        self.squares += x.transpose(1, 2) @ x
        self.products += x.transpose(1, 2) @ y

    def sum(self, over_ranks: Callable[[Tensor], Tensor]) -> None:
        """Add what the other ranks have. Collective."""
        for name, value in vars(self).items():
            setattr(self, name, over_ranks(value))

    def solve(self, ridge: float = RIDGE) -> ViewStart:
        """The map.

        Args:
            ridge: See ``RIDGE``.
        """
        count = self.count.clamp(min=1)
        x, y = self.features / count, self.planes / count  # means over scenes
        squares = self.squares - self.features.transpose(1, 2) @ x
        products = self.products - self.features.transpose(1, 2) @ y
        variance = squares.diagonal(dim1=1, dim2=2)
        least = 1e-6 * variance.amax(1, keepdim=True) + 1e-12  # of a feature that is the same everywhere
        weight = rounded(torch.linalg.solve(squares + torch.diag_embed(ridge * variance + least), products))
        total = self.count.sum(1, keepdim=True).clamp(min=1)
        everywhere = [values.sum(1, keepdim=True) / total for values in (self.features, self.planes)]
        x, y = (torch.where(self.count > 0, *means) for means in zip((x, y), everywhere, strict=True))
        side = round(self.count.shape[1] ** 0.5)
        return ViewStart(weight.float(), rounded(y - x @ weight).float().unflatten(1, (side, side)))
