"""Planes by the compiled mixture against a product of matrices."""

import pytest
import torch

from scaled_ig import native
from scaled_ig.representations import MicroMacro
from scaled_ig.representations.mixture import mix


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine: set CC")
@pytest.mark.parametrize(("micro", "macro", "bases", "resolution"), [(10, 22, 50, 6), (0, 7, 3, 9), (3, 5, 1, 1)])
@pytest.mark.parametrize("num_scenes", [1, 4, 6])
def test_planes_and_gradients(micro, macro, bases, resolution, num_scenes, monkeypatch):
    monkeypatch.setattr(torch, "empty_like", lambda other: torch.full_like(other, torch.nan))
    generator = torch.Generator().manual_seed(3)
    shapes = (
        (num_scenes, 3, resolution, resolution, micro),
        (num_scenes, bases),
        (bases, 3, resolution, resolution, macro),
    )
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    results = []
    for dtype in (torch.float32, torch.float64):  # the second one is a product of matrices
        parts = [part.to(dtype).requires_grad_() for part in given]
        planes = mix(*parts)
        weight = torch.randn(planes.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        results.append([planes, *torch.autograd.grad((planes * weight.to(dtype)).sum(), parts)])
    for ours, exact in zip(*results, strict=True):
        bound = 1e-5 * float(exact.detach().norm())
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=bound)


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine: set CC")
@pytest.mark.parametrize("num_scenes", [1, 5])
def test_texels_that_nobody_reads_are_not_looked_at(num_scenes, monkeypatch):
    """What is not a number spreads into all that it touches: it stands in every texel that need not be touched."""
    monkeypatch.setattr(torch, "empty_like", lambda other: torch.full_like(other, torch.nan))
    micro, macro, bases, resolution, nan = 3, 5, 6, 12, torch.nan
    generator = torch.Generator().manual_seed(5)
    texels = torch.zeros(num_scenes, 3, resolution, resolution, dtype=torch.bool)
    texels[:, 0, 3:9, 2:8] = True  # whole blocks of texels are read by none, by some and by all
    texels[0, 1] = torch.rand(resolution, resolution, generator=generator) < 0.5
    unread = ~texels[..., None]
    parts = [
        torch.randn(num_scenes, 3, resolution, resolution, micro, generator=generator),
        torch.randn(num_scenes, bases, generator=generator),
        torch.randn(bases, 3, resolution, resolution, macro, generator=generator),
    ]
    weight = torch.randn(num_scenes, 3, resolution, resolution, micro + macro, generator=generator)

    def planes_and_gradients(*tensors):
        leaves = [tensor.requires_grad_() for tensor in tensors]
        planes = mix(*leaves, texels)
        return [planes, *torch.autograd.grad(planes, leaves, weight.to(planes).masked_fill(unread, hole))]

    hole = 0.0
    exact = planes_and_gradients(*(part.double() for part in parts))
    for values in (part.detach() for part in exact[:2]):
        assert float(values.masked_fill(~unread, 0).abs().sum()) == 0
    hole = nan
    holed = [parts[0].masked_fill(unread, nan), parts[1], parts[2].clone()]
    holed[2][:, 2, 3:] = nan  # of bases a block of texels is read where any scene needs one of them
    for ours, reference in zip(planes_and_gradients(*holed), exact, strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-5)


def test_parts_without_gradients_and_any_number_of_threads():
    scenes, threads = MicroMacro(3, 5, num_bases=4, plane_resolution=16), torch.get_num_threads()
    scenes.new_scenes(6)
    results, names = [], [name for name, _ in scenes.named_parameters()]
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            scenes.zero_grad()
            scenes.planes(torch.tensor([4, 1, 5])).square().sum().backward()
            results.append([parameter.grad.to_dense().clone() for parameter in scenes.parameters()])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    scenes.bases.requires_grad_(False)
    scenes.zero_grad()
    scenes.planes(torch.tensor([4, 1, 5])).square().sum().backward()
    assert scenes.bases.grad is None
    assert torch.equal(scenes.micro.weight.grad.to_dense(), results[0][names.index("micro.weight")])


@pytest.mark.parametrize(
    ("micro", "mixing", "bases", "texels"),
    [
        ((2, 3, 4, 4, 1), (2, 4), (5, 3, 4, 4, 2), None),
        ((3, 3, 4, 4, 1), (2, 5), (5, 3, 4, 4, 2), None),
        ((2, 3, 4, 3, 1), (2, 5), (5, 3, 4, 4, 2), None),
        ((2, 3, 4, 4, 1), (2, 5), (5, 3, 4, 4), None),
        ((2, 3, 4, 4, 1), (2, 5), (5, 3, 4, 4, 2), (2, 3, 4, 5)),
    ],
)
def test_what_does_not_fit_is_refused(micro, mixing, bases, texels):
    parts = [torch.zeros(shape) for shape in (micro, mixing, bases)]
    with pytest.raises(ValueError, match="has shape"):
        mix(*parts, None if texels is None else torch.ones(texels, dtype=torch.bool))
