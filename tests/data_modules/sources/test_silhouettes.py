"""Masks from white against a search pixel by pixel; hulls, which never lose a cell that holds the object."""

from collections import deque

import numpy as np
import pytest
import torch
import trimesh

from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources.base import Mesh
from data_modules.sources.meshes import MeshSource
from data_modules.sources.silhouettes import (
    MOST_LOST,
    Carving,
    contradicted,
    inner,
    lost_share,
    masks_from_white,
    visual_hull,
)
from scaled_ig.cameras import Cameras
from tests.conftest import see_balls
from tests.data_modules.test_raycast import solids

RED, WHITE = (0.6, 0.05, 0.05), (1.0, 1.0, 1.0)


def image_of(text: str) -> np.ndarray:
    """A view of white dots and black letters."""
    rows = [[255 if letter == "." else 0 for letter in line] for line in text.split()]
    return np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=2)


def mask_of(text: str) -> str:
    (mask,) = masks_from_white(image_of(text)[None])
    return " ".join("".join("#" if value else "." for value in row) for row in mask)


def test_white_within_the_object_is_filled_and_bays_are_not():
    assert mask_of("...... .####. .#..#. .####. ......") == "...... .####. .####. .####. ......"
    assert mask_of("...... .####. .#.... .####. ......") == "...... .####. .#.... .####. ......"
    assert mask_of(".#.. #.#. .#.. ....") == ".#.. ###. .#.. ....", "no way leads between corners"
    assert mask_of("#### #..# #..#") == "#### #..# #..#", "the border may be reached anywhere"
    assert mask_of("...") == "..."


def test_white_is_250_and_more_in_every_channel():
    image = np.full((1, 3, 5, 3), 250, np.uint8)
    image[0, 1, 1:4, 1] = (249, 250, 255)
    assert masks_from_white(image)[0].tolist() == [[0] * 5, [0, 255, 0, 0, 0], [0] * 5]


def background_by_search(white: np.ndarray) -> np.ndarray:
    height, width = white.shape
    reached = np.zeros_like(white)
    border = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
    waiting = deque(place for place in border if white[place])
    while waiting:
        y, x = waiting.popleft()
        if 0 <= y < height and 0 <= x < width and white[y, x] and not reached[y, x]:
            reached[y, x] = True
            waiting.extend([(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)])
    return reached


@pytest.mark.parametrize("part", [0.3, 0.5, 0.6, 0.7])
def test_a_search_pixel_by_pixel_finds_the_same_background(part):
    white = np.random.default_rng(0).random((20, 23, 31)) < part
    masks = masks_from_white(np.where(white[..., None], np.uint8(255), np.uint8(9)).repeat(3, axis=-1))
    np.testing.assert_array_equal(masks == 0, [background_by_search(view) for view in white])


def random_cameras(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cameras all around, near and far, turned, with lenses of all kinds: some see only a part of the cube."""
    generator = np.random.default_rng(seed)
    poses, _ = draw_cameras(count, 1.0, (-180, 180), (-80, 80), generator)
    poses = poses.astype(np.float64)
    poses[:, :3, 3] *= generator.uniform(0.9, 2.5, (count, 1))
    poses[:, :3, 3] += generator.normal(0, 0.15, (count, 3))
    roll = generator.uniform(0, 2 * np.pi, count)
    for pose, angle in zip(poses, roll, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        pose[:3, :3] = pose[:3, :3] @ turn
    return poses, generator.uniform((0.6, 0.6, 0.3, 0.3), (2.5, 2.5, 0.7, 0.7), (count, 4))


def points_seen(points: np.ndarray, pose: np.ndarray, lens: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask that holds the pixels of points, and nothing else."""
    camera = (points - pose[:3, 3]) @ pose[:3, :3]
    places = (camera[:, :2] / camera[:, 2:] * lens[:2] + lens[2:]) * (width, height)
    inside = (camera[:, 2] > 0) & (places >= 0).all(axis=1) & (places < (width, height)).all(axis=1)
    mask = np.zeros((height, width), np.uint8)
    columns, rows = np.floor(places[inside]).astype(int).T
    mask[rows, columns] = 1
    return mask


def cells_of(points: np.ndarray, grid: int) -> tuple[np.ndarray, ...]:
    return tuple(np.clip(np.floor((points + 0.5) * grid), 0, grid - 1).astype(int).T)


@pytest.mark.parametrize("grid", [5, 32, 48])
@pytest.mark.parametrize("seed", range(6))
def test_a_cell_with_a_point_of_the_object_is_never_cut_away(grid, seed):
    """The strictest masks there are: one pixel a point, no dilation."""
    generator = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)
    points = np.concatenate([generator.uniform(-0.5, 0.5, (150, 3)), corners])
    poses, lenses = random_cameras(24, seed)
    masks = np.stack([points_seen(points, *camera, 60, 90) for camera in zip(poses, lenses, strict=True)])
    hull = visual_hull(masks, poses, lenses, grid, dilation=0.0)
    assert hull[cells_of(points, grid)].all()
    if grid > 5:
        assert hull.mean() < 0.9, "and yet much is cut away"


@pytest.mark.parametrize("views", [12, 60])
def test_the_hull_of_a_ball(views):
    poses, lenses = draw_cameras(views, 1.3, (-180, 180), (-85, 85), np.random.default_rng(1))
    centre, radius = np.array([0.1, -0.05, 0.08]), 0.3
    cameras = Cameras(torch.from_numpy(poses), torch.from_numpy(lenses))
    black = see_balls(cameras, 64, centre[None], [radius], np.zeros((1, 3)))
    masks = ((1 - black[:, 0]) * 255).round().to(torch.uint8).numpy()
    hull = visual_hull(masks, poses, lenses)
    middles = (np.stack(np.indices(hull.shape), axis=-1) + 0.5) / 32 - 0.5
    distance = np.linalg.norm(middles - centre, axis=-1)
    assert hull[distance <= radius].all()
    # The edge of the picture of a ball is met by a tangent; half a cell, a pixel and the views' spread come on top.
    assert hull.sum() < (1.25 if views == 60 else 1.6) * (distance <= radius + 3 / 32).sum()
    assert not any(contradicted(*view, hull).any() for view in zip(masks, poses, lenses, strict=True))


def rods() -> trimesh.Trimesh:
    """A cross of rods of half a pixel's radius, slanted."""
    ends = (
        [(-0.25, -0.3, -0.28), (0.25, 0.3, 0.28)],
        [(0.3, -0.2, -0.2), (-0.3, 0.25, 0.2)],
        [(0, 0, -0.35), (0, 0.1, 0.4)],
    )
    return trimesh.util.concatenate([trimesh.creation.cylinder(0.004, segment=segment) for segment in ends])


def white_car() -> Mesh:
    """A car whose body and cabin are as white as the background, with dark wheels and a dark hatch."""
    body = trimesh.creation.box((0.4, 0.8, 0.16))
    cabin = trimesh.creation.box((0.36, 0.36, 0.14)).apply_translation((0, 0.05, 0.15))
    wheels = [trimesh.creation.box((0.44, 0.14, 0.1)).apply_translation((0, y, -0.12)) for y in (-0.25, 0.25)]
    hatch = trimesh.creation.box((0.1, 0.1, 0.02)).apply_translation((0, 0.05, 0.22))
    return solids((body, WHITE), (cabin, WHITE), *((dark, (0.02, 0.02, 0.02)) for dark in (*wheels, hatch)))


SHAPES = {
    "box": solids((trimesh.creation.box((0.5, 0.7, 0.3)), RED)),
    "small box": solids((trimesh.creation.box((0.06, 0.05, 0.04)).apply_translation((0.3, -0.3, 0.2)), RED)),
    "rods": solids((rods(), RED)),
    "white car": white_car(),
}


def views_of(mesh: Mesh, count: int = 40, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Images, masks, poses and lenses."""
    poses, lenses = draw_cameras(count, 1.3, (-180, 180), (0, 85), np.random.default_rng(seed))
    caster = RayCaster(mesh)
    rendered = [caster.render(*camera, (128, 128)) for camera in zip(poses, lenses, strict=True)]
    images, masks = map(np.stack, zip(*rendered, strict=True))
    return images, masks, poses, lenses


@pytest.mark.parametrize("shape", SHAPES)
def test_no_point_of_a_solid_is_ever_lost(shape):
    mesh = SHAPES[shape]
    _, masks, poses, lenses = views_of(mesh)
    hull = visual_hull(masks, poses, lenses)
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points = surface.sample(20_000, seed=0)
    assert hull[cells_of(points, 32)].all()
    assert hull.mean() < 0.25
    assert lost_share(masks, poses, lenses) == 0
    assert not any(contradicted(*view, hull).any() for view in zip(masks, poses, lenses, strict=True))


@pytest.mark.parametrize("shape", ["box", "small box"])
def test_masks_from_white_are_the_true_ones_within_a_pixel_at_the_edge(shape):
    images, masks, poses, lenses = views_of(SHAPES[shape])
    masks_by_colour = masks_from_white(images)
    assert (masks_by_colour[masks == 255] == 255).all()
    assert (masks[masks_by_colour == 255] > 0).all()
    assert lost_share(masks_by_colour, poses, lenses) == 0


def test_holes_that_are_enclosed_are_filled():
    ring = trimesh.creation.torus(0.3, 0.1)
    images, masks, poses, lenses = views_of(solids((ring, RED)))
    masks_by_colour = masks_from_white(images)
    assert (masks_by_colour[masks == 255] == 255).all()
    assert ((masks_by_colour == 255) & (masks == 0)).any(), "one sees through the ring"
    assert lost_share(masks_by_colour, poses, lenses) == 0


@pytest.mark.parametrize("count", [10, 20, 40])
def test_a_white_car_before_white_contradicts_itself(count):
    images, masks, poses, lenses = views_of(white_car(), count)
    masks_by_colour = masks_from_white(images)
    assert ((masks == 255) & (masks_by_colour == 0)).sum() > 0.05 * (masks > 0).sum()
    assert lost_share(masks_by_colour, poses, lenses) > 3 * MOST_LOST


def carved(masks: np.ndarray, poses: np.ndarray, lenses: np.ndarray) -> Carving:
    carving = Carving(16)
    for view in range(len(masks)):
        carving.cut(view, masks[view], poses[view], lenses[view])
    return carving


@pytest.mark.parametrize(
    ("vehicle", "is_white"),
    [("kenney-toy-truck", True), ("kenney-car-tractor-police", True), ("kenney-car-sedan", False), ("gazebo-bus", True),
     ("quaternius-basic-taxi", False), ("kenney-toy-drag-racer", False)],
)  # fmt: skip
def test_real_vehicles_before_white(test_data, vehicle, is_white):
    mesh, _ = MeshSource(test_data / "vehicles.json").load(vehicle)
    images, masks, poses, lenses = views_of(mesh)
    masks_by_colour = masks_from_white(images)
    assert (((masks == 255) & (masks_by_colour == 0)).sum() > 0.02 * (masks > 0).sum()) == is_white
    assert (lost_share(masks_by_colour, poses, lenses) > MOST_LOST) == is_white
    assert lost_share(masks, poses, lenses) == 0


def test_a_cell_that_was_cut_once_knows_by_which_view():
    poses, lenses = draw_cameras(12, 1.3, (-180, 180), (0, 85), np.random.default_rng(1))
    masks = np.full((12, 32, 32), 255, np.uint8)
    masks[7, :, :16] = 0
    carving = carved(masks, poses, lenses)
    assert set(np.unique(carving.times)) == {0, 1}
    assert set(np.unique(carving.view[carving.times == 1])) == {7}
    assert (carving.view[carving.times == 0] == -1).all()
    masks[3] = 0
    again = carved(masks, poses, lenses)
    assert again.times.max() == 2
    assert (again.times == 0).sum() < (carving.times == 0).sum()


def test_inner_pixels_have_all_their_neighbours():
    mask = np.zeros((5, 6), np.uint8)
    mask[1:4, 1:5] = 7
    expected = np.zeros((5, 6), bool)
    expected[2, 2:4] = True
    np.testing.assert_array_equal(inner(mask), expected)
    assert inner(np.full((3, 3), 255, np.uint8)).all(), "what is beyond the border is not known"


def test_a_camera_in_the_cube_cuts_nothing_away_behind_it():
    poses = np.eye(4)[None].repeat(2, axis=0)
    lenses = np.tile([1.0, 1.0, 0.5, 0.5], (2, 1))
    hull = visual_hull(np.zeros((2, 16, 16), np.uint8), poses, lenses, 8)
    assert hull[:, :, :4].all()
    assert not hull[3:5, 3:5, 7].any()
    assert not contradicted(np.full((16, 16), 255, np.uint8), poses[0], lenses[0], hull).any()
