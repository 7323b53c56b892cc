"""What every representation owes the rest of the house, and that each learns a scene."""

import dataclasses
import json

import pytest
import torch
from torch.func import functional_call

from benchmarks import analytic
from scaled_ig.autoencoders import IdentityAutoencoder, SmallAutoencoder
from scaled_ig.bank.description import build, describe
from scaled_ig.optim import SceneAdam
from scaled_ig.phases import LearningRates
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.renderer import Jitter
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import (
    InstantNgp,
    KPlanes,
    MicroMacro,
    SceneRepresentation,
    TensoRF,
    TriPlanes,
    VanillaNerf,
)
from scaled_ig.scene_model import SceneModel

TINY = {
    MicroMacro: {"micro_channels": 2, "macro_channels": 1, "num_bases": 2, "plane_resolution": 3, "extent": 0.5},
    TriPlanes: {"channels": 2, "plane_resolution": 3, "extent": 0.5},
    VanillaNerf: {"depth": 3, "width": 4, "skip": 1, "frequencies": 1, "extent": 0.5},
    InstantNgp: {
        "levels": 2, "log2_table_size": 5, "coarsest": 2, "finest": 4, "extent": 0.5, "table_std": 1.0,
        "density_resolution": 4,
    },
    TensoRF: {
        "density_components": 1, "appearance_components": 2, "appearance_channels": 2, "resolution": 3, "extent": 0.5,
    },
    KPlanes: {"channels": 2, "resolution": 2, "scales": (1, 2), "extent": 0.5},
}  # fmt: skip
EVERY = pytest.mark.parametrize("kind", TINY, ids=lambda kind: kind.__name__)
NOT_TRAINED = {"density_grid"}


def made(kind: type[SceneRepresentation], num_scenes: int = 4) -> SceneRepresentation:
    representation = kind(**TINY[kind])
    representation.new_scenes(num_scenes, seed=3)
    return representation


def points(num_scenes: int, count: int = 5) -> torch.Tensor:
    """[S, P, 3] within the cube, the same for every scene."""
    where = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return 0.95 * where.expand(num_scenes, -1, -1)


def trained_tables(representation: SceneRepresentation):
    return {name: table for name, table in representation.scene_tables().items() if name not in NOT_TRAINED}


@EVERY
def test_shapes_and_names(kind):
    representation = made(kind)
    features = representation(torch.tensor([3, 0]), points(2))
    assert features.shape == (2, 5, representation.feature_channels)
    assert not torch.equal(features[0], features[1])
    rates = {field.name for field in dataclasses.fields(LearningRates)}
    assert set(trained_tables(representation)) <= rates
    for name, table in representation.scene_tables().items():
        assert getattr(representation, name) is table
        assert table.num_scenes == 4
    held = {id(table.weight) for table in representation.scene_tables().values()}
    held |= {id(parameter) for parameter in representation.shared_parameters().values()}
    assert held == {id(parameter) for parameter in representation.parameters()}


@EVERY
@torch.no_grad()
def test_a_scene_is_its_row_whatever_is_asked_for_beside_it(kind):
    representation = made(kind)
    everything, where = torch.arange(4), points(4)
    before = representation(everything, where)
    torch.testing.assert_close(representation(everything[[2]], where[:1]), before[[2]])
    for table in representation.scene_tables().values():
        table.weight[1] += 0.5
    after = representation(everything, where)
    assert torch.equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert not torch.equal(after[1], before[1])


@EVERY
def test_gradients_reach_the_rows_that_were_asked_for(kind):
    representation = made(kind)
    representation(torch.tensor([1, 3]), points(2)).square().sum().backward()
    for name, table in trained_tables(representation).items():
        gradient = table.weight.grad
        assert gradient.is_sparse, name
        assert gradient.coalesce().indices()[0].tolist() == [1, 3], name
        assert (gradient.coalesce().values().flatten(1).abs().amax(1) > 0).all(), name


class _DenseGradient(torch.autograd.Function):
    """Nothing, but that sparse gradients become dense, which gradcheck wants."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0].to_dense() if gradients[0].is_sparse else gradients[0]


@EVERY
def test_gradients_are_slopes(kind):
    representation = made(kind, 3).double()
    with torch.no_grad():
        for table in trained_tables(representation).values():
            table.weight += 0.1 * torch.rand_like(table.weight)  # biases of 0 are no place to differentiate
    names = [f"{name}.weight" for name in trained_tables(representation)] + list(representation.shared_parameters())
    parameters = dict(representation.named_parameters())
    scenes, where = torch.tensor([0, 2]), points(2, 3).double()

    def features(*values):
        dense = map(_DenseGradient.apply, values)
        return functional_call(representation, dict(zip(names, dense, strict=True)), (scenes, where))

    assert torch.autograd.gradcheck(features, [parameters[name].detach().requires_grad_() for name in names])


@EVERY
def test_new_scenes_are_the_same_on_any_number_of_ranks(kind):
    whole = made(kind, 5)
    again = made(kind, 5).scene_tables()
    for name, table in whole.scene_tables().items():
        assert torch.equal(table.weight, again[name].weight)
    for rank in range(2):
        part = kind(**TINY[kind])
        part.shard(rank, 2)
        part.new_scenes(5, seed=3)
        for name, table in part.scene_tables().items():
            assert 0 < len(table.weight) < 5
            assert torch.equal(table.weight, whole.scene_tables()[name].weight[list(table.owned)]), name


@EVERY
@torch.no_grad()
def test_scenes_are_of_latents_as_of_pixels_and_open_again(kind):
    """Whatever the values are; and from a description alone, as a bank opens them."""
    camera, scenes = analytic.cameras_above(2).to(torch.float32), torch.tensor([1, 0])
    for autoencoder, size in ((IdentityAutoencoder(), (3, 8, 8)), (SmallAutoencoder(4, 5), (5, 2, 2))):
        model = SceneModel(kind(**TINY[kind]), autoencoder, InsideBall(6), resolution=8, own_heads=True)
        model.representation.new_scenes(2)
        latent = model.render_latent(camera, scenes)
        assert latent.shape == (2, *size)
        again = build(json.loads(json.dumps(describe(model))))
        again.representation.new_scenes(2, seed=9)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.render_latent(camera, scenes), latent)


# Sizes, and a rate that 60 steps suffice with.
LEARNERS = [
    (MicroMacro(4, 4, 2, plane_resolution=16, extent=0.5, plane_std=0.1), 0.1),
    (TriPlanes(8, plane_resolution=16, extent=0.5, plane_std=0.1), 0.1),
    (VanillaNerf(depth=3, width=32, skip=1, frequencies=3, extent=0.5), 0.01),
    (InstantNgp(3, 10, coarsest=4, finest=16, extent=0.5, density_resolution=8), 0.1),
    (TensoRF(4, 4, 8, resolution=16, extent=0.5), 0.1),
    (KPlanes(channels=4, resolution=8, extent=0.5), 0.05),
]


@pytest.mark.parametrize(("representation", "rate"), LEARNERS, ids=[kind.__name__ for kind in TINY])
def test_two_scenes_of_formulas_are_learned_side_by_side(representation, rate):
    cameras = analytic.cameras_above(2)
    images = torch.stack(
        [analytic.render(analytic.SCENES[name], cameras, 16, 64) for name in ("blobs", "striped_ring")]
    )
    target = images.float().flatten(0, 1).flatten(1, 2) * 2 - 1
    cameras, scenes = cameras.to(torch.float32)[[0, 1, 0, 1]], torch.arange(2).repeat_interleave(2)
    model = SceneModel(representation, IdentityAutoencoder(), InsideBall(12), resolution=16, own_heads=True)
    representation.new_scenes(2, seed=0)
    tables = trained_tables(representation)
    groups = [
        {"name": name, "params": [table.weight], "lr": 0.01 if name == "head" else rate, "rows": True}
        for name, table in tables.items()
    ]
    optimizer = SceneAdam(groups, "per_scene", (0.9, 0.99), 1e-15)
    rays = torch.arange(16 * 16) + (torch.arange(4) << 20)[:, None]
    for step in range(60):
        noise = CounterNoise(0, 3, step)
        model.refresh(torch.arange(2), noise)
        model.rendering_loss(cameras, scenes, target, Jitter(noise, rays)).backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.render(cameras, scenes).pixels - target).square().unflatten(0, (2, 2)).mean((1, 2, 3)) / 4
    assert (-10 * error.log10() > 24).all()
