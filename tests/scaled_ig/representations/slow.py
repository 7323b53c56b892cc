"""Interpolation in loops of Python, in float64: what representations are compared with."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from scaled_ig.representations import SceneRepresentation


def lerp(texels: NDArray[np.float64], where: Sequence[float]) -> float:
    """Value of a grid of any dimension between its texels, at ``where`` in texels, by its corners."""
    total = 0.0
    for corner in product((0, 1), repeat=texels.ndim):
        place, weight = [], 1.0
        for axis, high in enumerate(corner):
            low = min(int(np.floor(where[axis])), texels.shape[axis] - 2)
            part = where[axis] - low
            place.append(low + high)
            weight *= part if high else 1 - part
        total += weight * texels[tuple(place)]
    return total


@torch.no_grad()
def row_of(representation: SceneRepresentation) -> tuple[NDArray, NDArray, NDArray]:
    """Points [P, 3] within the cube of 0.5, features there [P, F] of a scene among others, and its row of ``micro``."""
    representation.new_scenes(4, seed=5)
    representation.double()
    table = representation.scene_tables()["micro"].weight
    table += torch.randn_like(table)
    where = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    where[:, :3] = torch.tensor([[0.5, -0.5, 0.5], [0.0, 0.5, -0.25], [-0.5, -0.5, -0.5]])  # faces and corners too
    features = representation(torch.tensor([0, 2]), where)
    return where[1].numpy(), features[1].numpy(), table[2].numpy()
