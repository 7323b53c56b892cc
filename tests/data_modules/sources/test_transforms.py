"""``transforms.json`` in all its dialects: keys, names, masks, splits, maps, and lenses that are no pinholes."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from data_modules.base import MultiViewDataModule
from data_modules.checking.check import check_pack
from data_modules.packing.export import export_transforms
from data_modules.packing.pack import write_pack
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import distances, see, write_transforms
from tests.data_modules.sources.one_frame import LENS, PIXELS, POSE, capture, change_frame, load


@pytest.mark.parametrize(
    ("name", "keys", "option", "expected", "decided_by"),
    [
        ("transforms.json", {}, None, "opengl", "format"),
        ("transforms_opencv.json", {}, None, "opencv", "format"),
        ("transforms.json", {"camera_convention": "OpenCV"}, None, "opencv", "key"),
        ("transforms_opencv.json", {"camera_convention": "opengl"}, None, "opengl", "key"),
        ("transforms.json", {"camera_convention": "opencv"}, "opengl", "opengl", "option"),
        ("transforms.json", {}, "opencv", "opencv", "option"),
    ],
)
def test_camera_convention(tmp_path, name, keys, option, expected, decided_by):
    views, record = TransformsSource(capture(tmp_path / "scene", name, **keys), option).load("scene")
    flip = np.diag([1, -1, -1, 1]) if expected == "opengl" else np.eye(4)
    np.testing.assert_array_equal(views.camera_to_world[0], (POSE @ flip).astype(np.float32))
    np.testing.assert_array_equal(views.images[0], PIXELS)
    np.testing.assert_array_equal(views.intrinsics[0], np.array([1.5, 2.0, 0.5, 0.5], np.float32))
    assert (record["camera_convention"], record["camera_convention_from"]) == (expected, decided_by)


def test_unknown_camera_convention(tmp_path):
    with pytest.raises(UsageError, match="colmap"):
        load(capture(tmp_path / "scene", camera_convention="colmap"))


def test_blender_files(tmp_path):
    rgba = np.dstack([PIXELS, np.full((4, 6), 51, np.uint8)])
    lens = dict.fromkeys(LENS) | {"camera_angle_x": 0.8}
    folder = capture(tmp_path / "lego", image=Image.fromarray(rgba), **lens)
    views = load(change_frame(folder, file_path="./0"))
    focal = 6 / (2 * math.tan(0.4))
    np.testing.assert_allclose(views.intrinsics[0], [focal / 6, focal / 4, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(views.images[0], np.round(PIXELS * 0.2 + 255 * 0.8).astype(np.uint8))


@pytest.mark.parametrize(
    ("document", "frame", "expected"),
    [
        ({"fl_x": 9, "cx": 2, "cy": 3, "w": 6, "h": 4}, {}, (1.5, 9 / 4, 1 / 3, 3 / 4)),
        ({"fl_x": 9, "fl_y": 8}, {"fl_x": 6, "fl_y": 6, "cx": 1}, (1.0, 1.5, 1 / 6, 0.5)),
        ({"fl_x": 9, "fl_y": 8}, {"camera_angle_x": math.pi / 2, "fl_y": 4}, (0.5, 1.0, 0.5, 0.5)),
        ({"camera_angle_x": math.pi / 2, "camera_angle_y": math.pi / 2}, {}, (0.5, 0.5, 0.5, 0.5)),
        ({"camera_angle_y": math.pi / 2}, {}, (1 / 3, 0.5, 0.5, 0.5)),
        ({"fl_x": 90, "cx": 30, "cy": 20, "w": 60, "h": 40, "k1": 0}, {}, (1.5, 2.25, 0.5, 0.5)),
    ],
)  # fmt: skip
def test_lens_keys(tmp_path, document, frame, expected):
    folder = change_frame(capture(tmp_path / "scene", **(dict.fromkeys(LENS) | document)), **frame)
    np.testing.assert_allclose(load(folder).intrinsics[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"w": 4, "h": 6}, "4x6 pixels, the image has 6x4"),
        ({"fl_x": None, "fl_y": None}, "camera_angle_x"),
        ({"fl_x": "long"}, "lens cannot be read"),
        ({"w": 0}, "lens cannot be read|no size|w and h"),
        ({"fl_x": -9.0}, "focal length"),
        ({"near": 1.0}, "near and far"),
        ({"near": 2.0, "far": 1.0}, "near < far"),
        ({"frames": None}, "list of frames"),
        ({"frames": []}, "no images"),
        ({"frames": [{"transform_matrix": POSE.tolist()}]}, "file_path"),
        ({"frames": [{"file_path": "0.png"}]}, "3x4 or 4x4"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, keys, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(capture(tmp_path / "scene", **keys))
    assert "transforms.json" in str(caught.value)


def test_poses_of_three_rows_and_limits(tmp_path):
    folder = capture(tmp_path / "scene", near=0.5, far=2.0, camera_convention="opencv")
    views = load(change_frame(folder, transform_matrix=POSE[:3].tolist(), near=0.75))
    np.testing.assert_array_equal(views.camera_to_world[0], POSE.astype(np.float32))
    np.testing.assert_array_equal(views.near_far, np.array([[0.75, 2.0]], np.float32))
    assert load(capture(tmp_path / "scene")).near_far is None


def test_limits_of_some_frames_only(tmp_path):
    folder = write_transforms(tmp_path / "scene", see(16, 3), "opengl")
    with pytest.raises(UsageError, match="only some frames"):
        load(change_frame(folder, near=0.5, far=2.0))


def test_near_and_far_follow_the_scale(tmp_path):
    folder = write_transforms(tmp_path / "scene", see(32), "opengl", near=0.5, far=2.0)
    views, record = TransformsSource(folder, normalize=True).load("scene")
    np.testing.assert_allclose(views.near_far, [np.array([0.5, 2]) * record["normalization"]["scale"]] * 8, rtol=1e-6)


@pytest.mark.parametrize("ending", [".png", ".JPG", ".jpeg", ".webp", ".PNG"])
@pytest.mark.parametrize("named", ["./r_0.5", ".\\pictures\\..\\r_0.5"])
def test_names_without_ending_and_with_backslashes(tmp_path, ending, named):
    folder = change_frame(capture(tmp_path / "scene"), file_path=named)
    (folder / "pictures").mkdir()
    Image.fromarray(np.full((4, 6, 3), 77, np.uint8)).save(folder / f"r_0.5{ending}")
    assert abs(load(folder).images.astype(int) - 77).max() <= 1


def test_split_files_are_one_scene_test_views_first(tmp_path):
    seen = see(64)
    for name, rows in (("train", slice(0, 4)), ("val", slice(4, 6)), ("test", slice(6, 8))):
        part = type(seen)(seen.images[rows], seen.poses[rows], seen.intrinsics[rows])
        write_transforms(tmp_path / "lego", part, "opengl", f"transforms_{name}.json")
    source = TransformsSource(tmp_path)
    assert [scene.id for scene in source.scenes()] == ["lego"]
    views, record = source.load("lego")
    order = [6, 7, 4, 5, 0, 1, 2, 3]
    np.testing.assert_array_equal(views.images, seen.images[order])
    np.testing.assert_allclose(views.camera_to_world, seen.poses[order], atol=1e-6)
    assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5
    assert list(record["files"]) == [f"lego/transforms_{name}.json" for name in ("test", "val", "train")]
    assert (record["test_views"], record["val_views"]) == (2, 2)
    (tmp_path / "lego" / "transforms_val.json").write_text((tmp_path / "lego" / "transforms_test.json").read_text())
    assert len(source.load("lego")[0].images) == 6, "an image is taken once"
    write_transforms(tmp_path / "lego", type(seen)(seen.images[:1], seen.poses[:1], seen.intrinsics[:1]), "opengl")
    assert len(TransformsSource(tmp_path).load("lego")[0].images) == 1, "transforms.json alone"


def test_split_files_of_two_conventions(tmp_path):
    for name, convention in (("train", "opengl"), ("test", "opencv")):
        capture(tmp_path / "lego", f"transforms_{name}.json", camera_convention=convention)
    with pytest.raises(UsageError, match="differ in camera_convention"):
        load(tmp_path / "lego")


def test_shape_and_license_keys(tmp_path):
    record = TransformsSource(capture(tmp_path / "red", shape="sedan", license="CC0-1.0")).load("red")[1]
    assert (record["shape"], record["license"]) == ("sedan", "CC0-1.0")
    assert TransformsSource(capture(tmp_path / "red")).load("red")[1]["shape"] == "red"


def test_dataset_map_names_scenes_and_categories(tmp_path):
    for name in "abc":
        capture(tmp_path / "square128_above" / name, "transforms_opencv.json")
    (tmp_path / "dataset_map.json").write_text(json.dumps({"car": ["c"], "face": ["a"]}))
    for path, prefix in ((tmp_path, "square128_above/"), (tmp_path / "square128_above", "")):
        scenes = [(scene.id, scene.category) for scene in TransformsSource(path).scenes()]
        assert scenes == [(f"{prefix}c", "car"), (f"{prefix}a", "face")]
    alone = TransformsSource(tmp_path / "square128_above" / "b", category="chair").scenes()
    assert [(scene.id, scene.category) for scene in alone] == [("b", "chair")]
    capture(tmp_path / "square64" / "a", "transforms_opencv.json")
    with pytest.raises(UsageError, match=r"a, found 2 times.*one subset"):
        TransformsSource(tmp_path)


def with_lists(folder, **lists):
    """A scene of eight images 0 to 7 with lists of filenames, which are given by the numbers of images."""
    seen = see(16)
    names = {f"{part}_filenames": [f"images/transforms_{row:03d}.png" for row in rows] for part, rows in lists.items()}
    return seen, write_transforms(folder, seen, "opengl", **names)


@pytest.mark.parametrize(
    ("lists", "order", "held_out"),
    [
        ({"train": [0, 1, 2, 4, 5], "val": [3], "test": [6, 7]}, [6, 7, 3, 0, 1, 2, 4, 5], (2, 1)),
        ({"train": [0, 1, 2, 4, 5], "val": [3, 6, 7], "test": [3, 6, 7]}, [3, 6, 7, 0, 1, 2, 4, 5], (3, 0)),
        ({"train": [0, 1, 2, 4, 5], "val": [3, 6, 7]}, [3, 6, 7, 0, 1, 2, 4, 5], (3, 0)),
        ({"train": [7, 6, 5]}, [0, 1, 2, 3, 4, 5, 6, 7], (5, 0)),
        ({"test": [2, 5]}, [2, 5, 0, 1, 3, 4, 6, 7], (2, 0)),
        ({"train": [0, 1, 2], "val": [0, 3], "test": [4]}, [4, 0, 3, 1, 2], (1, 2)),
        ({"test": list(range(8))}, list(range(8)), (0, 0)),
        ({"train": list(range(8))}, list(range(8)), (0, 0)),
        ({}, list(range(8)), (0, 0)),
    ],
)
def test_lists_of_filenames_say_what_is_held_out(tmp_path, lists, order, held_out):
    seen, folder = with_lists(tmp_path / "scene", **lists)
    views, record = TransformsSource(folder).load("scene")
    np.testing.assert_array_equal(views.images, seen.images[order])
    np.testing.assert_allclose(views.camera_to_world, seen.poses[order], atol=1e-6)
    assert (record.get("test_views", 0), record.get("val_views", 0)) == held_out
    assert len(views.warnings) == (len(order) < 8)
    if views.warnings:
        assert "3 of its images, e.g. 'images/transforms_005.png', are in no list of filenames" in views.warnings[0]


def test_lists_of_filenames_decide_what_is_trained(tmp_path):
    rows = {"train": [0, 1, 4, 5], "val": [3, 2], "test": [6, 7]}
    with_lists(tmp_path / "scenes" / "said", **rows)
    with_lists(tmp_path / "scenes" / "unsaid")
    index = write_pack(TransformsSource(tmp_path / "scenes"), tmp_path / "pack", None, "every_tenth")
    data = MultiViewDataModule(str(tmp_path / "pack"), 1, 1, split_seed=None, val_fraction=0.1)
    assert index.held_out == ((2, 2), (0, 0))
    for split, said, unsaid in (
        ("test", [0, 1], [0]), ("val", [2, 3], [1]), ("train", [4, 5, 6, 7], [2, 3, 4, 5, 6, 7])
    ):  # fmt: skip
        assert (data.split(1, split), data.split(2, split)) == ([said], [unsaid])
    assert not [finding for finding in check_pack(index).findings if "test on" in finding.what]
    for part in rows.values():
        part.sort()
    export_transforms(index, tmp_path / "files")
    again = write_pack(TransformsSource(tmp_path / "files"), tmp_path / "again", None, "every_tenth")
    assert (again.held_out, again.digests) == (index.held_out, index.digests)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": [0, 1, 2], "test": [2, 3]}, r"transforms_002\.png' is in train_filenames and in test_filenames"),
        ({"val": [9]}, r"val_filenames names .*transforms_009\.png, which is no frame of it"),
    ],
)
def test_lists_of_filenames_that_contradict_are_named(tmp_path, lists, message):
    _, folder = with_lists(tmp_path / "scene", **lists)
    with pytest.raises(UsageError, match=message):
        TransformsSource(folder).load("scene")
    with pytest.raises(UsageError, match="val_filenames is no list of images"):
        load(capture(tmp_path / "odd", val_filenames=[3]))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_exif_orientation_is_a_warning(tmp_path, orientation):
    folder = change_frame(capture(tmp_path / "scene"), file_path="0.jpg")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(folder / "0.jpg", exif=exif)
    views = load(folder)
    assert views.images.shape == (1, 4, 6, 3)
    assert len(views.warnings) == (orientation != 1)
    if views.warnings:
        assert "1 of its 1 images, e.g. '0.jpg', have an EXIF orientation, which is not applied" in views.warnings[0]
        assert "mogrify -auto-orient" in views.warnings[0]


def test_a_byte_order_mark_changes_nothing(tmp_path):
    folder = capture(tmp_path / "scene")
    before, text = load(folder), (folder / "transforms.json").read_bytes()
    (folder / "transforms.json").write_bytes(b"\xef\xbb\xbf" + text)
    np.testing.assert_array_equal(load(folder).camera_to_world, before.camera_to_world)
    np.testing.assert_array_equal(load(folder).intrinsics, before.intrinsics)


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match=r"transforms_opencv\.json"):
        TransformsSource(tmp_path)


def test_development_scenes(test_data):
    folder = test_data / "rendered" / "transforms"
    if not folder.is_dir():
        pytest.skip(f"no rendered scenes in {test_data}")
    source = TransformsSource(folder)
    views, record = source.load("kenney-car-sedan")
    assert (record["camera_convention"], record["camera_convention_from"]) == ("opencv", "key")
    again, normalization = TransformsSource(folder, normalize=True).load("kenney-car-sedan")
    np.testing.assert_allclose(normalization["normalization"]["rotation"], np.eye(3), atol=1e-5)
    np.testing.assert_allclose(normalization["normalization"]["center"], 0, atol=1e-5)
    assert 1.0 < normalization["normalization"]["scale"] < 1.3, "its silhouette stays within the ball of its box"
    np.testing.assert_array_equal(views.images, again.images)
