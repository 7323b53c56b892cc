"""Views of whole scenes: what they depend on, and what not."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from scaled_ig.cameras import Rays, orbit
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.compositing import EMPTY
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.fields import POINTS_AT_ONCE
from scaled_ig.rendering.renderer import Jitter, Renderer
from scaled_ig.rendering.sampling import FullRay, InsideBall, importance
from scaled_ig.representations import MicroMacro, SceneRepresentation
from scaled_ig.representations.scene_table import SceneTable

PLANS = {"ball": InsideBall(12), "one-pass": FullRay(24, 0), "two-pass": FullRay(12, 12)}
BACKGROUND = torch.tensor([0.3, -0.2, 0.9])


@pytest.fixture
def representation():
    made = MicroMacro(3, 5, num_bases=2, plane_resolution=8, extent=0.5)
    made.new_scenes(5, seed=2)
    return made


@pytest.fixture
def head():
    torch.manual_seed(1)
    made = FieldHead(8, 3, hidden_channels=16)
    made.out.weight.data *= 4
    made.out.bias.data[0] = 3
    return made


def ray_ids(views: int, rays: int) -> torch.Tensor:
    return torch.arange(views)[:, None] << 20 | torch.arange(rays)


@pytest.mark.parametrize("kernel", ["reference", "auto"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@torch.no_grad()
def test_a_view_does_not_see_its_batch(representation, head, plan, kernel):
    renderer = Renderer(head, plan, kernel)
    scenes, rays = torch.tensor([3, 0, 3, 4]), orbit(4).rays(8)
    jitter = Jitter(CounterNoise(1, 2, 3), ray_ids(4, 64))
    every = renderer(representation, scenes, rays, BACKGROUND, jitter)
    assert every.pixels.flatten(0, 1).std(0).min() > 0.02
    for chosen in ([2], [3, 1], [3, 2, 1, 0]):
        own = Jitter(jitter.noise, jitter.ray_ids[chosen])
        some = renderer(representation, scenes[chosen], rays[chosen], BACKGROUND, own)
        for name, value in vars(some).items():
            torch.testing.assert_close(value, getattr(every, name)[chosen], rtol=1e-5, atol=1e-5)
    pixels = torch.tensor([5, 9, 40])
    own = Jitter(jitter.noise, jitter.ray_ids[:, pixels])
    some = renderer(representation, scenes, rays[:, pixels], BACKGROUND, own)
    torch.testing.assert_close(some.pixels, every.pixels[:, pixels], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@torch.no_grad()
def test_only_noise_changes_a_view(representation, head, plan):
    renderer, scenes, rays = Renderer(head, plan), torch.tensor([1, 2]), orbit(2).rays(8)

    def see(step: int | None) -> torch.Tensor:
        jitter = None if step is None else Jitter(CounterNoise(0, 1, step), ray_ids(2, 64))
        return renderer(representation, scenes, rays, BACKGROUND, jitter).pixels

    assert torch.equal(see(None), see(None))
    torch.manual_seed(5)
    assert torch.equal(see(4), see(4))
    assert (see(4) - see(5)).abs().max() > 1e-3
    assert (see(4) - see(None)).abs().max() > 1e-3


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_rays_beside_the_ball_are_exactly_the_background(representation, head, kernel):
    renderer, rays = Renderer(head, InsideBall(8, radius=0.3), kernel), orbit(3).rays(16)
    seen = renderer(representation, torch.tensor([0, 1, 2]), rays, BACKGROUND)
    missed = torch.linalg.cross(rays.origins, rays.directions).norm(dim=-1) > 0.3
    assert 0.2 < missed.float().mean() < 0.9
    assert torch.equal(seen.pixels[missed], ((BACKGROUND + 1) / 2 * 2 - 1).expand(int(missed.sum()), 3))
    assert (seen.accumulation[missed] == 0).all()
    assert (seen.accumulation[~missed] > 0).all()


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_a_view_that_misses_the_ball_beside_one_that_hits_it(representation, head, kernel):
    rays, lift = orbit(2).rays(4), torch.tensor([[[0.0, 0, 0]], [[0.0, 0, 3]]])
    rays, renderer = Rays(rays.origins + lift, rays.directions), Renderer(head, InsideBall(8), kernel)
    for chosen in ([0, 1], [1]):
        seen = renderer(representation, torch.tensor([3, 0])[chosen], rays[chosen], BACKGROUND)
        torch.testing.assert_close(seen.pixels[-1], BACKGROUND.expand(16, 3))


def test_what_is_behind_the_camera_is_not_seen(representation, head):
    rays = orbit(1).rays(4)
    seen = Renderer(head, InsideBall(8))(
        representation, torch.tensor([3]), Rays(-rays.origins, rays.directions), BACKGROUND
    )
    torch.testing.assert_close(seen.pixels[0], BACKGROUND.expand(16, 3))


class SolidBall(SceneRepresentation):
    """Scene s is a ball of radius 0.2 + 0.05 s around (0.1, 0, 0): feature 1 inside, 0 outside."""

    feature_channels = 1

    def forward(self, scene_index, positions):
        radius = 0.2 + 0.05 * scene_index[:, None].to(positions.dtype)
        return ((positions - positions.new_tensor([0.1, 0, 0])).norm(dim=-1) < radius)[..., None].to(positions.dtype)

    def own_tables(self):
        return {}


class Step(nn.Module):
    """Density 0 for feature 0, ``density`` for feature 1; value 0.25."""

    def __init__(self, density: float) -> None:
        super().__init__()
        self.raw = density + math.log(-math.expm1(-density)) + 1

    def forward(self, features):
        return torch.where(features[..., 0] > 0.5, self.raw, -60.0), torch.full_like(features, 0.25)


@torch.no_grad()
def test_plans_agree_on_a_ball_of_known_opacity():
    camera, centre = orbit(3), torch.tensor([0.1, 0, 0])
    rays, scenes = camera.rays(12), torch.tensor([0, 1, 2])
    impact = torch.linalg.cross(rays.origins - centre, rays.directions).norm(dim=-1)
    chord = 2 * ((0.2 + 0.05 * scenes[:, None]).square() - impact.square()).clamp(min=0).sqrt()
    expected = 1 - torch.exp(-4 * chord)
    for plan in (InsideBall(1000), FullRay(1500, 0), FullRay(700, 700)):
        seen = Renderer(Step(4.0), plan)(SolidBall(), scenes, rays, torch.ones(1))
        torch.testing.assert_close(seen.accumulation, expected, rtol=0, atol=0.012)
        torch.testing.assert_close(seen.pixels[..., 0], 1 - 1.5 * seen.accumulation)
        solid = expected > 0.3
        middle = (((centre - rays.origins) * rays.directions).sum(-1))[solid]
        assert ((seen.depth[solid] - middle) < 0).all(), "absorption moves the mean depth towards the camera"
        assert ((middle - chord[solid] / 2) < seen.depth[solid] + 0.01).all()


class Wall(SolidBall):
    """Opaque behind y = 0.02; remembers where it was read last."""

    def forward(self, scene_index, positions):
        self.positions = positions
        return (positions[..., 1:2] > 0.02).to(positions.dtype)


@torch.no_grad()
def test_the_second_pass_lies_around_the_interval_that_stops_the_light():
    wall, step = Wall(), 1.6 / 17
    ray = orbit(1, elevation_radians=0.0, azimuth_range_radians=(-math.pi / 2, 0.0)).rays_at(torch.tensor([[60]]), 11)
    Renderer(Step(1000.0), FullRay(17, 400, t_near=0.5, t_far=2.1))(wall, torch.tensor([0]), ray, torch.ones(1))
    t = (wall.positions[0] - ray.origins[0, 0]).norm(dim=-1)
    first = 0.5 + step * (torch.arange(17) + 0.5)
    behind = int((ray.origins[0, 0, 1] + first * ray.directions[0, 0, 1] > 0.02).nonzero()[0])
    stopped = float(first[behind - 1 : behind + 1].mean())
    second = t[(t[:, None] - first).abs().amin(1) > 1e-4]
    near = second[(second - stopped).abs() < 2 * step]
    assert len(near) > 0.7 * len(second)
    assert float(near.mean()) == pytest.approx(stopped, abs=0.15 * step)


@pytest.mark.parametrize("plan", [InsideBall(4), FullRay(5, 4)], ids=["ball", "two-pass"])
def test_gradients_of_the_whole_renderer(plan, monkeypatch):
    kept: list[torch.Tensor] = []  # no gradient goes through the sampling: hold the second pass where it is

    def importance_once(*arguments):
        if not kept:
            kept.append(importance(*arguments))
        return kept[0]

    monkeypatch.setattr("scaled_ig.rendering.kernels.reference.importance", importance_once)
    torch.manual_seed(0)
    representation = MicroMacro(1, 2, num_bases=2, plane_resolution=3, extent=0.5).double()
    representation.new_scenes(2)
    representation.double()
    head = FieldHead(3, 2, hidden_channels=4).double()
    with torch.no_grad():
        head.out.bias[0] = 2
    renderer, rays = Renderer(head, plan, "reference"), orbit(2).to(torch.float64).rays(2)
    names = [name for name, _ in representation.named_parameters()]
    head_names = [name for name, _ in head.named_parameters()]

    def see(*parameters):
        own = dict(zip(names, parameters, strict=False))
        shared = dict(zip(head_names, parameters[len(names) :], strict=True))

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.representation, self.renderer = representation, renderer

            def forward(self):
                return self.renderer(self.representation, torch.tensor([1, 0]), rays, BACKGROUND[:2].double()).pixels

        values = {f"representation.{name}": value for name, value in own.items()}
        values |= {f"renderer.head.{name}": value for name, value in shared.items()}
        return torch.func.functional_call(Both(), values)

    parameters = [p.detach().clone().requires_grad_() for p in (*representation.parameters(), *head.parameters())]
    assert {"micro.weight", "mixing.weight", "bases"} == set(names)
    # Rows of tables have sparse gradients, which gradcheck does not take: numerical differences, one number at a time.
    see(*parameters).square().sum().backward()
    for name, parameter in zip((*names, *head_names), parameters, strict=True):
        gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
        assert gradient.abs().max() > 1e-6, name
        flat = parameter.detach().view(-1)
        for place in itertools.islice(range(len(flat)), 0, None, max(1, len(flat) // 25)):
            original, step, values = float(flat[place]), 1e-6, []
            for sign in (1, -1):
                flat[place] = original + sign * step
                with torch.no_grad():
                    values.append(float(see(*parameters).square().sum()))
            flat[place] = original
            slope = (values[0] - values[1]) / (2 * step)
            assert float(gradient.view(-1)[place]) == pytest.approx(slope, rel=1e-4, abs=1e-7), f"{name}[{place}]"


class ByPoint(SceneRepresentation):
    """Another representation, read point by point; remembers what it was asked for."""

    def __init__(self, read: SceneRepresentation) -> None:
        super().__init__()
        self.read, self.head, self.asked = read, read.head, []

    @property
    def feature_channels(self):
        return self.read.feature_channels

    def forward(self, scene_index, positions):
        self.asked.append((scene_index.tolist(), positions))
        return self.read(scene_index, positions)

    def own_tables(self):
        return self.read.own_tables()


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    """Dense ones by name, which they leave."""
    found = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    module.zero_grad()
    return {name: gradient.to_dense() if gradient.is_sparse else gradient for name, gradient in found.items()}


def assert_same_training(first, second, *given) -> None:
    """Pixels, error and gradients of two renderers, each with its representation."""
    outcomes = []
    for renderer, representation in (first, second):
        seen = renderer(representation, *given)
        target = torch.linspace(-1, 1, seen.pixels.numel()).view_as(seen.pixels)
        error = renderer.squared_error(representation, *given, target)
        error.backward()
        parts = {**vars(seen), "error": error, **gradients(representation), **gradients(renderer.head)}
        outcomes.append({name.removeprefix("read."): value for name, value in parts.items()})
    assert outcomes[0].keys() == outcomes[1].keys()
    for name, ours in outcomes[0].items():
        theirs = outcomes[1][name]
        bound = {"rtol": 1e-4, "atol": 1e-4 * float(theirs.detach().abs().max())}
        torch.testing.assert_close(ours, theirs, **bound, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("plan", [*PLANS.values(), InsideBall(12, 0.3)], ids=[*PLANS, "small ball"])
def test_planes_are_read_as_any_representation_is(representation, head, plan):
    """The planes' short cut against the general way through ``forward``; a scene's rows are read once, not by ray."""
    general, renderer = ByPoint(representation), Renderer(head, plan, "reference")
    rays = orbit(5).rays(6)
    assert_same_training(
        (renderer, representation), (renderer, general), torch.tensor([3, 1, 3, 0, 3]), rays, BACKGROUND
    )
    assert all(scenes == [0, 1, 3] for scenes, _ in general.asked)
    assert len(general.asked) == 2 + 2 * (plan is PLANS["two-pass"])


class InBox(ByPoint):
    """Holds something where x is more than a bound of each scene alone."""

    def __init__(self, read: SceneRepresentation, bounds: torch.Tensor) -> None:
        super().__init__(read)
        self.bounds = bounds

    def occupied(self, scene_index, positions):
        return positions[..., 0] > self.bounds[scene_index][:, None]


class Marked(InBox):
    """The same by a further feature, for :class:`Marking`; all points are read."""

    def forward(self, scene_index, positions):
        kept = super().occupied(scene_index, positions)
        return torch.cat([kept[..., None].float(), super().forward(scene_index, positions)], -1)

    def occupied(self, scene_index, positions):
        return None


class Marking(nn.Module):
    """A head that sees nothing where the first feature is 0."""

    def __init__(self, head: FieldHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features):
        densities, values = self.head(features[..., 1:])
        kept = features[..., 0] > 0
        return torch.where(kept, densities, EMPTY), torch.where(kept[..., None], values, 0)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_points_that_hold_nothing_are_not_read(representation, head, plan):
    """As slowly by reading all of them. Scene 1 is empty, scene 3 is full."""
    bounds, scenes, rays = torch.tensor([0.1, 9, 0, -9, 0]), torch.tensor([3, 1, 3, 0]), orbit(4).rays(6)
    some = InBox(representation, bounds)
    ours, theirs = Renderer(head, plan), Renderer(Marking(head), plan)
    outcomes = []
    for renderer, scenery in ((ours, some), (theirs, Marked(representation, bounds))):
        seen = renderer(scenery, scenes, rays, BACKGROUND)
        seen.pixels.square().sum().backward()
        outcomes.append([seen.pixels, seen.depth, *gradients(representation).values(), *gradients(head).values()])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.detach().abs().max()))
    torch.testing.assert_close(outcomes[0][0][1], BACKGROUND.expand(36, 3), rtol=0, atol=1e-4)
    for _, positions in some.asked:
        read = positions.norm(dim=-1) > 0  # what fills up lies in the middle
        assert (positions[0][read[0]][:, 0] > 0.1).all()
        assert read.sum(1).tolist()[1] == 0
        assert 0 < int(read[0].sum()) < int(read[2].sum())
    nothing = ours(InBox(representation, torch.full((5,), 9.0)), scenes, rays, BACKGROUND)
    torch.testing.assert_close(nothing.pixels, BACKGROUND.expand(4, 36, 3), rtol=0, atol=1e-4)


@pytest.fixture
def with_own_heads(representation, head):
    """Five scenes, whose heads differ."""
    representation.head = SceneTable(head.row.shape, std=0.2, mean=head.row)
    representation.head.new_scenes(5, seed=3)
    return representation


@pytest.mark.parametrize("kernel", ["reference", "auto"])
@torch.no_grad()
def test_a_scene_is_seen_through_its_own_head(with_own_heads, head, kernel):
    scenes, rays = torch.tensor([3, 1, 3, 0]), orbit(4).rays(6)
    whole = Renderer(head, PLANS["two-pass"], kernel)(with_own_heads, scenes, rays, BACKGROUND)
    rows, with_own_heads.head = with_own_heads.head.weight.detach(), None
    for view, scene in enumerate(scenes.tolist()):
        own = copy.deepcopy(head)
        vector_to_parameters(rows[scene], own.parameters())
        alone = Renderer(own, PLANS["two-pass"], kernel)(with_own_heads, scenes[[view]], rays[[view]], BACKGROUND)
        for part, value in vars(alone).items():
            torch.testing.assert_close(getattr(whole, part)[view], value[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plan", [*PLANS.values(), InsideBall(12, 0.3)], ids=[*PLANS, "small ball"])
def test_all_ways_agree_on_heads_of_scenes(with_own_heads, head, plan):
    """Compiled and plain kernel, scene by scene, and all scenes at once point by point; a ball may be missed."""
    rays, lift = orbit(5).rays(6), torch.zeros(5, 1, 3)
    lift[1, 0, 2] = 3
    given = torch.tensor([3, 1, 3, 0, 4]), Rays(rays.origins + lift, rays.directions), BACKGROUND
    plain = Renderer(head.requires_grad_(False), plan, "reference"), with_own_heads
    assert_same_training((Renderer(head, plan, "auto"), with_own_heads), plain, *given)
    assert_same_training((Renderer(head, plan), ByPoint(with_own_heads)), plain, *given)
    plain[0](with_own_heads, *given).pixels.square().sum().backward()
    rows = gradients(with_own_heads)["head.weight"].abs().amax(1)
    assert (rows > 0).tolist() == [True, isinstance(plan, FullRay), False, True, True]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("kind", ["own heads", "one head", "occupied"])
def test_points_are_read_some_at_a_time_where_no_gradient_is_wanted(with_own_heads, head, plan, kind, monkeypatch):
    """So that a batch of whole images fits in memory; in training, every pass reads all of its points at once."""
    if kind == "one head":
        with_own_heads.head = None
    box = InBox(with_own_heads, torch.tensor([-0.1, 0.1, 0.0, 0.1, 0.2]))
    representation = box if kind == "occupied" else ByPoint(with_own_heads)
    given = representation, torch.tensor([3, 1, 3, 0]), orbit(4).rays(6), BACKGROUND
    renderer, passes = Renderer(head, plan), 2 if plan.num_importance else 1
    whole = renderer(*given)
    assert len(representation.asked) == passes
    monkeypatch.setitem(POINTS_AT_ONCE, "cpu", 500)
    with torch.no_grad():
        blocks = renderer(*given)
    for part, value in vars(whole).items():
        torch.testing.assert_close(getattr(blocks, part), value, rtol=1e-5, atol=1e-5)
    asked = representation.asked[passes:]
    assert len(asked) > 2 * passes
    assert max(positions.shape[1] for _, positions in asked) <= 500
    assert {len(scenes) for scenes, _ in asked} >= {1, 2}  # blocks end within scenes, and some hold two
    representation.asked.clear()
    renderer(*given)
    assert len(representation.asked) == passes


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_planes_in_bfloat16_cost_a_256th_of_a_feature(representation, head, kernel):
    scenes, rays = torch.tensor([3, 1, 3]), orbit(3).rays(6)
    target = torch.zeros(3, 36, 3)
    seen, gradients = [], []
    for precision in ("float32", "bfloat16"):
        renderer = Renderer(head, InsideBall(12), kernel, precision)
        representation.zero_grad()
        renderer.squared_error(representation, scenes, rays, BACKGROUND, target).backward()
        gradients.append(representation.bases.grad.clone())
        seen.append(renderer(representation, scenes, rays, BACKGROUND).pixels.detach())
    assert 1e-5 < (seen[0] - seen[1]).abs().max() < 2**-8 * 4
    assert gradients[1].dtype == torch.float32
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.05 * float(gradients[0].abs().max()))
    assert not torch.equal(*gradients)


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_gradients_of_rounded_planes_are_not_rounded(representation, head, kernel):
    """They are those of planes that are what rounding makes of them."""
    scenes, rays = torch.tensor([3, 1]), orbit(2).rays(6)
    target, gradients, planes = torch.zeros(2, 36, 3), [], representation.planes
    for precision in ("bfloat16", "float32"):
        seen = planes(torch.tensor([1, 3])).detach()
        seen = (seen if precision == "bfloat16" else seen.bfloat16().float()).requires_grad_()
        representation.planes = lambda scenes, given=seen: given
        renderer = Renderer(head, InsideBall(12), kernel, precision)
        renderer.squared_error(representation, scenes, rays, BACKGROUND, target).backward()
        gradients.append(seen.grad)
    assert torch.equal(*gradients)
    assert not torch.equal(gradients[0], gradients[0].bfloat16().float())


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_a_squared_error_has_no_gradient_to_target_and_background(representation, head, kernel):
    """Neither by rays that hit nor by those that miss, of which a part would be wrong."""
    rays, scenes = orbit(3).rays(8), torch.tensor([0, 1, 2])
    background, target = BACKGROUND.clone().requires_grad_(), torch.zeros(3, 64, 3, requires_grad=True)
    renderer = Renderer(head, InsideBall(8, radius=0.3), kernel)
    renderer.squared_error(representation, scenes, rays, background, target).backward()
    assert background.grad is None
    assert target.grad is None
    assert representation.bases.grad.abs().max() > 0
