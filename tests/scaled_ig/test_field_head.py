"""The tiny MLP against its formula."""

import math

import pytest
import torch

from scaled_ig.field_head import FieldHead


def test_the_papers_head_has_2437_weights():
    assert sum(parameter.numel() for parameter in FieldHead(32, 4).parameters()) == 2437


def test_the_formula():
    torch.manual_seed(0)
    head = FieldHead(3, 2, hidden_channels=5).double()
    features = torch.randn(4, 6, 3, dtype=torch.float64)
    densities, values = head(features)
    w1, b1, w2, b2 = (parameter.detach() for parameter in head.parameters())
    for place in ((0, 0), (3, 5)):
        hidden = [math.log1p(math.exp(float(w1[j] @ features[place] + b1[j]))) for j in range(5)]
        out = [sum(float(w2[m, j]) * hidden[j] for j in range(5)) + float(b2[m]) for m in range(3)]
        assert float(densities[place].detach()) == pytest.approx(out[0])
        expected = [1.002 / (1 + math.exp(-y)) - 0.001 for y in out[1:]]
        assert values[place].tolist() == pytest.approx(expected)
