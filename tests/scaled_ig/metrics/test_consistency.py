"""Agreement of views under known geometry, on balls whose depth is a closed form."""

import numpy as np
import pytest
import torch

from scaled_ig.cameras import Cameras, orbit
from scaled_ig.metrics.consistency import TOLERANCE, Match, Surface, consistent_part, disagreement, match_pixels

BIG, SMALL = (torch.zeros(3, dtype=torch.float64), 0.3), (torch.tensor([0.0, -0.4, 0.2], dtype=torch.float64), 0.08)


def cameras(*degrees: float) -> Cameras:
    """Cameras around the vertical axis, float64."""
    azimuths = [orbit(1, 0.5, 1.3, (np.radians(angle),) * 2) for angle in degrees]
    return Cameras(
        *(torch.cat([getattr(one, name) for one in azimuths]).double() for name in ("camera_to_world", "intrinsics"))
    )


def meet(origins, directions, balls):
    """First depths at which rays [..., 3] meet balls; infinite where they do not."""
    depths = []
    for centre, radius in balls:
        offset = origins - centre
        along = (offset * directions).sum(-1)
        chord = along.square() - offset.square().sum(-1) + radius**2
        depths.append(torch.where(chord > 0, -along - chord.clamp(min=0).sqrt(), torch.inf))
    return torch.stack(depths).amin(0)


def see(views: Cameras, size: int, *balls) -> tuple[Surface, torch.Tensor]:
    """What cameras see of balls, and the points [B, 3, h, w] that they see; depth 9 where there are none."""
    rays = views.rays(size)
    depth = meet(rays.origins, rays.directions, balls)
    hit = depth.isfinite()
    depth = depth.where(hit, 9.0)
    points = rays.origins + rays.directions * depth[..., None]
    shape = (len(views), size, size)
    return Surface(views, depth.reshape(shape), hit.double().reshape(shape)), points.mT.reshape(-1, 3, size, size)


def texture(points):
    """Values that depend on the point alone."""
    return torch.sin(12 * points + torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1))


def errors(size: int, step: float = 15) -> tuple[torch.Tensor, torch.Tensor]:
    """Disagreement of a texture seen twice, and of that with its pixels dealt out anew."""
    (first, points), (second, others) = see(cameras(0, 40), size, BIG), see(cameras(step, 40 + step), size, BIG)
    match = match_pixels(first, second)
    assert match.visible.flatten(1).sum(1).min() > 0.03 * size**2
    own, theirs = texture(points), texture(others)
    shuffled = own.clone()
    for view in range(2):
        rows, columns = match.visible[view].nonzero(as_tuple=True)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(view))
        shuffled[view, :, rows, columns] = own[view, :, rows[order], columns[order]]
    return disagreement(own, theirs, match), disagreement(shuffled, theirs, match)


def test_a_function_of_the_point_agrees_and_the_more_so_the_finer_the_views():
    coarse, _ = errors(32)
    fine, shuffled = errors(128)
    assert fine.max() < 0.005
    assert fine.max() < 0.2 * coarse.max()
    assert shuffled == pytest.approx(torch.ones(3), abs=0.1)


def test_a_view_agrees_with_itself():
    (surface, points) = see(cameras(20), 32, BIG)
    match = match_pixels(surface, surface)
    assert torch.equal(match.visible, surface.opacity > 0.9)
    assert disagreement(texture(points), texture(points), match).max() < 1e-12


def test_pixels_land_where_the_camera_sees_their_points():
    (first, points), (second, others) = see(cameras(0), 96, BIG), see(cameras(25), 96, BIG)
    match = match_pixels(first, second)
    carried = torch.nn.functional.grid_sample(others, match.places, align_corners=False)
    away = (carried - points).norm(dim=1)[match.visible]
    assert away.median() < 0.003
    assert away.max() < TOLERANCE, "at rims the other view's pixels hold less of the ball"


def test_hidden_points_are_not_compared():
    views, others = cameras(-50), cameras(-90)
    (first, points), (second, _) = see(views, 96, BIG, SMALL), see(others, 96, BIG, SMALL)
    match = match_pixels(first, second)
    centre = others.camera_to_world[0, :3, 3]
    towards = points[0].movedim(0, -1) - centre
    distance, (middle, radius) = towards.norm(dim=-1), SMALL
    rays = centre.expand_as(towards), towards / distance[..., None]
    margin = 1.5 * 1.3 / 96  # of pixels that hold both balls
    hidden = (distance - meet(*rays, [(middle, radius - margin)]) > 2 * TOLERANCE) & (first.opacity[0] > 0)
    assert hidden.sum() > 50, "the small ball stands before the large one"
    assert not match.visible[0][hidden].any()
    visible = ((distance - meet(*rays, [BIG, SMALL])).abs() < 1e-6) & (first.opacity[0] > 0)
    assert match.visible[0][visible].double().mean() > 0.8, "all but the rims"


def test_what_is_outside_of_the_other_view_is_not_compared():
    first, _ = see(cameras(0), 32, BIG)
    wall, solid, others = torch.full_like(first.depth, 1.0), torch.ones_like(first.opacity), cameras(10)
    aside = Cameras(others.camera_to_world, others.intrinsics + torch.tensor([0, 0, 2.0, 0]))
    assert match_pixels(first, Surface(others, wall, solid)).visible.any()
    assert not match_pixels(first, Surface(aside, wall, solid)).visible.any()


def random_match(pairs: int, size: int) -> Match:
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).expand(pairs, -1, -1, -1)
    return Match(grid, torch.rand(pairs, size, size) < 0.6)


def test_disagreement_is_one_minus_lins_concordance_over_pairs():
    torch.manual_seed(0)
    match = random_match(3, 16)
    values = torch.randn(3, 2, 16, 16)
    others = 0.7 * values + 0.4 * torch.randn(3, 2, 16, 16) + 0.3
    for channel, found in enumerate(disagreement(values, others, match).tolist()):
        squared, unrelated = 0.0, 0.0
        for pair in range(3):
            x, y = (each[pair, channel][match.visible[pair]].double().numpy() for each in (values, others))
            squared += ((x - y) ** 2).sum()
            unrelated += len(x) * (np.var(x) + np.var(y) + (x.mean() - y.mean()) ** 2)
        assert found == pytest.approx(squared / unrelated, rel=1e-4)


def test_scale_and_shift_of_a_channel_do_not_matter():
    torch.manual_seed(1)
    match, values = random_match(2, 12), torch.randn(2, 3, 12, 12)
    others = values + 0.5 * torch.randn(2, 3, 12, 12)
    scale, shift = torch.tensor([5.0, -0.1, 1.0]).view(1, 3, 1, 1), torch.tensor([1.0, 2.0, 0.0]).view(1, 3, 1, 1)
    plain, changed = (
        disagreement(values, others, match),
        disagreement(values * scale + shift, others * scale + shift, match),
    )
    torch.testing.assert_close(changed, plain, rtol=1e-3, atol=1e-6)
    assert 0.05 < plain.min() < plain.max() < 0.5


def test_a_channel_that_does_not_vary_agrees():
    match = random_match(2, 12)
    same = torch.full((2, 1, 12, 12), 0.37)
    assert float(disagreement(same, same, match)) < 1e-4
    nothing = Match(match.places, torch.zeros_like(match.visible))
    assert float(disagreement(same, -same, nothing)) == 0


def test_matches_are_joined_in_order():
    first, second = random_match(2, 8), random_match(1, 8)
    both = Match.joined([first, second])
    assert torch.equal(both.visible, torch.cat([first.visible, second.visible]))
    assert both.places.shape == (3, 8, 8, 2)


def test_the_consistent_part_is_the_mean_of_the_views_that_see_a_point():
    views = cameras(0, 10, 20, 180)
    surface, points = see(views, 48, BIG)
    match = match_pixels(Surface(*(values[[0] * 4] for values in (views, surface.depth, surface.opacity))), surface)
    seen, biases = match.visible, torch.tensor([0.0, 1.0, 3.0, 100.0], dtype=torch.float64)
    assert [int(view.sum()) for view in seen] == sorted((int(view.sum()) for view in seen), reverse=True)
    expected = (biases[:, None, None] * seen).sum(0) / seen.sum(0)
    flat = consistent_part(
        torch.full((1, 48, 48), -7.0).double(), biases[:, None, None, None].expand(4, 1, 48, 48), match
    )
    assert torch.allclose(flat[0], expected.where(seen.any(0), torch.tensor(-7.0).double()))
    off = consistent_part(points[0], points, match) - points[0]
    assert off[:, seen.any(0)].abs().median() < 1e-3  # all see the same; bilinear on a curved surface
