"""NeRF's perceptron against one of ``nn.Linear`` layers."""

import math

import pytest
import torch
from torch import nn

from scaled_ig.errors import UsageError
from scaled_ig.representations import VanillaNerf


class Restated(nn.Module):
    """Eight or fewer layers with ReLU; the input joins again after one of them."""

    def __init__(self, depth: int, width: int, skip: int, encoded: int) -> None:
        super().__init__()
        sizes = [encoded] + [width + encoded * (layer == skip) for layer in range(depth - 1)]
        layers = [nn.Sequential(nn.Linear(size, width, dtype=torch.float64), nn.ReLU()) for size in sizes]
        self.before, self.after = nn.Sequential(*layers[: skip + 1]), nn.Sequential(*layers[skip + 1 :])

    def forward(self, encoded):
        return self.after(torch.cat([encoded, self.before(encoded)], -1))

    def load_row(self, row):
        for layer in (*self.before, *self.after):
            linear, fan_in = layer[0], layer[0].in_features
            weight, bias, row = row.tensor_split([fan_in * linear.out_features, (fan_in + 1) * linear.out_features])
            linear.weight.data, linear.bias.data = weight.view(fan_in, -1).T, bias
        assert not len(row)


@torch.no_grad()
@pytest.mark.parametrize(("depth", "skip"), [(8, 4), (3, 0)])
def test_features_are_those_of_plain_layers(depth, skip):
    representation = VanillaNerf(depth, width=7, skip=skip, frequencies=3, extent=0.5)
    representation.new_scenes(4, seed=2)
    representation.double()
    representation.micro.weight += 0.1 * torch.randn_like(representation.micro.weight)  # biases too
    where = torch.rand(2, 5, 3, dtype=torch.float64) - 0.5
    features = representation(torch.tensor([3, 1]), where)
    for number, scene in enumerate((3, 1)):
        restated = Restated(depth, 7, skip, 21)
        restated.load_row(representation.micro.weight[scene])
        for point in range(5):
            x = 2 * where[number, point]
            angles = [math.pi * 2**k * float(each) for each in x for k in range(3)]
            encoded = torch.tensor([*x, *map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
            torch.testing.assert_close(features[number, point], restated(encoded), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_layers_start_with_the_spread_of_their_fan_in():
    representation = VanillaNerf(depth=3, width=64, skip=0, frequencies=2)
    representation.new_scenes(3)
    parts = representation.micro.weight.split([15 * 64, 64, 79 * 64, 64, 64 * 64, 64], 1)
    for fan_in, weight, bias in zip((15, 79, 64), parts[::2], parts[1::2], strict=True):
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
        assert not bias.any()


def test_the_input_joins_before_the_last_layer():
    with pytest.raises(UsageError, match="skip 3 must be 0 to 2, a layer before the last of 4"):
        VanillaNerf(depth=4, skip=3)
