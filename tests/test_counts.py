"""What a step of latent supervision does, in counts that no busy machine changes: operations, bytes, calls.

A step that grows with the number of scenes, keeps what the kernels exist not to keep, or encodes what is cached, fails
here.
"""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scaled_ig import native
from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.cameras import Rays, orbit
from scaled_ig.optim import SceneAdam
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import cpu
from scaled_ig.rendering.kernels.reference import PlaneRays
from scaled_ig.rendering.renderer import Jitter
from scaled_ig.rendering.sampling import FullRay, InsideBall, stratified
from scaled_ig.representations import MicroMacro
from scaled_ig.representations.occupancy import Hulls, carve, pack
from scaled_ig.scene_model import SceneModel

SAMPLES, FEATURES, LATENTS, VIEWS = 24, 32, 16, 8
PLANS = {"one pass": InsideBall(SAMPLES), "two passes": FullRay(SAMPLES // 2, SAMPLES // 2)}


class Counts(TorchDispatchMode):
    """Operations by name, but for views; bytes that they return in memory of their own, and the largest such tensor."""

    def __init__(self):
        super().__init__()
        self.operations, self.bytes, self.largest = Counter(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten.detach.default:
            self.operations[str(func)] += 1
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if is_strided(t)}
        for tensor in tree_leaves(result):
            if is_strided(tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.bytes += tensor.nbytes
                self.largest = max(self.largest, tensor.numel())
        return result


def is_strided(value) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def counts(num_scenes: int, scenes_of_step: int, sampling, clock: str = "per_scene") -> Counts:
    """Those of the third step: the first ones make what later ones find."""
    torch.manual_seed(0)
    representation = MicroMacro(10, FEATURES - 10, num_bases=4, plane_resolution=16, extent=0.5)
    scene = SceneModel(representation, SmallAutoencoder(8, 4, 16, 1), sampling, resolution=8 * LATENTS)
    representation.new_scenes(num_scenes)
    tables = representation.scene_tables()
    groups = [{"name": name, "params": [table.weight], "lr": 1e-2, "rows": True} for name, table in tables.items()]
    shared = [*representation.shared_parameters().values(), *scene.renderer.head.parameters()]
    adam = SceneAdam([*groups, {"name": "shared", "params": shared, "lr": 1e-2}], clock)
    index = torch.arange(VIEWS) * scenes_of_step // VIEWS
    target = torch.zeros(VIEWS, LATENTS**2, 4)
    rays = (index << 32)[:, None] + torch.arange(LATENTS**2)
    for number in range(3):
        with Counts() as found:
            for table in tables.values():
                adam.catch_up(table.weight, index.unique())
            jitter = Jitter(CounterNoise(0, 3, number), rays)
            scene.rendering_loss(orbit(VIEWS), index, target, jitter).backward()
            adam.step()
            adam.zero_grad()
    return found


@pytest.mark.parametrize("clock", ["per_scene", "exact_dense"])
def test_a_step_does_the_same_whatever_the_number_of_scenes(clock):
    few, many = counts(16, 4, PLANS["one pass"], clock), counts(512, 4, PLANS["one pass"], clock)
    assert few.operations == many.operations
    assert few.bytes == many.bytes


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine: set CC")
@pytest.mark.parametrize("plan", PLANS)
def test_nothing_is_kept_of_samples(plan):
    """Depths are as many as samples; features would be 32 times as many, hidden activations 64 times."""
    rays, planes = VIEWS * LATENTS**2, 4 * 3 * 16 * 16 * FEATURES
    found = counts(16, 4, PLANS[plan])
    assert found.largest <= max(rays * SAMPLES, planes)
    samples_of_noise = 12 * 8 * rays * SAMPLES  # int64: the counter's arithmetic
    assert found.bytes < samples_of_noise + 40 * 4 * planes


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine: set CC")
def test_samples_outside_the_hull_are_not_read():
    """Of a ball, through whose hull some of the views' rays go: as many as the plain version finds held."""
    views, rays = orbit(VIEWS), orbit(VIEWS).rays(64)
    covered = rays.ball_limits(0.2)[1] > rays.ball_limits(0.2)[0]
    hull = carve((255 * covered.view(VIEWS, 64, 64)).to(torch.uint8), views, 32)
    hulls, flat = Hulls(pack(hull)[None]), rays.flatten()
    slot = torch.zeros(len(flat.origins), dtype=torch.long)
    near, far = hulls.limits(slot, flat)
    hit = far > near
    assert 0.05 < hit.float().mean() < 0.5, "other rays see the background and are not sampled"
    t = stratified(near[hit], far[hit], SAMPLES)
    planes, head = torch.zeros(1, 3, 16, 16, FEATURES), FieldHead(FEATURES, 3)
    within = Rays(2 * flat.origins[hit], 2 * flat.directions[hit])
    given = PlaneRays(planes, slot[hit], within, head, torch.ones(3), MicroMacro.AXES["xy-xz-yz"], hulls, 0.5)
    held = hulls.hold(slot[hit], flat[hit].at(t)).sum(1)
    assert torch.equal(cpu.samples_read(given, t), held)
    assert held.sum() < t.numel()
    head.out.bias.data[0] = 1e4  # opaque: groups of four samples are read, until nothing is seen behind them
    long = (far - near)[hit] > 0.05
    assert long.any()
    assert (cpu.samples_read(given, t)[long] <= 8).all()
    ball = InsideBall(SAMPLES).limits(flat)
    assert held.sum() < 0.4 * SAMPLES * int((ball[1] > ball[0]).sum())


def test_adam_touches_the_kept_texels_alone():
    """The others keep their value and their moments, whatever their gradient."""
    torch.manual_seed(0)
    table = torch.nn.Parameter(torch.randn(4, 3, 8, 8, 10))
    kept = torch.rand(4, 3, 8, 8) < 0.3
    adam = SceneAdam([{"name": "micro", "params": [table], "lr": 1e-2, "rows": True}], "per_scene")
    adam.keep(table, kept)
    before = table.detach().clone()
    gradient = torch.randn(2, 3, 8, 8, 10)
    gradient[~kept[[1, 3]]] = torch.nan
    table.grad = torch.sparse_coo_tensor([[1, 3]], gradient, table.shape, is_coalesced=True, check_invariants=False)
    adam.step()
    changed = (table.detach() != before).all(-1)
    assert torch.equal(changed[[1, 3]], kept[[1, 3]])
    assert not changed[[0, 2]].any()
    assert torch.equal(adam.state[table]["exp_avg_sq"].bool().all(-1), changed)


def test_operations_do_not_grow_with_views_or_samples():
    """A kernel is called once, whatever it is given; the optimiser's rows are the scenes of the step."""
    usual, other = counts(16, 4, InsideBall(8)), counts(16, 4, InsideBall(40))
    assert usual.operations == other.operations
    assert sum(usual.operations.values()) < 250
