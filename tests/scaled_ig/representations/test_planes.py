"""Samples of planes against a slow loop and against functions that bilinear sampling reproduces."""

import math

import pytest
import torch

from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.representations.planes import sample_planes

AXES = PlaneRepresentation.AXES


def points(count: int = 200, reach: float = 1.3) -> torch.Tensor:
    return reach * (2 * torch.rand(1, count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)


def slow_sample(plane: torch.Tensor, u: float, v: float) -> torch.Tensor:
    """Bilinear sample at column u and row v in [-1, 1], texel centres at (i + ½) / K, zero outside."""
    size = len(plane)
    column, row = (u + 1) / 2 * size - 0.5, (v + 1) / 2 * size - 0.5
    total = torch.zeros(plane.shape[2], dtype=plane.dtype)
    for j in (math.floor(row), math.floor(row) + 1):
        for i in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < size and 0 <= j < size:
                total += plane[j, i] * (1 - abs(column - i)) * (1 - abs(row - j))
    return total


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_slow_loop_gives_the_same(axes):
    planes = torch.randn(1, 3, 5, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    where = points()
    expected = torch.stack(
        [
            sum(slow_sample(planes[0, k], float(p[column]), float(p[row])) for k, (column, row) in enumerate(axes))
            for p in where[0]
        ]
    )
    torch.testing.assert_close(sample_planes(planes, where, axes)[0], expected)


@pytest.mark.parametrize(
    ("name", "number", "column", "row"),
    [("xy-xz-yz", 0, 0, 1), ("xy-xz-yz", 1, 0, 2), ("xy-xz-yz", 2, 1, 2), ("xy-xz-zx", 2, 2, 0)],
)
def test_a_checker_lies_in_its_plane_the_right_way_round(name, number, column, row):
    """Four quarters of different value on one plane alone: a point has the value of its quarter."""
    planes = torch.zeros(1, 3, 8, 8, 1, dtype=torch.float64)
    quarters = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)  # [row, column], negative side first
    planes[0, number, :, :, 0] = quarters.repeat_interleave(4, 0).repeat_interleave(4, 1)
    where = points(reach=0.85)
    where = where[:, (where.abs() > 0.15).all(-1)[0]]
    expected = quarters[(where[0, :, row] > 0).long(), (where[0, :, column] > 0).long()]
    assert set(expected.tolist()) == {1, 2, 3, 4}
    torch.testing.assert_close(sample_planes(planes, where, AXES[name])[0, :, 0], expected)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_ramp_is_reproduced(number):
    centres = (torch.arange(6) + 0.5) / 3 - 1
    planes = torch.zeros(1, 3, 6, 6, 1)
    planes[0, number, :, :, 0] = 0.3 + 2 * centres[None] - 0.7 * centres[:, None]
    where = points(reach=1 - 1 / 6).float()
    column, row = AXES["xy-xz-yz"][number]
    expected = 0.3 + 2 * where[0, :, column] - 0.7 * where[0, :, row]
    torch.testing.assert_close(sample_planes(planes, where, AXES["xy-xz-yz"])[0, :, 0], expected, rtol=0, atol=1e-5)


def test_zero_outside():
    planes = torch.ones(1, 3, 4, 4, 1, dtype=torch.float64)
    inside, outside, one_axis = torch.tensor([[[0.0, 0, 0], [1.3, -1.3, 2.0], [0.0, 0.0, 1.3]]]).double()[0]
    values = sample_planes(planes, torch.stack([inside, outside, one_axis])[None], AXES["xy-xz-yz"])[0, :, 0]
    assert values.tolist() == [3, 0, 1]
    edge = sample_planes(planes, torch.tensor([[[1.0, 0, 0]]]).double(), AXES["xy-xz-yz"])
    assert float(edge) == pytest.approx(2), "half of the last texel's weight falls outside"


def test_each_scene_has_its_own_planes():
    planes = torch.randn(2, 3, 4, 4, 2, dtype=torch.float64)
    where = points(20).repeat(2, 1, 1)
    both = sample_planes(planes, where, AXES["xy-xz-yz"])
    for k in range(2):
        torch.testing.assert_close(both[[k]], sample_planes(planes[[k]], where[[k]], AXES["xy-xz-yz"]))
