"""The tiny MLP against its formula."""

import math

import pytest
import torch

from scaled_ig.rendering.field_head import FieldHead, SceneHeads


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


def test_heads_of_scenes_are_as_many_heads():
    """At once and one by one: outputs, and the gradients of rows and features."""
    torch.manual_seed(0)
    heads = [FieldHead(3, 2, hidden_channels=5).double() for _ in range(3)]
    features = torch.randn(3, 7, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.stack([head.row for head in heads]).requires_grad_()
    own = SceneHeads(heads[0], rows)

    def outcome(found, *parameters) -> list[torch.Tensor]:
        densities, values = map(torch.stack, zip(*found, strict=True))
        loss = (densities * torch.arange(7)).sum() + values[..., 0].square().sum()
        return [densities, values, *torch.autograd.grad(loss, [features, *parameters])]

    parameters = [parameter for head in heads for parameter in head.parameters()]
    found = outcome([head(part) for head, part in zip(heads, features, strict=True)], *parameters)
    d_rows = torch.cat([gradient.flatten() for gradient in found[3:]]).view(3, -1)
    for heads_of_scenes in (
        zip(*own(features), strict=True),
        (h(f) for h, f in zip(own.split(), features, strict=True)),
    ):
        for ours, theirs in zip(outcome(heads_of_scenes, rows), [*found[:3], d_rows], strict=True):
            torch.testing.assert_close(ours, theirs)
