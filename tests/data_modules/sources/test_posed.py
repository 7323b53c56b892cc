"""Whatever the format and the convention, three coloured balls come to lie where the loaded cameras see them."""

import pickle

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.conventions import CONVENTIONS
from data_modules.sources.eg3d import Eg3dSource
from data_modules.sources.photographs import denormalize_cameras
from data_modules.sources.posed import PosedSource
from data_modules.sources.srn import SrnSource
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import (
    CENTRES,
    crop,
    distances,
    see,
    write_eg3d,
    write_srn,
    write_transforms,
    zipped,
)

WRITERS = {"transforms": write_transforms, "srn": write_srn, "eg3d": write_eg3d}
SOURCES = {"transforms": TransformsSource, "srn": SrnSource, "eg3d": Eg3dSource}


def write(kind: str, folder, seen, convention: str, **options) -> PosedSource:
    path = WRITERS[kind.removesuffix(".zip")](folder, seen, convention)
    return SOURCES[kind.removesuffix(".zip")](zipped(path) if kind.endswith(".zip") else path, convention, **options)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", ["transforms", "srn", "eg3d", "eg3d.zip"])
def test_cameras_and_pixels_come_back(tmp_path, kind, convention):
    seen = see()
    source = pickle.loads(pickle.dumps(write(kind, tmp_path / "balls", seen, convention)))
    assert [scene.id for scene in source.scenes()] == ["balls"]
    views, record = source.load("balls")
    np.testing.assert_array_equal(views.images, seen.images)
    np.testing.assert_allclose(views.camera_to_world, seen.poses, atol=1e-6)
    np.testing.assert_allclose(views.intrinsics, seen.intrinsics, atol=1e-6)
    assert views.camera_to_world.dtype == views.intrinsics.dtype == np.float32
    assert (record["camera_convention"], record["camera_convention_from"]) == (convention, "option")
    assert record["normalization"] is None
    assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_wrong_convention_is_seen(tmp_path, convention):
    """The measure itself must be able to fail."""
    seen = see()
    views, _ = TransformsSource(write_transforms(tmp_path / "balls", seen, "opencv"), convention).load("balls")
    far = distances(views.images, views.camera_to_world, views.intrinsics).max() > 3
    assert far == (convention != "opencv")


@pytest.mark.parametrize("kind", ["transforms", "eg3d.zip"])
@pytest.mark.parametrize(("rows", "columns"), [(slice(20, 106), slice(10, 128)), (slice(8, 120), slice(22, 109))])
@pytest.mark.parametrize("resolution", [32, 48, 200])
def test_photographs_are_cropped_resized_and_brought_into_the_world(tmp_path, kind, rows, columns, resolution):
    """Cameras of a turned, moved and scaled world; images that are not square, their principal point off the middle."""
    seen = crop(see(128), rows, columns)
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    turn *= np.linalg.det(turn)
    moved = seen.poses.copy()
    moved[:, :3, :3] = turn @ seen.poses[:, :3, :3]
    moved[:, :3, 3] = 7 * seen.poses[:, :3, 3] @ turn.T + [100, 200, -300]
    photographs = type(seen)(seen.images, moved, seen.intrinsics)
    source = write(kind, tmp_path / "balls", photographs, "opengl", resolution=resolution, normalize=True)
    views, record = source.load("balls")
    assert views.images.shape == (8, resolution, resolution, 3)
    rotation, center = np.array(record["normalization"]["rotation"]), record["normalization"]["center"]
    centres = record["normalization"]["scale"] * (7 * CENTRES @ turn.T + [100, 200, -300] - center) @ rotation.T
    shown = distances(views.images, views.camera_to_world, views.intrinsics, centres)
    assert shown.max() < 0.5 * max(1, resolution / 64)
    assert (np.linalg.norm(centres, axis=1) < 0.5).all()
    np.testing.assert_allclose(rotation @ turn @ [0, 0, 1], [0, 0, 1], atol=1e-6, err_msg="up is up")
    back, _ = denormalize_cameras(views.camera_to_world, None, record["normalization"])
    np.testing.assert_allclose(back, moved, atol=1e-4)


@pytest.mark.parametrize("kind", list(SOURCES))
def test_a_yaw_turns_the_front_and_is_undone_with_the_rest(tmp_path, kind):
    seen = see()
    path = WRITERS[kind](tmp_path / "balls", seen, "opencv")
    plain, turned = (SOURCES[kind](path, "opencv", normalize=True, yaw=yaw).load("balls") for yaw in (0.0, 90.0))
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    positions = plain[0].camera_to_world[:, :3, 3] @ quarter.T
    np.testing.assert_allclose(turned[0].camera_to_world[:, :3, 3], positions, atol=1e-6, err_msg="+X becomes +Y")
    records = plain[1]["normalization"], turned[1]["normalization"]
    np.testing.assert_allclose(records[1]["rotation"], quarter @ records[0]["rotation"], atol=1e-12)
    assert (records[0]["scale"], records[0]["center"]) == (records[1]["scale"], records[1]["center"])
    back, _ = denormalize_cameras(turned[0].camera_to_world, None, records[1])
    np.testing.assert_allclose(back, seen.poses, atol=1e-5)


def test_images_of_different_sizes_need_a_resolution(tmp_path):
    folder = write_transforms(tmp_path / "balls", see(64, 4), "opengl")
    other = crop(see(64, 4), slice(0, 64), slice(4, 60))
    more = write_transforms(tmp_path / "more", other, "opengl")
    (more / "transforms.json").rename(folder / "transforms_val.json")
    (folder / "transforms.json").rename(folder / "transforms_train.json")
    for image in (more / "images").iterdir():
        image.rename(folder / "images" / f"more_{image.name}")
    text = (folder / "transforms_val.json").read_text()
    (folder / "transforms_val.json").write_text(text.replace("images/", "images/more_"))
    with pytest.raises(UsageError, match=r"56x64, 64x64.*--resolution 128"):
        TransformsSource(folder).load("balls")
    views, _ = TransformsSource(folder, resolution=32).load("balls")
    assert views.images.shape == (8, 32, 32, 3)
    assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5


def test_images_are_read_and_shrunk_one_at_a_time(tmp_path, monkeypatch):
    folder = write_srn(tmp_path / "balls", see(64), "opencv")
    opened, shrunk = [], []
    reduce, convert = Image.Image.reduce, Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda image, *a: opened.append(len(shrunk)) or convert(image, *a))
    monkeypatch.setattr(Image.Image, "reduce", lambda image, *a: shrunk.append(1) or reduce(image, *a))
    SrnSource(folder, resolution=16).load("balls")
    assert opened == list(range(8))


@pytest.mark.parametrize("kind", list(SOURCES))
def test_who_decided_the_convention(tmp_path, kind):
    seen = see(16, 2)
    folder = WRITERS[kind](tmp_path / "balls", seen, "opencv")
    record = SOURCES[kind](folder).load("balls")[1]
    assert record["camera_convention_from"] == "format"
    assert record["camera_convention"] == ("opengl" if kind == "transforms" else "opencv")


def test_unknown_options(tmp_path):
    folder = write_srn(tmp_path / "balls", see(16, 2), "opencv")
    with pytest.raises(UsageError, match=r"--camera_convention.*colmap.*opengl_w2c"):
        SrnSource(folder, "colmap")
    with pytest.raises(UsageError, match=r"--yaw 90 .*--normalize"):
        SrnSource(folder, yaw=90.0)
    with pytest.raises(UsageError, match="--yaw nan is no angle"):
        SrnSource(folder, normalize=True, yaw=float("nan"))
    with pytest.raises(UsageError, match="--resolution 0"):
        SrnSource(folder, resolution=0)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (np.eye(4)[:2], "3x4 or 4x4"),
        (np.diag([2.0, 2, 2, 1]), "scaled, skewed or mirrored"),
        (np.diag([1.0, 1, -1, 1]), "mirrored"),
        (np.diag([1.0, 1, np.nan, 1]), "finite"),
    ],
)
def test_poses_that_are_none(tmp_path, pose, message):
    folder = write_srn(tmp_path / "balls", see(16, 2), "opencv")
    (folder / "pose" / "000001.txt").write_text(" ".join(map(str, pose.reshape(-1))))
    with pytest.raises(UsageError, match=message) as caught:
        SrnSource(folder).load("balls")
    assert "000001.png" in str(caught.value)


def test_normalization_errors_name_the_file(tmp_path):
    seen = see(16, 2)
    seen.poses[1] = seen.poses[0]
    folder = write_transforms(tmp_path / "balls", seen, "opencv", camera_convention="opencv")
    with pytest.raises(UsageError, match=r"transforms\.json: all cameras look the same way"):
        TransformsSource(folder, normalize=True).load("balls")


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("transforms", {"files", "categories"}), ("srn", {"folders"}), ("eg3d", {"views_per_scene"})],
)
def test_a_source_has_the_attributes_that_the_digest_of_a_job_is_made_of(tmp_path, kind, attributes):
    """With others, ``pack`` would not know again what older versions have begun or finished."""
    options = {"path", "camera_convention", "category", "resolution", "normalize", "yaw", "masks"}
    assert vars(write(kind, tmp_path / "balls", see(16, 2), "opencv")).keys() == options | attributes
