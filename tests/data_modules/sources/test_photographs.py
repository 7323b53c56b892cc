"""Photographs brought to one size, and cameras of any world brought into this project's and back."""

import numpy as np
import pytest

from data_modules.sources.base import PosedViews
from data_modules.sources.photographs import denormalize_cameras, fit_image, nearest_to_axes, normalize_cameras
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import CENTRES, RADIUS, Seen, crop, distances, see


def turn_about(axis: int, angle: float) -> np.ndarray:
    first, second = (other for other in range(3) if other != axis)
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn


def views_of(seen, near_far=None) -> PosedViews:
    return PosedViews(seen.images, seen.poses, seen.intrinsics, near_far)


def moved(poses, turn, scale, place):
    result = poses.copy()
    result[:, :3, :3] = turn @ poses[:, :3, :3]
    result[:, :3, 3] = scale * poses[:, :3, 3] @ turn.T + place
    return result


def fit_images(seen: Seen, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [fit_image(*view, (resolution, resolution)) for view in zip(seen.images, seen.intrinsics, strict=True)]
    return np.stack([image for image, _ in pairs]), np.stack([intrinsics for _, intrinsics in pairs])


@pytest.mark.parametrize("resolution", [24, 43, 50, 100, 200])
def test_crop_and_resize_keep_the_cameras(resolution):
    """Whole and broken ratios, smaller and larger, odd margins."""
    seen = crop(see(128), slice(20, 106), slice(11, 128))
    images, intrinsics = fit_images(seen, resolution)
    assert images.shape == (8, resolution, resolution, 3)
    assert distances(images, seen.poses, intrinsics).max() < 0.5 * max(1, resolution / 86)
    white = (images == 255).all(axis=-1)
    assert white[:, 0].all(), "white stays white"
    assert white[:, -1].all()


@pytest.mark.parametrize("resolution", [10, 16, 21])
def test_shrinking_does_not_ring(resolution):
    image = np.full((32, 32, 3), 200, np.uint8)
    image[8:20, 5:17] = 60
    shrunk, _ = fit_image(image, np.array([1.0, 1.0, 0.5, 0.5]), (resolution, resolution))
    assert (shrunk.min(), shrunk.max()) == (60, 200)


def test_images_of_the_right_size_are_not_touched():
    seen = see(32, 3)
    images, intrinsics = fit_images(seen, 32)
    np.testing.assert_array_equal(images, seen.images)
    np.testing.assert_allclose(intrinsics, seen.intrinsics, rtol=1e-15)


def test_crop_of_known_pixels():
    image = np.arange(4 * 7, dtype=np.uint8).reshape(4, 7)
    cropped, intrinsics = fit_image(image, np.array([1.0, 2.0, 0.5, 0.5]), (2, 2))
    square = image[:, 1:5].reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(cropped, square, atol=0.5)
    np.testing.assert_allclose(intrinsics, [7 / 4, 8 / 4, 2.5 / 4, 0.5])


@pytest.mark.parametrize("seed", range(4))
def test_any_world_comes_to_the_same_and_back(seed):
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.standard_normal((3, 3)))
    turn *= np.linalg.det(turn)
    scale, place = np.exp(generator.normal(0, 3)), generator.normal(0, 100, 3)
    seen = see(64)
    photographs = type(seen)(seen.images, moved(seen.poses, turn, scale, place), seen.intrinsics)
    limits = np.tile([0.8 * scale, 1.8 * scale], (8, 1))
    views, record = normalize_cameras(views_of(photographs, limits))
    centres = record["scale"] * (scale * CENTRES @ turn.T + place - record["center"]) @ np.transpose(record["rotation"])
    assert distances(views.images, views.camera_to_world, views.intrinsics, centres).max() < 0.5
    np.testing.assert_allclose(centres[:, 2], CENTRES[:, 2] * scale * record["scale"], atol=1e-4)
    reach = np.linalg.norm(centres, axis=1).max() + RADIUS * scale * record["scale"]
    assert 0.48 < reach < 0.56, "the ball of radius 0.5 is about as large as what is seen"
    back, near_far = denormalize_cameras(views.camera_to_world, views.near_far, record)
    np.testing.assert_allclose(
        (back[:, :3, 3] - place) / scale, (photographs.poses[:, :3, 3] - place) / scale, atol=1e-4
    )
    np.testing.assert_allclose(back[:, :3, :3], photographs.poses[:, :3, :3], atol=1e-6)
    np.testing.assert_allclose(near_far, limits, rtol=1e-6)


def test_alpha_tells_the_silhouette_of_photographs():
    seen = see(64)
    mask = (seen.images < 255).any(axis=-1)
    _, by_white = normalize_cameras(views_of(seen))
    photographs = type(seen)(np.where(mask[..., None], seen.images, 90).astype(np.uint8), seen.poses, seen.intrinsics)
    _, record = normalize_cameras(views_of(photographs), mask.astype(np.uint8) * 255)
    assert record["scale"] == pytest.approx(by_white["scale"], rel=0.02)
    _, whole = normalize_cameras(views_of(photographs))
    radius = 0.5 / whole["scale"]
    half_angle = np.arctan(0.5 / seen.intrinsics[0, 0])
    assert radius == pytest.approx(1.3 * np.sin(half_angle), rel=1e-6), "the ball that the cameras see whole"
    _, opaque = normalize_cameras(views_of(photographs), np.full(mask.shape, 255, np.uint8))
    assert opaque == whole


def test_one_image_whose_corner_is_not_white_is_no_matter():
    seen = see(32, 8)
    more = type(seen)(*(np.concatenate([values] * 4) for values in (seen.images, seen.poses, seen.intrinsics)))
    _, expected = normalize_cameras(views_of(seen))
    more.images[0, 0, 0] = 0
    _, record = normalize_cameras(views_of(more))
    assert record["scale"] < 1.5 * expected["scale"]
    assert (
        record["scale"] != normalize_cameras(views_of(more), np.full(more.images.shape[:3], 255, np.uint8))[1]["scale"]
    )


def test_hands_that_do_not_hold_level():
    seen = see(32)
    rolls = np.radians([3, -4, 2, 5, -3, -2, 4, -5])
    for pose, roll in zip(seen.poses, rolls, strict=True):
        pose[:3, :3] = pose[:3, :3] @ turn_about(2, roll)
    _, record = normalize_cameras(views_of(seen))
    assert np.degrees(np.arccos(record["rotation"][2][2])) < 3


@pytest.mark.parametrize("upside_down", [False, True])
def test_cameras_one_above_the_other_have_the_mean_of_their_ups(upside_down):
    """Their x axes are one: they tell nothing of what is level."""
    seen = see(16, 1)
    steps = np.radians([-20, -10, 0, 10, 20])
    right = seen.poses[0, :3, 0]
    frame = np.stack([right, seen.poses[0, :3, 1], seen.poses[0, :3, 2]], axis=1)
    turns = [frame @ turn_about(0, step) @ frame.T for step in steps]
    poses = np.stack([moved(seen.poses, turn, 1.0, 0)[0] for turn in turns])
    if upside_down:
        poses = moved(poses, np.diag([1.0, -1, -1]), 1.0, 0)
    five = type(seen)(seen.images.repeat(5, 0), poses, seen.intrinsics.repeat(5, 0))
    views, _ = normalize_cameras(views_of(five))
    mean = -views.camera_to_world[:, :3, 1].mean(axis=0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), [0, 0, 1], atol=1e-6)


def test_a_world_upside_down_is_turned():
    seen = see(16)
    poses = moved(seen.poses, np.diag([1.0, -1, -1]), 1.0, 0)
    views, record = normalize_cameras(views_of(type(seen)(seen.images, poses, seen.intrinsics)))
    np.testing.assert_allclose(record["rotation"], np.diag([1.0, -1, -1]), atol=1e-6)
    assert (views.camera_to_world[:, 2, 3] > 0).all()


def test_the_point_nearest_to_all_axes_and_their_spread():
    seen = see(16)
    poses = moved(seen.poses, turn_about(1, 0.3), 2.0, (1e4, -5e3, 7))
    point, spread = nearest_to_axes(poses)
    np.testing.assert_allclose(point, (1e4, -5e3, 7), atol=1e-8)
    assert spread > 0.1
    poses[:, :3, :3] = poses[0, :3, :3]
    parallel, spread = nearest_to_axes(poses)
    assert spread < 1e-12
    assert np.linalg.norm(parallel - poses[:, :3, 3].mean(axis=0)) < 1e-6, "the nearest to where the cameras are"


def test_cameras_without_a_common_centre():
    seen = see(16)
    seen.poses[:, :3, :3] = seen.poses[0, :3, :3]
    with pytest.raises(UsageError, match="all cameras look the same way"):
        normalize_cameras(views_of(seen))
    seen = see(16)
    seen.poses[:, :3, [0, 2]] *= -1
    with pytest.raises(UsageError, match="look away"):
        normalize_cameras(views_of(seen))
