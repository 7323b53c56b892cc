"""Visual hulls: no point of the object is ever carved away, and rays end where their cells do."""

import math

import pytest
import torch

from scaled_ig import native
from scaled_ig.cameras import Cameras, Rays, look_at_origin
from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.representations.occupancy import AT_ONCE, HULL_RADIUS, Hulls, carve, pack, uncovered
from scaled_ig.representations.planes import sample_planes

SIZE = 64  # pixels along a side


def cameras(count=20, seed=0) -> Cameras:
    """Around the object, at different distances."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return look_at_origin((1.1 + 0.6 * torch.rand(count, 1, generator=generator)) * directions)


def ball(points):
    return points.norm(dim=-1) < 0.35


def box(points):
    return (points.abs() < torch.tensor([0.4, 0.2, 0.12])).all(-1)


def rods(points):
    """Two crossing ones, half a cell thick."""
    x, y, z = points.unbind(-1)
    return ((x.abs() < 0.004) & (y.abs() < 0.45) & (z.abs() < 0.004)) | (
        ((x - 0.1).abs() < 0.004) & (y.abs() < 0.004) & (z.abs() < 0.45)
    )


def car(points):
    """A body, a cabin and wheels, with a bay between them."""
    x, y, z = points.unbind(-1)
    body = (x.abs() < 0.18) & (y.abs() < 0.42) & ((z + 0.02).abs() < 0.08)
    cabin = (x.abs() < 0.15) & (y.abs() < 0.2) & ((z - 0.1).abs() < 0.07)
    wheels = ((y.abs() - 0.28) ** 2 + (z + 0.1) ** 2 < 0.08**2) & ((x.abs() - 0.16).abs() < 0.03)
    return body | cabin | wheels


SHAPES = {"ball": ball, "box": box, "rods": rods, "car": car}


def points_of(shape, count=400_000, seed=1):
    """Points in a shape, drawn by lot."""
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    if shape is rods:
        thin = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
        points = torch.cat([thin * torch.tensor([0.01, 0.9, 0.01]), thin * torch.tensor([0.01, 0.01, 0.9])])
        points[20_000:, 0] += 0.1
    return points[shape(points)]


def masks_of(shape, views: Cameras):
    """Coverage of pixels, from points drawn in the shape: a pixel shows it where one of them is seen."""
    masks = torch.zeros(len(views), SIZE, SIZE, dtype=torch.uint8)
    for view, seen in enumerate(views.project(points_of(shape, seed=2))):
        place = (seen[:, :2] * SIZE).floor().long()
        inside = ((place >= 0) & (place < SIZE)).all(1)
        masks[view, place[inside, 1], place[inside, 0]] = 255
    return masks


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_no_point_of_the_object_is_carved_away(name, resolution):
    views = cameras()
    masks = masks_of(SHAPES[name], views)
    hull = carve(masks, views, resolution)
    cell = ((points_of(SHAPES[name]) + HULL_RADIUS) * resolution).long().unbind(-1)
    assert hull[cell].all()
    assert hull.float().mean() < 0.5
    assert uncovered(hull, masks, views) == 0


def test_a_hull_is_close_to_a_ball():
    """All that stays lies within a cell and the growth of the silhouettes of it."""
    views = cameras(40)
    hull = carve(masks_of(ball, views), views, 64)
    centres = (hull.nonzero() + 0.5) / 64 - 0.5
    pixel = 1.7 / (views.intrinsics[0, 0] * SIZE)
    assert centres.norm(dim=1).max() < 0.35 + 2 * math.sqrt(3) / 64 + 4 * pixel
    assert centres.norm(dim=1).max() > 0.35


def test_dilation_grows_silhouettes():
    """As much as masks that are grown by so many pixels before, along rows and columns."""
    near = cameras()
    views = Cameras(near.camera_to_world, near.intrinsics * torch.tensor([0.4, 0.4, 1.0, 1.0]))  # each shows all cells
    masks = masks_of(box, views)
    grown = torch.nn.functional.max_pool2d(masks[:, None].float(), 7, 1, 3)[:, 0].to(torch.uint8)
    hull = carve(masks, views, 32, dilation=4.5)
    assert torch.equal(hull, carve(grown, views, 32, dilation=1.5))
    assert hull.sum() > carve(masks, views, 32).sum()


def test_what_some_views_do_not_show_stays():
    """Cameras that see a part of the object each: only what a view shows wholly can be carved by it."""
    views = cameras()
    near = Cameras(views.camera_to_world, views.intrinsics * torch.tensor([3.0, 3.0, 1.0, 1.0]))
    hull = carve(masks_of(box, near), near, 32)
    cell = ((points_of(box) + HULL_RADIUS) * 32).long().unbind(-1)
    assert hull[cell].all()


def test_a_mask_that_contradicts_the_others_is_found():
    views = cameras()
    masks = masks_of(car, views)
    assert uncovered(carve(masks, views), masks, views) == 0
    white_roof = masks.clone()
    white_roof[3, : SIZE // 2] = 0  # as a colour threshold punches a roof that is as white as the background
    assert uncovered(carve(white_roof, views), white_roof, views) > 0.002


def test_bits_are_those_of_the_cells():
    hull = torch.rand(3, 16, 16, 16) < 0.3
    assert torch.equal(Hulls(pack(hull)).cells(), hull)
    cell = torch.randint(0, 16, (3, 50, 3))
    inside = (cell + torch.rand(3, 50, 3) * 0.98 + 0.01) / 16 - 0.5
    held = Hulls(pack(hull)).hold(torch.arange(3), inside)
    assert torch.equal(held, hull[torch.arange(3)[:, None], *cell.unbind(-1)])
    assert not Hulls(pack(hull)).hold(torch.arange(3), inside + 1).any()


def rays_and_hulls(seed):
    generator = torch.Generator().manual_seed(seed)
    hulls = torch.rand(3, 16, 16, 16, generator=generator) < torch.tensor([0.02, 0.3, 0.0])[:, None, None, None]
    origins = 0.6 * torch.randn(900, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(900, 3, generator=generator), dim=-1)
    directions[:30] = torch.eye(3).repeat(10, 1)  # along the axes
    return Hulls(pack(hulls)), torch.arange(3).repeat_interleave(300), Rays(origins, directions)


@pytest.mark.parametrize("seed", range(3))
def test_limits_are_those_of_dense_samples(seed):
    hulls, slot, rays = rays_and_hulls(seed)
    near, far = hulls.limits(slot, rays)
    t = torch.linspace(0, 4, 8001).expand(900, -1)
    held = hulls.hold(slot, rays.at(t))
    hit = held.any(1)
    assert hit.any()
    assert (~hit).any()
    first = t.gather(1, held.int().argmax(1, keepdim=True))[hit, 0]
    last = t.gather(1, 8000 - held.flip(1).int().argmax(1, keepdim=True))[hit, 0]
    assert (far >= near)[hit].all()
    assert ((first - near[hit] > -1e-5) & (far[hit] - last > -1e-5)).all(), "nothing that is held is left out"
    # A ray may graze a corner between two of the samples.
    assert ((first - near[hit]).quantile(0.95) < 1e-3) & ((far[hit] - last).quantile(0.95) < 1e-3)
    assert (far < near)[~hit].float().mean() > 0.95


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine: set CC")
@pytest.mark.parametrize("seed", range(3))
def test_fast_limits_are_the_plain_ones(seed, monkeypatch):
    hulls, slot, rays = rays_and_hulls(seed)
    near, far = hulls.limits(slot, rays)
    with monkeypatch.context() as patch:
        patch.setattr(native, "works", lambda: False)
        exact = hulls.limits(slot, Rays(rays.origins.double(), rays.directions.double()))
    # Rounding decides on corners that a ray only grazes.
    differ = ((near - exact[0]).abs() > 1e-5) | ((far - exact[1]).abs() > 1e-5)
    differ &= (far > near) | (exact[1] > exact[0])
    assert differ.float().mean() < 0.005


@pytest.mark.parametrize(("resolution", "extent"), [(8, 0.5), (12, 0.5), (16, 1.0), (9, 0.7)])
@pytest.mark.parametrize("axes", PlaneRepresentation.AXES)
def test_texels_are_those_that_a_sample_can_read(resolution, extent, axes):
    """Those to which a point within the hull has a gradient are among them; of the others hardly any are."""
    axes = PlaneRepresentation.AXES[axes]
    scenes = AT_ONCE + 1  # more than are looked at together
    hulls = Hulls(pack(torch.rand(scenes, 16, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.002))
    points = (torch.rand(1, 400_000, 3) - 0.5).expand(scenes, -1, -1)
    kept = hulls.texels(resolution, extent, axes)
    for scene in (0, scenes - 1):
        inside = points[scene][hulls.hold(torch.tensor([scene]), points[scene : scene + 1])[0]]
        planes = torch.zeros(1, 3, resolution, resolution, 1, requires_grad=True)
        sample_planes(planes, inside[None] / extent, axes).sum().backward()
        read = planes.grad[0, ..., 0] > 0
        assert not (read & ~kept[scene]).any()
        assert (kept[scene] & ~read).float().mean() < 0.1


@pytest.mark.skipif(not native.works(), reason="no C compiler")
@pytest.mark.parametrize("slot", [[0, 2], [-1, 0], [0], [[0, 1]]])
def test_compiled_code_reads_no_hull_and_no_ray_that_is_not_there(slot):
    hulls = Hulls(pack(torch.ones(2, 8, 8, 8, dtype=torch.bool)))
    rays = Rays(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"compiled code reads|slot must be 0 to 1"):
        hulls.limits(torch.tensor(slot), rays)
