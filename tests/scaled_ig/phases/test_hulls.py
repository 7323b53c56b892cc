"""Hulls of the scenes that a phase trains, and rays that meet them."""

import itertools

import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras, look_at_origin, orbit
from scaled_ig.phases.cached_latents import _trusted, latent_coverage
from scaled_ig.phases.hulls import carve_hulls, draw_near
from scaled_ig.rendering.renderer import Opacity
from scaled_ig.rendering.sampling import InsideHull
from scaled_ig.representations import TriPlanes
from scaled_ig.representations.occupancy import Hulls, carve
from scaled_ig.scene_model import SceneModel

SIZE, RADIUS = 64, 0.3


def ball_views(count: int = 12) -> tuple[Cameras, torch.Tensor]:
    """Cameras all around a ball, and its masks [V, H, W]: the part of each pixel's rays that meet it."""
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    cameras = look_at_origin(1.3 * directions)
    near, far = cameras.rays(4 * SIZE).ball_limits(RADIUS)
    fine = (far > near).float().view(count, 1, 4 * SIZE, 4 * SIZE)
    return cameras, (255 * torch.nn.functional.avg_pool2d(fine, 4)[:, 0]).round().to(torch.uint8)


class Masks:
    """Of three scenes: a ball, one without masks, and a ball that one view does not show."""

    def silhouettes(self, stage, scenes, title):
        for scene in scenes:
            cameras, masks = ball_views()
            masks[4] *= scene != 2
            yield scene, None if scene == 1 else (masks, cameras)

    def scene_ids(self, stage):
        return ["ball", "photographs", "white roof"]


@pytest.fixture
def model():
    representation = TriPlanes(channels=4, plane_resolution=16, extent=0.5, plane_std=0.1)
    scene = SceneModel(representation, IdentityAutoencoder(), InsideHull(24), resolution=SIZE)
    representation.new_scenes(3)
    return scene


def test_hulls_are_carved_where_masks_agree(model, capsys):
    table = model.representation.hull
    carve_hulls(table, Masks(), 2)
    cells = Hulls(table.weight).cells().float().mean((1, 2, 3))
    assert 0.11 < cells[0] < 0.3, "the ball fills 11 % of the cube, and pixels are large"
    assert (cells[1:] == 1).all()
    refused, missing = capsys.readouterr().out.splitlines()
    assert refused.startswith("scene white roof: its masks contradict each other")
    assert missing == "1 of 3 scenes have no masks (photographs): they are trained in the whole ball"
    before = table.weight.clone()
    carve_hulls(table, Masks(), 2)
    assert torch.equal(table.weight, before)


def test_hulls_of_latents_hold_what_their_networks_reach(model):
    table = model.representation.hull
    carve_hulls(table, Masks(), 2, latent_pixel=4)
    cameras, masks = ball_views()
    assert torch.equal(Hulls(table.weight).cells()[0], carve(masks, cameras, dilation=1.5 + 4))


def test_rays_that_meet_the_hull_are_all_among_those_drawn(model):
    carve_hulls(model.representation.hull, Masks(), 2)
    cameras, masks = ball_views()
    masked = torch.arange(len(masks)) != 3
    scene, view = torch.zeros(len(masks), dtype=torch.long), torch.arange(len(masks))
    images = torch.randint(256, (len(masks), 3, SIZE, SIZE), dtype=torch.uint8)
    batch = ViewBatch(cameras, scene, view, images, masks, masked)
    drawn = draw_near(batch, torch.rand(len(masks), 200_000))
    found = torch.zeros(len(masks), SIZE**2, dtype=torch.bool).scatter_(1, drawn, True)
    near, far = model.representation.hulls(torch.tensor([0])).limits(
        torch.zeros(len(masks) * SIZE**2, dtype=torch.long), cameras.rays(SIZE).flatten()
    )
    assert not ((far > near).view(len(masks), -1) & ~found).any()
    assert found[3].all(), "nothing is known of a view without masks"
    assert found[0].float().mean() < 0.9


def test_more_rays_fall_where_colours_vary():
    """Half of the silhouette is flat and gets half of the even share; the other half, striped, gets the rest."""
    cameras, masks = ball_views(3)
    masks.fill_(255)
    images = torch.full((3, 3, SIZE, SIZE), 90, dtype=torch.uint8)
    images[:2, :, : SIZE // 2, ::2] = 200
    index = torch.arange(3)
    drawn = draw_near(ViewBatch(cameras, index, index, images, masks, index >= 0), torch.rand(3, 100_000))
    upper = (drawn < SIZE**2 // 2).float().mean(1)
    torch.testing.assert_close(upper, torch.tensor([0.75, 0.75, 0.5]), atol=5 * (0.25 / 100_000) ** 0.5, rtol=0)
    pixels = torch.zeros(SIZE**2).scatter_add_(0, drawn[2], torch.ones(100_000))
    assert pixels.min() > 0, "an image of one colour is drawn from evenly"


@pytest.mark.slow("learns a ball")
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_white_ball_before_white_is_no_fog(model, weight):
    """Its pixels say nothing of it; the error of opacity against the masks does."""
    carve_hulls(model.representation.hull, Masks(), 2)
    cameras, masks = ball_views()
    scene = torch.zeros(len(masks), dtype=torch.long)
    white = torch.ones(len(masks), SIZE**2, 3)
    opacity = Opacity(masks.flatten(1) / 255, weight) if weight else None
    table = model.representation.micro.weight
    adam = torch.optim.Adam([{"params": [table], "lr": 0.1}, {"params": model.renderer.head.parameters(), "lr": 0.01}])
    for _ in range(60):
        adam.zero_grad()
        model.rendering_loss(cameras, scene, white, opacity=opacity).backward()
        table.grad = table.grad.to_dense()
        adam.step()
    with torch.no_grad():
        seen = model.render(orbit(4), scene[:4])
    near, far = orbit(4).rays(SIZE).ball_limits(RADIUS)
    inside = seen.accumulation[(far - near) > 0.2].mean()
    if weight:
        assert inside > 0.95
        assert (seen.pixels - 1).square().mean() < 4e-3, "30 dB"
        beside, beyond = orbit(4).rays(SIZE).ball_limits(RADIUS + 0.06)
        assert seen.accumulation[beyond <= beside].mean() < 0.02
    else:
        assert inside < 0.8, "white before white: nobody can tell"


def test_latents_have_the_opacity_of_what_they_reach():
    _, masks = ball_views(3)
    coverage, side = latent_coverage(masks, 4), SIZE // 4
    for view, row, column in itertools.product(range(3), range(side), range(side)):
        around = masks[view, max(0, 4 * row - 4) : 4 * row + 8, max(0, 4 * column - 4) : 4 * column + 8]
        assert coverage[view, row, column] == (1 if (around == 255).all() else 0 if (around == 0).all() else -1)
    assert {-1, 0, 1} == set(coverage.unique().tolist())
    assert torch.equal(latent_coverage(masks, 1), masks / 255)


def test_masks_that_contradict_each_other_are_not_trained_on(model):
    """The scene is sampled in the whole ball: rays come from anywhere, and nothing is known of their opacity."""
    carve_hulls(model.representation.hull, Masks(), 2)
    cameras, masks = ball_views()
    scenes, view = torch.tensor([0, 2]), torch.arange(2)
    batch = ViewBatch(cameras[:2], scenes, view, masks=masks[:2], masked=torch.ones(2, dtype=torch.bool))
    assert _trusted(model, batch).masked.tolist() == [True, False]
