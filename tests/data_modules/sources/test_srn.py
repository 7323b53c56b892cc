"""The layout of SRN's cars: sizes that intrinsics speak of, flags, nested folders, and files that are missing."""

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.srn import SrnSource
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import distances, see, write_srn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("131.25 64 60 0.\n0 0 0\n1.\n128 128", (525 / 512, 525 / 512, 0.5, 60 / 128)),
        ("525 256 256 0.\n0 0 0\n1.\n512 512", (525 / 512, 525 / 512, 0.5, 0.5)),
        ("525 256 256 0.\n", (525 / 512, 525 / 512, 0.5, 0.5)),
        ("24 16 12 0.\n", (24 / 32, 24 / 32, 16 / 32, 12 / 32)),
        ("100 50 20 0.\n0 0 0\n1.\n50 100\n", (1.0, 2.0, 0.5, 0.4)),
    ],
)
def test_sizes_that_intrinsics_speak_of(tmp_path, text, expected):
    folder = write_srn(tmp_path / "car", see(32, 2), "opencv")
    (folder / "intrinsics.txt").write_text(text)
    views, _ = SrnSource(folder).load("car")
    np.testing.assert_allclose(views.intrinsics, [expected] * 2, rtol=1e-6)


@pytest.mark.parametrize(("flag", "convention"), [("1\n", "opencv_w2c"), ("0", "opencv")])
def test_the_last_line_says_which_way_poses_go(tmp_path, flag, convention):
    seen = see(64)
    views, record = SrnSource(write_srn(tmp_path / "car", seen, convention, flag)).load("car")
    np.testing.assert_allclose(views.camera_to_world, seen.poses, atol=1e-6)
    assert (record["camera_convention"], record["camera_convention_from"]) == (convention, "key")
    assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5


def test_nested_folders(tmp_path):
    for name in ("cars_train/b", "cars_train/a", "cars_val/c"):
        write_srn(tmp_path / name, see(16, 2), "opencv")
    scenes = SrnSource(tmp_path, category="chair").scenes()
    assert [(scene.id, scene.category) for scene in scenes] == [
        ("cars_train/a", "chair"),
        ("cars_train/b", "chair"),
        ("cars_val/c", "chair"),
    ]
    _, record = SrnSource(tmp_path).load("cars_train/b")
    assert record["file"] == "cars_train/b/intrinsics.txt"


def test_hidden_files_are_no_images(tmp_path):
    folder = write_srn(tmp_path / "car", see(16, 2), "opencv")
    (folder / "rgb" / "._000000.png").write_bytes(b"left behind by a Mac")
    assert len(SrnSource(folder).load("car")[0].images) == 2


def test_alpha_is_put_on_white(tmp_path):
    folder = write_srn(tmp_path / "car", see(16, 2), "opencv")
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(folder / "rgb" / "000001.png")
    alpha = rgba[..., 3:] / 255
    expected = np.round(rgba[..., :3] * alpha + 255 * (1 - alpha))
    np.testing.assert_array_equal(SrnSource(folder).load("car")[0].images[1], expected)


@pytest.mark.parametrize("missing", ["pose/000001.txt", "rgb/000001.png"])
def test_missing_files_are_named(tmp_path, missing):
    folder = write_srn(tmp_path / "car", see(16, 2), "opencv")
    (folder / missing).unlink()
    with pytest.raises(UsageError, match=missing):
        SrnSource(folder).load("car")


@pytest.mark.parametrize("text", ["", "f 1 2", "1 2", "0 8 8 0", "9 8 8 0\n0 0 0\n1\n0 16"])
def test_broken_intrinsics_are_named(tmp_path, text):
    folder = write_srn(tmp_path / "car", see(16, 2), "opencv")
    (folder / "intrinsics.txt").write_text(text)
    with pytest.raises(UsageError, match=r"intrinsics\.txt"):
        SrnSource(folder).load("car")


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match=r"intrinsics\.txt"):
        SrnSource(tmp_path)


def test_development_scenes(test_data):
    """Cameras of both layouts stand on one sphere, upright, and look at its middle."""
    folder = test_data / "rendered" / "srn_cars"
    if not folder.is_dir():
        pytest.skip(f"no rendered scenes in {test_data}")
    source = SrnSource(folder)
    transforms = TransformsSource(test_data / "rendered" / "transforms")
    other, _ = transforms.load(transforms.scenes()[-1].id)
    for scene in source.scenes():
        views, record = source.load(scene.id)
        assert record["camera_convention"] == "opencv"
        np.testing.assert_array_equal(views.intrinsics, other.intrinsics[: len(views.intrinsics)])
        for poses in (views.camera_to_world, other.camera_to_world):
            np.testing.assert_allclose(np.linalg.norm(poses[:, :3, 3], axis=1), 1.3, atol=1e-5)
            np.testing.assert_allclose(poses[:, :3, 3] + 1.3 * poses[:, :3, 2], 0, atol=1e-5, err_msg="looks at it")
            assert (poses[:, 2, 1] < 0).all(), "the image's y axis points down"
            np.testing.assert_allclose(poses[:, 2, 0], 0, atol=1e-5, err_msg="upright")
        assert views.images.shape == (24, 128, 128, 3)
