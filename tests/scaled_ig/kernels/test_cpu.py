"""The compiled inner loop against the plain one."""

import pytest
import torch

from scaled_ig.cameras import Rays
from scaled_ig.field_head import FieldHead
from scaled_ig.kernels import choose_kernel, cpu, reference
from scaled_ig.representations.base import PlaneRepresentation

AXES = PlaneRepresentation.AXES
needs_compiler = pytest.mark.skipif(cpu.compiler() is None, reason="no C compiler on this machine: set CC")


def inputs(features=10, values=4, samples=16, rays=(7, 0, 23, 1), resolution=9, hidden=64, seed=0):
    """Planes, slot, rays, depths, head and background; scenes with uneven numbers of rays, points beyond the planes."""
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn(len(rays), 3, resolution, resolution, features, generator=generator)
    slot = torch.arange(len(rays)).repeat_interleave(torch.tensor(rays))
    directions = 2 * torch.nn.functional.normalize(torch.randn(len(slot), 3, generator=generator), dim=-1)
    origins = 0.5 * torch.randn(len(slot), 3, generator=generator) - 1.3 * directions / 2
    t = 2.6 * torch.rand(len(slot), samples, generator=generator).sort(1).values
    torch.manual_seed(seed)
    head = FieldHead(features, values, hidden)
    head.out.bias.data[0] = 2.0
    return planes, slot, Rays(origins, directions), t, head, torch.rand(values, generator=generator)


def outcome(march, given, axes="xy-xz-yz"):
    """Pixels, opacity and depth, and the gradients of planes and head."""
    planes, slot, rays, t, head, background = given
    planes = planes.clone().requires_grad_()
    head.zero_grad()
    result = march(planes, slot, rays, t, head, background, AXES[axes])
    weight = torch.randn(result.pixels.shape, generator=torch.Generator().manual_seed(9))
    (result.pixels * weight).sum().backward()
    gradients = [planes.grad, *(parameter.grad.clone() for parameter in head.parameters())]
    return [result.pixels.detach(), result.accumulation.detach(), result.depth.detach(), *gradients]


def assert_close(ours, theirs):
    names = ("pixels", "accumulation", "depth", "planes", "w1", "b1", "w2", "b2")
    for name, a, b in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


@needs_compiler
@pytest.mark.parametrize("features", [10, 22, 32])
@pytest.mark.parametrize("values", [3, 4, 12])
@pytest.mark.parametrize("samples", [5, 16, 96])
def test_the_fast_loop_is_the_plain_one(features, values, samples):
    given = inputs(features, values, samples)
    outside = (given[2].at(given[3]).abs() > 1).any(-1).float().mean()
    assert 0.1 < outside < 0.9, "some points lie beyond the planes, some between them"
    assert_close(outcome(cpu.march, given), outcome(reference.march, given))
    assert (outcome(cpu.march, given)[3][1] == 0).all(), "a scene without rays has no gradient"


@needs_compiler
@pytest.mark.parametrize("options", [{"rays": (5,)}, {"hidden": 16}, {"hidden": 128}, {"samples": 2}, {"values": 20}])
def test_other_sizes(options):
    given = inputs(**options)
    assert_close(outcome(cpu.march, given), outcome(reference.march, given))


@needs_compiler
def test_other_planes():
    given = inputs()
    assert_close(outcome(cpu.march, given, "xy-xz-zx"), outcome(reference.march, given, "xy-xz-zx"))
    difference = outcome(cpu.march, given, "xy-xz-zx")[0] - outcome(cpu.march, given)[0]
    assert difference.abs().max() > 1e-3


@needs_compiler
def test_densities_of_any_size_stay_finite():
    planes, slot, rays, t, head, background = inputs()
    given = (300 * planes, slot, rays, t, head, background)
    ours = outcome(cpu.march, given)
    assert all(value.isfinite().all() for value in ours)
    torch.testing.assert_close(ours[0], outcome(reference.march, given)[0], rtol=1e-3, atol=1e-3)


@needs_compiler
def test_the_number_of_threads_changes_no_bit():
    given, threads = inputs(rays=(40, 3, 0, 60, 17)), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(outcome(cpu.march, given))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
def test_rays_do_not_see_each_other():
    planes, slot, rays, t, head, background = inputs()
    every = cpu.march(planes, slot, rays, t, head, background, AXES["xy-xz-yz"]).pixels
    for chosen in ([0], [8, 20], [3, 7, 30]):
        some = cpu.march(planes, slot[chosen], rays[chosen], t[chosen], head, background, AXES["xy-xz-yz"]).pixels
        assert torch.equal(some, every[chosen])


@pytest.mark.parametrize("march", [reference.march, pytest.param(cpu.march, marks=needs_compiler)])
def test_no_rays_are_no_error(march):
    planes, _, _, _, head, background = inputs(rays=(3,))
    empty = Rays(torch.zeros(0, 3), torch.zeros(0, 3))
    slot = torch.zeros(0, dtype=torch.long)
    result = march(planes, slot, empty, torch.zeros(0, 8), head, background, AXES["xy-xz-yz"])
    assert result.pixels.shape == (0, 4)


def test_the_plain_loop_is_chosen_where_the_fast_one_cannot_serve():
    planes, head = inputs()[0], inputs()[4]
    assert choose_kernel("reference", planes, head) is reference
    for other in (planes.double(), planes.to("meta")):
        assert choose_kernel("auto", other, head) is reference
        with pytest.raises(ValueError, match="no fast kernel here: it needs float32 planes on the CPU"):
            choose_kernel("fast", other, head)
    with pytest.raises(ValueError, match="multiple of 16"):
        choose_kernel("fast", planes, FieldHead(10, 4, hidden_channels=24))


@needs_compiler
def test_the_fast_loop_is_chosen_where_it_serves():
    planes, head = inputs()[0], inputs()[4]
    assert choose_kernel("auto", planes, head) is choose_kernel("fast", planes, head) is cpu


def test_without_a_compiler_the_plain_loop_serves(monkeypatch):
    monkeypatch.setattr(cpu, "compiler", lambda: None)
    planes, head = inputs()[0], inputs()[4]
    assert choose_kernel("auto", planes, head) is reference
    with pytest.raises(ValueError, match="C compiler"):
        choose_kernel("fast", planes, head)
