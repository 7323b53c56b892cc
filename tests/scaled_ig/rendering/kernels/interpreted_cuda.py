"""The CUDA kernels under Triton's interpreter, for test_cuda.py: TRITON_INTERPRET=1 before Triton is imported.

Against the plain version in float64, on inputs that are new in every run; the seed is printed. What the kernels write
to is NaN before. The interpreter computes TF32 products in float32, so float32 planes are equal to rounding.
"""

import copy
import secrets
from dataclasses import replace

import pytest
import torch

from scaled_ig.cameras import Cameras, Rays
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import cuda, reference
from scaled_ig.rendering.kernels.reference import PlaneRays, Target
from scaled_ig.rendering.renderer import Jitter, Renderer
from scaled_ig.rendering.sampling import FullRay, InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.representations.occupancy import Hulls

AXES = MicroMacro.AXES
ROUNDING = (
    1e-4  # of the largest value of a tensor: sums of up to 200 products of three or four sums each; TF32 has 5e-4
)
CANCELLED = 4 * 2.0**-24  # where terms of the size of 1 cancel, as in 1 - T or in fog that nothing is seen through
# F, C, P, H, K, rays of each scene; one program has 64 samples, or one ray.
SIZES = [
    (10, 4, 16, 64, 9, (2, 0, 4)),
    (22, 3, 5, 16, 4, (7, 6, 0)),
    (32, 12, 24, 16, 16, (0, 2)),
    (32, 4, 96, 16, 8, (1, 1)),
    (3, 16, 2, 24, 1, (3,)),  # more outputs than 16, hidden units that are no multiple of a block, one texel
    (22, 12, 96, 64, 5, (1,)),
    (10, 3, 24, 64, 7, (0, 3)),
    (32, 4, 5, 64, 8, (9, 4)),
]


@pytest.fixture(autouse=True)
def poison():
    """Memory that nobody has written to is NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def launches(monkeypatch):
    """Names of the kernels that are launched."""
    names: list[str] = []
    launch = cuda._launch

    def note(name, *arguments, **flags):
        names.append(name)
        launch(name, *arguments, **flags)

    monkeypatch.setattr(cuda, "_launch", note)
    return names


def draw(features, values, samples, hidden, resolution, rays):
    """Rays, depths and target; rays begin and end beyond the planes."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    planes = torch.randn(len(rays), 3, resolution, resolution, features)
    slot = torch.arange(len(rays)).repeat_interleave(torch.tensor(rays))
    directions = 2 * torch.nn.functional.normalize(torch.randn(len(slot), 3), dim=-1)
    origins = 0.4 * torch.randn(len(slot), 3) - 0.6 * directions
    t = 1.3 * torch.rand(len(slot), samples).sort(1).values
    head = FieldHead(features, values, hidden)
    head.out.bias.data[0] = 2.0
    given = PlaneRays(planes, slot, Rays(origins, directions), head, torch.rand(values), AXES["xy-xz-yz"])
    return given, t, torch.rand(len(slot), values)


def doubled(given, t, target):
    """The same inputs in float64."""
    rays = Rays(given.rays.origins.double(), given.rays.directions.double())
    head, planes = copy.deepcopy(given.head).double(), given.planes.double()
    exact = replace(given, planes=planes, rays=rays, head=head, background=given.background.double())
    return exact, t.double(), target.double()


def outcome(kernel, given, t, target):
    """All that a kernel computes: densities, pixels, squared error, and the gradients of the last two."""
    given = replace(given, planes=given.planes.detach().requires_grad_())
    found = {"densities": kernel.densities(given, t)}
    seen = kernel.march(given, t)
    found |= {"pixels": seen.pixels, "accumulation": seen.accumulation, "depth": seen.depth}
    weight = target - 0.5  # any gradient of the pixels
    wanted = [given.planes, *given.head.parameters()]
    found["error"] = kernel.squared_error(given, t, Target(target, 0.7, target[:, 0] - 0.2, 2.5))
    for name, value in {"pixels": (seen.pixels * weight).sum(), "error": 3 * found["error"]}.items():
        gradients = torch.autograd.grad(value, wanted)
        found |= {
            f"d {name} / d {of}": own
            for of, own in zip(("planes", "w1", "b1", "w2", "b2"), gradients, strict=True)
        }  # fmt: skip
    return {name: value.detach() for name, value in found.items()}


def assert_equal(ours, exact, tolerances=None):
    for name, value in exact.items():
        largest = float(value.abs().max()) if value.numel() else 0.0
        tolerance = (tolerances or {}).get(name, ROUNDING) * largest + CANCELLED
        assert ours[name].shape == value.shape
        torch.testing.assert_close(
            ours[name].double(), value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_plain_version_in_float64(size):
    given = draw(*size)
    ours = outcome(cuda, *given)
    assert_equal(ours, outcome(reference, *doubled(*given)))
    empty = [scene for scene, rays in enumerate(size[-1]) if not rays]
    assert (ours["d error / d planes"][empty] == 0).all()


def in_hulls(given, scenes):
    """The same rays in hulls of cells drawn by lot."""
    return replace(given, hulls=Hulls(torch.randint(0, 256, (scenes, 16, 16, 2), dtype=torch.uint8)), extent=0.7)


@pytest.mark.parametrize("size", SIZES[:4], ids=str)
def test_samples_outside_hulls_are_empty(size):
    given, t, target = draw(*size)
    given = in_hulls(given, len(size[-1]))
    assert_equal(outcome(cuda, given, t, target), outcome(reference, *doubled(given, t, target)))


def test_samples_lie_in_hulls_and_outside():
    held = []
    for size in SIZES:
        given, t, _ = draw(*size)
        given = in_hulls(given, len(size[-1]))
        held.append(given.hulls.hold(given.slot, given.rays.at(t) * given.extent).flatten())
    assert 0.01 < torch.cat(held).float().mean() < 0.99


def test_points_lie_beyond_the_planes_and_between_them():
    outside = [draw(*size) for size in SIZES]
    parts = [(given.rays.at(t).abs() > 1).any(-1).float() for given, t, _ in outside]
    assert 0.1 < torch.cat([part.flatten() for part in parts]).mean() < 0.9


def test_planes_in_bfloat16():
    """The planes' rounding is the only one: sums are float32. Their gradient is rounded when it is handed over."""
    given, *others = draw(32, 4, 16, 16, 8, (3, 2))
    given = replace(given, planes=given.planes.bfloat16())
    ours, exact = outcome(cuda, given, *others), outcome(reference, *doubled(given, *others))
    assert ours["d error / d planes"].dtype == torch.bfloat16
    assert_equal(ours, exact, {"d error / d planes": 2**-8, "d pixels / d planes": 2**-8})


def test_the_authors_planes():
    given, *others = draw(10, 3, 8, 16, 6, (3, 2))
    given = replace(given, axes=AXES["xy-xz-zx"])
    assert_equal(outcome(cuda, given, *others), outcome(reference, *doubled(given, *others)))


def test_no_rays():
    given = draw(10, 4, 8, 16, 6, (0, 0))
    ours = outcome(cuda, *given)
    assert ours["pixels"].shape == (0, 4)
    assert ours["error"] == 0
    assert all((value == 0).all() for value in ours.values())


def test_dense_fog_is_seen_as_it_is():
    given, *others = draw(10, 4, 8, 16, 6, (3, 2))
    given = replace(given, planes=300 * given.planes)
    ours, exact = outcome(cuda, given, *others), outcome(reference, *doubled(given, *others))
    assert_equal(ours, exact, dict.fromkeys(exact, 0.001))


def test_long_rays_are_left_to_the_plain_version(launches):
    given = draw(10, 4, 129, 16, 6, (1,))
    assert_equal(outcome(cuda, *given), outcome(reference, *doubled(*given)))
    assert launches == []


def test_what_is_frozen_has_no_gradient():
    given, *others = draw(10, 4, 8, 16, 6, (3, 2))
    planes, head = given.planes.requires_grad_(), given.head

    def squared_error(given):
        return cuda.squared_error(given, others[0], Target(others[1]))

    both = torch.autograd.grad(squared_error(given), [planes, head.out.weight])
    head.requires_grad_(False)
    squared_error(given).backward()
    torch.testing.assert_close(planes.grad, both[0])
    head.requires_grad_(True)
    squared_error(replace(given, planes=planes.detach())).backward()
    torch.testing.assert_close(head.out.weight.grad, both[1])


@pytest.mark.parametrize(
    ("sampling", "expected"), [(InsideBall(5), ["sweep"]), (FullRay(4, 4), ["densities", "sweep"])]
)
def test_latent_supervision_is_one_launch_and_one_for_each_pass_before(sampling, expected, launches, monkeypatch):
    """Value and all gradients of a step's loss; only the papers' first pass has to be looked at beforehand."""
    monkeypatch.setattr(cuda, "serves", lambda planes, head: True)
    monkeypatch.setattr("scaled_ig.rendering.kernels.FAST", (cuda,))
    scenes = MicroMacro(micro_channels=2, macro_channels=3, num_bases=2, plane_resolution=4)
    scenes.new_scenes(3)
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[:, 2, 3] = -1.3
    rays = Cameras(pose, torch.tensor([[1.0, 1.0, 0.5, 0.5]] * 2)).rays(2)
    renderer = Renderer(FieldHead(5, 4, 16), sampling)
    jitter = Jitter(CounterNoise(0), torch.arange(8).view(2, 4))
    loss = renderer.squared_error(scenes, torch.tensor([2, 0]), rays, torch.ones(4), torch.zeros(2, 4, 4), jitter)
    loss.backward()
    assert launches == expected
    assert scenes.bases.grad.abs().max() > 0


def test_alignment_is_a_launch_forward_and_one_backward(launches):
    given, t, _ = draw(10, 4, 8, 16, 6, (3, 2))
    given.planes.requires_grad_()
    cuda.march(given, t).pixels.sum().backward()
    assert launches == ["render", "sweep"]
