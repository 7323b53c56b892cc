"""The compiled inner loop against the plain one."""

import copy
import subprocess
import time
from dataclasses import replace

import pytest
import torch

from scaled_ig import native
from scaled_ig.cameras import Rays
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import choose_kernel, cpu, describe_kernel, reference
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.representations.occupancy import Hulls

AXES = PlaneRepresentation.AXES
needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine: set CC")


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that a function asks for is full of NaN: what it forgets to write is seen."""
    monkeypatch.setattr(torch, "empty", lambda *size, **kind: torch.full(_shape(size), torch.nan, **kind))
    monkeypatch.setattr(torch, "empty_like", lambda other: torch.full_like(other, torch.nan))


def _shape(size):
    return size[0] if len(size) == 1 and not isinstance(size[0], int) else size


@pytest.fixture
def fresh_seed():
    """Another one in every run; said where a test fails."""
    seed = int(
        torch.empty((), dtype=torch.int64).random_(2**31, generator=torch.Generator().manual_seed(time.time_ns()))
    )
    print(f"seed {seed}")
    return seed


def inputs(features=10, values=4, samples=16, rays=(7, 0, 23, 1), resolution=9, hidden=64, seed=0):
    """Rays and depths; scenes with uneven numbers of rays, points beyond the planes."""
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn(len(rays), 3, resolution, resolution, features, generator=generator)
    slot = torch.arange(len(rays)).repeat_interleave(torch.tensor(rays))
    directions = 2 * torch.nn.functional.normalize(torch.randn(len(slot), 3, generator=generator), dim=-1)
    origins = 0.5 * torch.randn(len(slot), 3, generator=generator) - 1.3 * directions / 2
    t = 2.6 * torch.rand(len(slot), samples, generator=generator).sort(1).values
    torch.manual_seed(seed)
    head = FieldHead(features, values, hidden)
    head.out.bias.data[0] = 2.0
    background = torch.rand(values, generator=generator)
    return PlaneRays(planes, slot, Rays(origins, directions), head, background, AXES["xy-xz-yz"]), t


def planes_and_head():
    given, _ = inputs()
    return given.planes, given.head


def outcome(march, given, t):
    """Pixels, opacity and depth, and the gradients of planes and head."""
    planes, head = given.planes.clone().requires_grad_(), given.head
    head.zero_grad()
    result = march(replace(given, planes=planes), t)
    weight = torch.randn(result.pixels.shape, generator=torch.Generator().manual_seed(9))
    (result.pixels * weight).sum().backward()
    gradients = [planes.grad, *(parameter.grad.clone() for parameter in head.parameters())]
    return [result.pixels.detach(), result.accumulation.detach(), result.depth.detach(), *gradients]


def assert_close(ours, theirs):
    names = ("pixels", "accumulation", "depth", "planes", "w1", "b1", "w2", "b2")
    for name, a, b in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


def squared_error_of(kernel, given, t, target):
    """Error and the gradients of planes and head."""
    planes, head = given.planes.clone().requires_grad_(), given.head
    head.zero_grad()
    wanted = target if isinstance(target, Target) else Target(target)
    error = kernel.squared_error(replace(given, planes=planes), t, wanted)
    (0.3 * error).backward()
    return [error.detach(), planes.grad, *(parameter.grad.clone() for parameter in head.parameters())]


def doubled(given, t):
    rays = Rays(given.rays.origins.double(), given.rays.directions.double())
    head, planes = copy.deepcopy(given.head).double(), given.planes.double()
    return replace(given, planes=planes, rays=rays, head=head, background=given.background.double()), t.double()


def in_hulls(given, t, seed=0):
    """The same rays in hulls of cells drawn by lot."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 256, (len(given.planes), 16, 16, 2), dtype=torch.uint8, generator=generator)
    return replace(given, hulls=Hulls(bits), extent=0.7), t


@needs_compiler
@pytest.mark.parametrize("features", [10, 22, 32])
@pytest.mark.parametrize("values", [3, 4, 12])
@pytest.mark.parametrize("samples", [5, 16, 96])
def test_the_fast_loop_is_the_plain_one(features, values, samples, fresh_seed, poisoned):
    given, t = inputs(features, values, samples, seed=fresh_seed)
    outside = (given.rays.at(t).abs() > 1).any(-1).float().mean()
    assert 0.1 < outside < 0.95, "some points lie beyond the planes, some between them"
    exact = doubled(given, t)
    ours = outcome(cpu.march, given, t)
    assert_close(ours, [value.float() for value in outcome(reference.march, *exact)])
    assert (ours[3][1] == 0).all(), "a scene without rays has no gradient"
    raw = cpu.densities(given, t)
    expected = reference.densities(*exact)
    torch.testing.assert_close(raw.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@needs_compiler
@pytest.mark.parametrize(("features", "values", "samples"), [(32, 4, 96), (16, 3, 24), (10, 12, 5), (22, 7, 13)])
def test_error_and_gradients_in_one_sweep(features, values, samples, fresh_seed, poisoned):
    given, t = inputs(features, values, samples, seed=fresh_seed)
    target = torch.rand(len(t), values, generator=torch.Generator().manual_seed(fresh_seed))
    ours = squared_error_of(cpu, given, t, target)
    theirs = squared_error_of(reference, *doubled(given, t), target.double())
    assert (ours[1][1] == 0).all(), "a scene without rays has no gradient"
    for name, a, b in zip(("error", "planes", "w1", "b1", "w2", "b2"), ours, theirs, strict=True):
        bound = {"rtol": 1e-4, "atol": 1e-4 * float(b.abs().max())}
        torch.testing.assert_close(a.double(), b, **bound, msg=lambda m, n=name: f"{n}: {m}", check_dtype=False)


@needs_compiler
def test_depth_has_its_digits_where_little_is_seen():
    given, t = inputs(rays=(200,))
    given.head.out.bias.data[0] = -5.0
    ours, exact = cpu.march(given, t), reference.march(*doubled(given, t))
    faint = (exact.accumulation > 1.1e-3) & (exact.accumulation < 1e-2)
    assert faint.sum() > 10
    torch.testing.assert_close(ours.depth[faint].double(), exact.depth[faint], rtol=1e-5, atol=0)


@needs_compiler
@pytest.mark.parametrize(("features", "values", "samples"), [(32, 4, 96), (16, 3, 24), (10, 12, 5), (22, 7, 13)])
def test_samples_outside_hulls_are_empty(features, values, samples, fresh_seed, poisoned):
    given, t = in_hulls(*inputs(features, values, samples, seed=fresh_seed), fresh_seed)
    held = given.hulls.hold(given.slot, given.rays.at(t) * given.extent)
    assert held.any()
    assert not held.all()
    exact, target = doubled(given, t), torch.rand(len(t), values, generator=torch.Generator().manual_seed(fresh_seed))
    assert_close(outcome(cpu.march, given, t), [value.float() for value in outcome(reference.march, *exact)])
    raw = cpu.densities(given, t)
    torch.testing.assert_close(raw, reference.densities(*exact).float(), rtol=1e-5, atol=1e-5)
    wanted = Target(target, 0.7, torch.rand(len(t)) - 0.2, 3.0)  # of some rays nothing is known
    ours = squared_error_of(cpu, given, t, wanted)
    wanted = replace(wanted, pixels=target.double(), opacity=wanted.opacity.double())
    theirs = squared_error_of(reference, *exact, wanted)
    for name, a, b in zip(("error", "planes", "w1", "b1", "w2", "b2"), ours, theirs, strict=True):
        bound = {"rtol": 0, "atol": 2e-5 * float(b.abs().max())}
        torch.testing.assert_close(a.double(), b, **bound, msg=lambda m, n=name: f"{n}: {m}", check_dtype=False)


@needs_compiler
def test_nothing_is_read_behind_what_is_opaque():
    """Dense matter at the front: what lies behind weighs less than a millionth."""
    given, t = inputs(samples=48)
    given.head.out.bias.data[0] = 300.0
    exact = doubled(given, t)
    assert_close(outcome(cpu.march, given, t), [value.float() for value in outcome(reference.march, *exact)])
    behind = replace(given, planes=given.planes.clone().requires_grad_())
    cpu.march(behind, t).pixels.sum().backward()
    seen = given.planes.clone().requires_grad_()
    cpu.march(replace(given, planes=seen), t[:, :24]).pixels.sum().backward()
    torch.testing.assert_close(behind.planes.grad, seen.grad)


@needs_compiler
def test_a_sweep_serves_twice_and_without_gradients():
    given, t = inputs()
    planes, head = given.planes.requires_grad_(), given.head

    def error():
        return cpu.squared_error(given, t, Target(torch.zeros(len(t), 4)))

    first_error = error()
    (first,) = torch.autograd.grad(first_error, planes, retain_graph=True)
    (second,) = torch.autograd.grad(2 * first_error, planes)
    torch.testing.assert_close(second, 2 * first)
    with torch.no_grad():
        torch.testing.assert_close(error(), first_error.detach())
    head.requires_grad_(False)
    torch.testing.assert_close(torch.autograd.grad(error(), planes)[0], first)
    planes.requires_grad_(False)
    head.requires_grad_()
    error().backward()
    assert head.hidden.weight.grad.abs().max() > 0


@needs_compiler
@pytest.mark.parametrize("size", [0.1, 3.0, 300.0])
@pytest.mark.parametrize(("samples", "more"), [(48, 48), (5, 30), (17, 1), (2, 3)])
@pytest.mark.parametrize("jittered", [True, False])
def test_the_second_pass_is_the_plain_one(size, samples, more, jittered, fresh_seed, poisoned):
    generator = torch.Generator().manual_seed(fresh_seed)
    t = (0.5 + 1.6 * torch.rand(50, samples, generator=generator)).sort(1).values
    raw = size * torch.randn(50, samples, generator=generator)
    u = torch.rand(50, more, generator=generator) if jittered else None
    ours = cpu.resample(t, raw, more, u)
    theirs = reference.resample(t.double(), raw.double(), more, None if u is None else u.double())
    assert ours.shape == (50, samples + more)
    assert (ours.diff(dim=1) >= 0).all()
    # The CDF is a sum of as many terms as samples. In the least likely slice, whose weight is 0.01 of a total of 1 and
    # 0.01 for each, a depth is known to the CDF's rounding in parts of that weight.
    known = (samples + 8) * 2**-24 * (1 + 0.01 * samples) / 0.01
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=known * float(t.diff(dim=1).max()))


@needs_compiler
@pytest.mark.parametrize("options", [{"rays": (5,)}, {"hidden": 16}, {"hidden": 128}, {"samples": 2}, {"values": 20}])
def test_other_sizes(options):
    given = inputs(**options)
    assert_close(outcome(cpu.march, *given), outcome(reference.march, *given))


@needs_compiler
def test_other_planes():
    given, t = inputs()
    others = replace(given, axes=AXES["xy-xz-zx"])
    assert_close(outcome(cpu.march, others, t), outcome(reference.march, others, t))
    difference = outcome(cpu.march, others, t)[0] - outcome(cpu.march, given, t)[0]
    assert difference.abs().max() > 1e-3


@needs_compiler
def test_densities_of_any_size_stay_finite():
    given, t = inputs()
    given = replace(given, planes=300 * given.planes)
    ours = outcome(cpu.march, given, t)
    assert all(value.isfinite().all() for value in ours)
    torch.testing.assert_close(ours[0], outcome(reference.march, given, t)[0], rtol=1e-3, atol=1e-3)


@needs_compiler
def test_nan_is_seen_in_its_own_scene_only():
    given, t = inputs(rays=(7, 11, 23))
    slot, planes = given.slot, given.planes.clone()
    planes[1] = torch.nan
    broken = replace(given, planes=planes)
    ours, theirs = outcome(cpu.march, broken, t), outcome(reference.march, broken, t)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert torch.equal(a.isnan(), b.isnan())
    assert torch.equal(ours[0].isnan().all(1), slot == 1)
    assert torch.equal(ours[0][slot != 1], outcome(cpu.march, given, t)[0][slot != 1])
    assert ours[3][[0, 2]].isfinite().all()
    assert squared_error_of(cpu, broken, t, torch.zeros(len(t), 4))[0].isnan()
    raw = cpu.densities(broken, t)
    assert torch.equal(raw.isnan().any(1), slot == 1)


@needs_compiler
@pytest.mark.parametrize("name", ["planes", "slot", "rays", "t", "background", "target", "raw_densities", "u"])
def test_tensors_of_another_type_are_refused(name):
    """C would read them as what they are not."""
    given, t = inputs()
    others = {name: getattr(given, name).double() for name in ("planes", "background")}
    others |= {"slot": given.slot.int(), "rays": replace(given.rays, origins=given.rays.origins.double())}
    of_rays = replace(given, **{name: others[name]}) if name in others else given
    tensors = {"t": t, "target": torch.zeros(31, 4), "raw_densities": torch.zeros(31, 16), "u": torch.zeros(31, 4)}
    tensors |= {name: tensors[name].double()} if name in tensors else {}
    expected = {"planes": "texels is torch.float64", "slot": "slot is torch.int32", "rays": "origins is torch.float64"}
    refused = pytest.raises(ValueError, match=expected.get(name, f"{name} is torch.float64"))
    if name not in ("raw_densities", "u"):
        with refused:
            cpu.squared_error(of_rays, tensors["t"], Target(tensors["target"]))
    if name in ("t", "raw_densities", "u"):
        with refused:
            cpu.resample(tensors["t"], tensors["raw_densities"], 4, tensors["u"])


@needs_compiler
def test_the_number_of_threads_changes_no_bit():
    (given, t), threads = inputs(rays=(40, 3, 0, 60, 17)), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(outcome(cpu.march, given, t) + squared_error_of(cpu, given, t, torch.zeros(len(t), 4)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
def test_rays_do_not_see_each_other():
    given, t = inputs()
    every = cpu.march(given, t).pixels
    for chosen in ([0], [8, 20], [3, 7, 30]):
        some = replace(given, slot=given.slot[chosen], rays=given.rays[chosen])
        assert torch.equal(cpu.march(some, t[chosen]).pixels, every[chosen])


@pytest.mark.parametrize("march", [reference.march, pytest.param(cpu.march, marks=needs_compiler)])
def test_no_rays_are_no_error(march):
    empty = {"slot": torch.zeros(0, dtype=torch.long), "rays": Rays(torch.zeros(0, 3), torch.zeros(0, 3))}
    assert march(replace(inputs(rays=(3,))[0], **empty), torch.zeros(0, 8)).pixels.shape == (0, 4)


def test_the_plain_loop_is_chosen_where_the_fast_one_cannot_serve():
    planes, head = planes_and_head()
    assert choose_kernel("reference", planes, head) is reference
    for other in (planes.double(), planes.to("meta")):
        assert choose_kernel("auto", other, head) is reference
        with pytest.raises(ValueError, match="no fast kernel here: it needs float32 planes on the CPU"):
            choose_kernel("fast", other, head)
    with pytest.raises(ValueError, match="multiple of 16"):
        choose_kernel("fast", planes, FieldHead(10, 4, hidden_channels=24))


@needs_compiler
def test_the_fast_loop_is_chosen_where_it_serves():
    planes, head = planes_and_head()
    assert choose_kernel("auto", planes, head) is choose_kernel("fast", planes, head) is cpu
    assert describe_kernel("auto", head) == "rendering kernel: compiled C, scaled_ig/native/march.c"
    assert describe_kernel("reference", head) == "rendering kernel: plain PyTorch"


def test_without_a_compiler_the_plain_loop_serves(monkeypatch):
    monkeypatch.setattr(native, "compiler", lambda: None)
    planes, head = planes_and_head()
    assert choose_kernel("auto", planes, head) is reference
    with pytest.raises(ValueError, match="C compiler"):
        choose_kernel("fast", planes, head)


@needs_compiler
@pytest.mark.parametrize("broken", ["march", "deferred", "mix"])
def test_where_one_source_does_not_compile_the_plain_loop_serves(broken, monkeypatch, capsys):
    library = native.library

    def fail(name, **sizes):
        if name == broken:
            raise subprocess.CalledProcessError(1, "cc", stderr=f"{name}.c: unknown type".encode())
        return library(name, **sizes)

    monkeypatch.setattr(native, "library", fail)
    native._compiles.cache_clear()
    try:
        assert choose_kernel("auto", *planes_and_head()) is reference
        assert f"cannot be compiled ({broken}.c: unknown type)" in capsys.readouterr().err
    finally:
        native._compiles.cache_clear()


@needs_compiler
@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("slot", lambda right: right + 4),
        ("slot", lambda right: right - 1),
        ("slot", lambda right: right[:-1]),
        ("planes", lambda right: right[:, :2]),
        ("planes", lambda right: right[:, :, 1:]),
        ("planes", lambda right: right[..., 1:]),
        ("background", lambda right: right[1:]),
        ("rays", lambda right: Rays(right.origins[1:], right.directions)),
        ("rays", lambda right: Rays(right.origins, right.directions[:, :2])),
        ("hulls", lambda right: Hulls(torch.zeros(3, 16, 16, 2, dtype=torch.uint8))),
    ],
)
def test_what_c_would_read_beyond_is_refused(part, wrong):
    plane_rays, t = inputs()
    spoilt = replace(plane_rays, **{part: wrong(getattr(plane_rays, part))})
    for call in (cpu.march, cpu.densities, cpu.samples_read):
        with pytest.raises(ValueError, match=r"has shape|must be 0 to"):
            call(spoilt, t)


@needs_compiler
def test_depths_and_targets_have_to_fit():
    plane_rays, t = inputs()
    with pytest.raises(ValueError, match="raw_densities has shape"):
        cpu.resample(t, torch.zeros(len(t), 3), 4, None)
    with pytest.raises(ValueError, match="u has shape"):
        cpu.resample(t, torch.zeros_like(t), 4, torch.zeros(len(t), 5))
    with pytest.raises(ValueError, match="t has shape"):
        cpu.march(plane_rays, t[0])
    backwards = replace(plane_rays, slot=plane_rays.slot.flip(0), planes=plane_rays.planes.requires_grad_())
    with pytest.raises(ValueError, match="slot must ascend"):
        cpu.march(backwards, t).pixels.sum().backward()
