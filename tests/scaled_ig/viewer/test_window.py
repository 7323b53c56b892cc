"""Windows of any shape: their cameras, the views in their middle, the size of pictures."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("viser", reason="the viewer's extra is not installed")

from scaled_ig.cameras import Cameras, orbit
from scaled_ig.viewer import lens
from scaled_ig.viewer.scenes import Look
from scaled_ig.viewer.wish import Wish, size_of, with_truth


def handle(cameras: Cameras, fov: float, aspect: float) -> SimpleNamespace:
    """What viser says of a browser's camera."""
    position, wxyz = lens.place_of(cameras.camera_to_world[0])
    return SimpleNamespace(position=position, wxyz=wxyz, fov=fov, aspect=aspect)


def test_a_browser_sees_what_its_angle_says():
    camera, point = orbit(1), torch.tensor([[0.1, -0.2, 0.15]])
    seen = lens.camera_of(handle(camera, math.radians(60), 1.6))
    torch.testing.assert_close(seen.camera_to_world, camera.camera_to_world)
    x, y, z = ((point - camera.camera_to_world[0, :3, 3]) @ camera.camera_to_world[0, :3, :3])[0].tolist()
    half = math.tan(math.radians(30))
    expected = [0.5 + x / z / (2 * half * 1.6), 0.5 + y / z / (2 * half), z]
    torch.testing.assert_close(seen.project(point)[0, 0], torch.tensor(expected))


@pytest.mark.parametrize("aspect", [0.46, 1.0, 1.6])
@pytest.mark.parametrize("size", [(32, 32), (20, 48)])
def test_the_frame_of_a_view_is_in_the_middle_of_the_window(aspect, size):
    view = orbit(1)
    view = Cameras(view.camera_to_world, torch.tensor([[1.1, 1.3, 0.45, 0.56]]))
    window, (height, width) = lens.window_around(view, size, aspect), lens.frame_in_window(size, aspect)
    assert max(height, width) == 1
    assert width * aspect / height == pytest.approx(size[1] / size[0])  # it keeps its shape
    points = 0.3 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    x, y, _ = view.project(points)[0].unbind(-1)
    in_window = window.project(points)[0]
    torch.testing.assert_close(in_window[:, 0], (1 - width) / 2 + width * x)
    torch.testing.assert_close(in_window[:, 1], (1 - height) / 2 + height * y)


def test_a_camera_that_is_moved_is_no_longer_at_its_view():
    views = orbit(8)
    assert lens.is_at(handle(views[2:3], 1.0, 1.0), views[2:3])
    assert not lens.is_at(handle(views[3:4], 1.0, 1.0), views[2:3])
    assert lens.nearest(views, 2.5 * views.camera_to_world[5, :3, 3]) == 5


def wish(window, truth=None, share=0.0, is_split=False):
    return Wish(Look("a"), lens.window_around(orbit(1), (8, 8), window[1] / window[0]), window, truth, share, is_split)


def test_pictures_have_the_window_s_shape_and_as_many_pixels_as_there_is_time_for():
    rows, columns = size_of(wish((800, 1280)), (128, 128), 1, True, 100)
    assert rows * columns == pytest.approx(100 * 100, rel=0.02)
    assert columns / rows == pytest.approx(1.6, rel=0.02)
    assert size_of(wish((60, 96)), (128, 128), 1, True, 500) == (60, 96)  # no more than the window has


def test_latents_are_as_large_as_in_training():
    assert size_of(wish((800, 800)), (128, 128), 8, False, 50) == (128, 128)
    assert size_of(wish((800, 1600)), (128, 128), 8, False, 50) == (128, 256)


def test_the_truth_is_mixed_in_or_on_the_left():
    truth, picture = np.full((8, 8, 3), 200, np.uint8), np.full((40, 80, 3), 100, np.uint8)
    mixed = with_truth(picture, wish((400, 800), truth, 0.25))
    assert (mixed[:, 20:60] == 125).all()
    assert (mixed[:, :20] == 100).all()
    assert (mixed[:, 60:] == 100).all()
    split = with_truth(picture, wish((400, 800), truth, 0.25, True))
    assert (split[:, 20:30] == 200).all()
    assert (split[:, 30:] == 100).all()
    assert (with_truth(picture, wish((400, 800))) == picture).all()
