"""Lenses that are no pinholes: three balls seen through them must lie where the packed pinhole says."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.sources.lens import read_distortion
from data_modules.sources.transforms import TransformsSource
from data_modules.sources.undistort import Distortion, undistort
from scaled_ig.cameras import Rays
from scaled_ig.errors import UsageError
from tests.conftest import colours_of_balls
from tests.data_modules.sources.captures import CENTRES, COLOURS, RADIUS, as_convention, distances, see
from tests.data_modules.sources.one_frame import capture, change_frame, load

LENS = np.array([1.4, 1.5, 0.48, 0.53])  # fx / W, fy / H, cx / W, cy / H
SIZE = 120, 128  # H, W
LENSES = {
    "barrel": {"camera_model": "OPENCV", "k1": -0.6, "k2": 0.2},
    "pincushion": {"camera_model": "SIMPLE_RADIAL", "k1": 0.6},
    "tangential": {"camera_model": "OPENCV", "k1": -0.1, "p1": 0.04, "p2": -0.06},
    "sixth power": {"k1": 0.4, "k2": -0.2, "k3": 0.3},
    "list": {"distortion_params": [-0.6, 0.2, 0.1, 0.0, 0.01, 0.005]},
    "rational": {"camera_model": "FULL_OPENCV", "k1": 0.1, "k2": 0.05, "k4": 0.7, "k5": 0.1, "k6": 0.05, "p1": 0.01},
    "fisheye": {"camera_model": "OPENCV_FISHEYE", "k1": -0.3, "k2": 0.1, "k3": -0.04, "k4": 0.01},
    "plain fisheye": {"is_fisheye": True},
}


def bend(x, y, keys):
    """Where a ray (x, y, 1) meets the image of the lens, by the formulas of OpenCV's manual."""
    keys = dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), keys.get("distortion_params", ()), strict=False)) | keys
    k1, k2, k3, k4, k5, k6, p1, p2 = (keys.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"))
    r = np.hypot(x, y)
    if keys.get("is_fisheye") or "FISHEYE" in keys.get("camera_model", ""):
        angle = np.arctan(r)
        bent = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
        scale = np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1.0)
        return scale * x, scale * y
    radial = (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / (1 + k4 * r**2 + k5 * r**4 + k6 * r**6)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
        y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
    )


def rays_of(keys, grid: int):
    """Rays (x, y, 1) [H, W] that the lens sees in the middles of pixels, each grid x grid of them, by iteration."""
    height, width = SIZE[0] * grid, SIZE[1] * grid
    rows, columns = np.mgrid[:height, :width] + 0.5
    u, v = (columns / width - LENS[2]) / LENS[0], (rows / height - LENS[3]) / LENS[1]
    x, y = u.copy(), v.copy()
    for _ in range(200):
        bent_x, bent_y = bend(x, y, keys)
        x, y = x - 0.7 * (bent_x - u), y - 0.7 * (bent_y - v)
    assert np.abs(np.array(bend(x, y, keys)) - (u, v)).max() < 1e-9
    return x, y


def write(folder, keys, grid: int = 3):
    """The balls as this lens sees them, with a transforms.json."""
    seen = see(16)
    (folder / "images").mkdir(parents=True)
    x, y = rays_of(keys, grid)
    in_camera = torch.nn.functional.normalize(
        torch.from_numpy(np.stack([x, y, np.ones_like(x)], -1)).flatten(0, 1), dim=1
    )
    frames = []
    for row, (pose, written) in enumerate(zip(seen.poses, as_convention(seen.poses, "opengl"), strict=True)):
        directions = in_camera @ torch.from_numpy(pose[:3, :3]).double().T
        origins = torch.from_numpy(pose[:3, 3]).double().expand_as(directions)
        fine = colours_of_balls(Rays(origins[None], directions[None]), CENTRES, [RADIUS] * 3, COLOURS)[0]
        fine = fine.T.unflatten(1, (SIZE[0] * grid, -1))
        image = torch.nn.functional.avg_pool2d(fine, grid).permute(1, 2, 0)
        Image.fromarray((image * 255).round().byte().numpy()).save(folder / f"images/{row}.png")
        frames.append({"file_path": f"images/{row}.png", "transform_matrix": written.tolist()})
    height, width = SIZE
    lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), (LENS * (width, height, width, height)).tolist(), strict=True))
    (folder / "transforms.json").write_text(json.dumps(lens | {"w": width, "h": height, "frames": frames} | keys))
    return folder


@pytest.mark.parametrize("keys", LENSES.values(), ids=LENSES.keys())
def test_balls_lie_where_the_pinhole_says(tmp_path, keys):
    pytest.importorskip("cv2", reason="pip install 'scaled-ig[undistort]'")
    folder = write(tmp_path / "scene", keys)
    views, record = TransformsSource(folder).load("scene")
    assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5
    assert record["undistorted"] is True
    np.testing.assert_allclose(views.intrinsics[:, 2:], np.tile(LENS[2:], (8, 1)), rtol=1e-6)
    factors = views.intrinsics[:, :2] / LENS[:2]
    np.testing.assert_allclose(factors, factors[0, 0], rtol=1e-5)
    assert (views.images[:, [0, -1]].max(-1) > 200).all(), "the border is background or a ball, not black"
    square, _ = TransformsSource(folder, resolution=48, normalize=True).load("scene")
    assert square.images.shape == (8, 48, 48, 3)

    document = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({k: v for k, v in document.items() if k not in keys}))
    plain, record = TransformsSource(folder).load("scene")
    assert distances(plain.images, plain.camera_to_world, plain.intrinsics).max() > 0.5, "it makes a difference"
    assert "undistorted" not in record


@pytest.mark.parametrize("keys", [LENSES["barrel"], LENSES["pincushion"], LENSES["tangential"], LENSES["fisheye"]])
def test_the_pinhole_is_the_widest_without_a_pixel_that_the_lens_did_not_see(keys):
    pytest.importorskip("cv2", reason="pip install 'scaled-ig[undistort]'")
    distortion = read_distortion(keys, "here")
    assert distortion is not None
    image = np.full((*SIZE, 3), 200, np.uint8)
    straight, intrinsics = undistort(image, LENS, distortion)
    assert (straight == 200).all()
    fx, fy, cx, cy = intrinsics
    along = np.linspace(0, 1, 1001)
    sides = [(along, 0 * along), (along, 0 * along + 1), (0 * along, along), (0 * along + 1, along)]
    columns, rows = np.concatenate([np.stack(side) for side in sides], axis=1)

    def reach(zoom: float) -> float:
        """How far beyond the border of the lens's image the border of the pinhole's lies."""
        x, y = bend((columns - cx) / (fx * zoom), (rows - cy) / (fy * zoom), keys)
        u, v = LENS[0] * x + LENS[2], LENS[1] * y + LENS[3]
        return float(max(u.max() - 1, v.max() - 1, -u.min(), -v.min()))

    assert reach(1.0) <= 1e-3
    assert reach(0.97) > 0, "a wider one would see beyond"


def test_a_mask_goes_with_its_image(tmp_path):
    pytest.importorskip("cv2", reason="pip install 'scaled-ig[undistort]'")
    folder = write(tmp_path / "scene", LENSES["barrel"])
    for file in (folder / "images").iterdir():
        pixels = np.asarray(Image.open(file))
        alpha = np.where((pixels == 255).all(-1), 0, 255).astype(np.uint8)
        Image.fromarray(np.dstack([pixels, alpha])).save(file)
    views, record = TransformsSource(folder).load("scene")
    assert record["masks"] == "alpha"
    coloured = (views.images < 250).any(-1)
    assert (coloured != (views.masks > 127)).mean() < 0.01


def test_without_opencv_the_sentence_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"0\.png: its lens is distorted: install OpenCV .*scaled-ig\[undistort\]"):
        load(capture(tmp_path / "scene", k1=-0.1))
    load(capture(tmp_path / "plain", k1=0.0, camera_model="OPENCV", distortion_params=[0] * 6))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR.*which is not read: undistort the images first"),
        ({"camera_model": "FISHEYE624"}, "FISHEYE624"),
        ({"k4": 0.1}, "k4 is 0.1, which its lens cannot have"),
        ({"camera_model": "OPENCV", "k5": 0.1}, "k5 is 0.1, which its lens OPENCV cannot have"),
        ({"camera_model": "OPENCV_FISHEYE", "p1": 0.1}, "p1 is 0.1, which its fisheye lens cannot have"),
        ({"k1": "much"}, "lens cannot be read"),
        ({"k1": [0.1]}, "lens cannot be read"),
        ({"k1": float("nan")}, "k1 is nan"),
        ({"distortion_params": [0, 0, 0.1]}, "distortion_params must be k1, k2, k3, k4, p1, p2"),
    ],
    ids=str,
)
def test_lenses_that_are_not_read_are_named(tmp_path, keys, message):
    with pytest.raises(UsageError, match=message):
        load(capture(tmp_path / "scene", **keys))


@pytest.mark.parametrize("keys", [{"k1": 1e300}, {"k1": -80.0}, {"k2": -1e6}, {"cx": 900.0, "k1": 0.1}], ids=str)
def test_a_lens_that_folds_or_sees_nothing_is_refused(tmp_path, keys):
    pytest.importorskip("cv2", reason="pip install 'scaled-ig[undistort]'")
    with pytest.raises(UsageError, match=r"transforms\.json, 0\.png: no pinhole sees what its lens sees"):
        load(capture(tmp_path / "scene", **keys))


def test_lenses_may_differ_from_frame_to_frame(tmp_path):
    pytest.importorskip("cv2", reason="pip install 'scaled-ig[undistort]'")
    assert read_distortion({"camera_model": "PINHOLE"}, "") is None
    assert read_distortion({"camera_model": "PINHOLE", "k1": 0.1}, "") == Distortion((0.1, *[0.0] * 7))
    folder = change_frame(capture(tmp_path / "scene", k1=0.3), k1=0.0)
    np.testing.assert_array_equal(load(folder).intrinsics[0], np.array([1.5, 2.0, 0.5, 0.5], np.float32))
