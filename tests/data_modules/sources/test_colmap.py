"""Models of COLMAP: the same capture in every form, and files that are none."""

import struct

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.colmap import ColmapSource
from data_modules.sources.colmap_model import MODELS, read_cameras, read_images
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import crop, distances, see, write_colmap, write_transforms


def load(folder, **options):
    (scene,) = ColmapSource(folder, **options).scenes()
    return ColmapSource(folder, **options).load(scene.id)


@pytest.fixture
def seen():
    """Not square, and the principal point beside the middle."""
    return crop(see(48), slice(0, 40), slice(4, 48))


@pytest.mark.parametrize("ending", ["bin", "txt"])
@pytest.mark.parametrize("model", ["PINHOLE", "OPENCV", "FULL_OPENCV"])
def test_a_model_gives_the_same_as_transforms(tmp_path, seen, ending, model):
    write_transforms(tmp_path / "one", seen, "opengl")
    write_colmap(tmp_path / "two", seen, ending, model)
    expected, _ = TransformsSource(tmp_path / "one").load("one")
    views, record = load(tmp_path / "two")
    np.testing.assert_array_equal(views.images, expected.images)
    np.testing.assert_allclose(views.camera_to_world, expected.camera_to_world, atol=1e-6)
    np.testing.assert_allclose(views.intrinsics, expected.intrinsics, rtol=1e-6)
    assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5
    assert (record["camera_convention"], record["camera_convention_from"]) == ("opencv_w2c", "key")
    assert list(record["files"]) == [f"sparse/0/cameras.{ending}", f"sparse/0/images.{ending}"]


def test_where_models_and_images_may_be(tmp_path, seen):
    write_colmap(tmp_path / "undistorted", seen, model_folder="sparse")
    write_colmap(tmp_path / "work/dense/0", seen, model_folder="sparse")
    (tmp_path / "work/sparse/0").mkdir(parents=True)  # of the same, without images
    for name in ("cameras", "images"):
        content = (tmp_path / f"undistorted/sparse/{name}.bin").read_bytes()
        (tmp_path / f"work/sparse/0/{name}.bin").write_bytes(content)
    assert [scene.id for scene in ColmapSource(tmp_path).scenes()] == ["undistorted", "work/dense/0"]
    with pytest.raises(UsageError, match=r"sparse/0 has no folder images beside or above it: put the photographs"):
        ColmapSource(tmp_path / "work/sparse")
    with pytest.raises(UsageError, match=r"holds no model of COLMAP"):
        ColmapSource(tmp_path / "work/dense/0/images")


def test_of_several_models_the_one_with_the_most_images_is_taken(tmp_path, seen):
    write_colmap(tmp_path / "scene", see(32, 3), model_folder="sparse/0")
    write_colmap(tmp_path / "scene", seen, model_folder="sparse/1")
    views, record = load(tmp_path / "scene")
    assert record["file"] == "sparse/1/images.bin"
    assert views.warnings == ("of its 2 models '1' is taken, which has the most images",)
    assert len(views.images) == len(seen.images)


@pytest.mark.parametrize("name", ["{stem}.png", "{stem}.jpg.png"])
def test_masks_lie_beside_the_images(tmp_path, seen, name):
    folder = write_colmap(tmp_path / "scene", seen)
    (folder / "masks").mkdir()
    for file, image in zip(sorted((folder / "images").iterdir()), seen.images, strict=True):
        Image.fromarray((image < 255).any(-1)).save(folder / "masks" / name.format(stem=file.stem))
        file.rename(file.with_suffix(".jpg"))
    model = folder / "sparse/0/images.bin"
    model.write_bytes(model.read_bytes().replace(b".png\0", b".jpg\0"))
    views, record = load(folder)
    assert record["masks"] == "alpha"
    np.testing.assert_array_equal(views.masks > 0, (seen.images < 255).any(-1))
    Image.fromarray(np.zeros((3, 3), bool)).save(next((folder / "masks").iterdir()))
    with pytest.raises(UsageError, match=r"its mask \S+ has another size"):
        load(folder)


@pytest.mark.parametrize(("number", "model"), list(enumerate(MODELS)))
def test_every_camera_model_is_read_alike_in_both_forms(tmp_path, number, model):
    name, keys = model
    values = [100.5 + place for place in range(len(keys.split()))]
    (tmp_path / "cameras.bin").write_bytes(
        struct.pack("<QIiQQ", 1, 7, number, 64, 48) + struct.pack(f"<{len(values)}d", *values)
    )
    (tmp_path / "cameras.txt").write_text(f"# cameras\n7 {name} 64 48 {' '.join(map(str, values))}\n")
    if not keys:
        for ending in ("bin", "txt"):
            with pytest.raises(UsageError, match=rf"camera 7 is of the model '{name}', which is not read: undistort"):
                read_cameras(tmp_path / f"cameras.{ending}")
        return
    expected = {"camera_model": name, "w": 64, "h": 48} | dict(zip(keys.split(), values, strict=True))
    assert read_cameras(tmp_path / "cameras.bin") == read_cameras(tmp_path / "cameras.txt") == {7: expected}


def test_a_distorted_lens_is_undistorted(tmp_path):
    """The lens of a file is that of the transforms.json with the same keys."""
    pytest.importorskip("cv2", reason="pip install 'scaled-ig[undistort]'")
    seen = see(48, 4)
    write_transforms(tmp_path / "one", seen, "opengl", k1=0.1, k2=-0.05)
    write_colmap(tmp_path / "two", seen, "txt", "RADIAL", (0.1, -0.05))
    expected, _ = TransformsSource(tmp_path / "one").load("one")
    views, record = load(tmp_path / "two")
    assert record["undistorted"] is True
    np.testing.assert_array_equal(views.images, expected.images)
    np.testing.assert_allclose(views.intrinsics, expected.intrinsics, rtol=1e-6)


def test_names_with_spaces_and_images_without_points(tmp_path):
    (tmp_path / "images.txt").write_text("# two lines each\n\n3 1 0 0 0 1 2 3 1 b c.png\n\n4 2 0 0 0 4 5 6 1 a.png\n")
    images = read_images(tmp_path / "images.txt")
    assert [image.name for image in images] == ["a.png", "b c.png"]
    np.testing.assert_array_equal(images[0].pose, [[1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("view_001", "view_000"), "names 'view_000.png' twice"),
        (lambda text: text.replace("view_001", "../view_001"), "is outside of the folder"),
        (lambda text: text.replace("view_001", "gone"), r"gone\.png, named in .*cannot be read"),
        (lambda text: text.replace(" 9 view_001", " 8 view_001"), "its camera 8 is not there"),
        (lambda text: text.replace(" 9 view_001", " nine view_001"), "cannot be read as a model of COLMAP"),
        (lambda text: text[:20], "cannot be read as a model of COLMAP"),
        (lambda text: "", "lists no images"),
    ],
)
def test_a_malformed_model_is_one_sentence(tmp_path, spoil, message):
    folder = write_colmap(tmp_path / "scene", see(16, 2), "txt")
    file = folder / "sparse/0/images.txt"
    file.write_text(spoil(file.read_text()))
    with pytest.raises(UsageError, match=message):
        load(folder)


@pytest.mark.parametrize("name", ["cameras", "images"])
def test_a_truncated_or_longer_file_is_one_sentence(tmp_path, name):
    folder = write_colmap(tmp_path / "scene", see(16, 2))
    file = folder / f"sparse/0/{name}.bin"
    content = file.read_bytes()
    for spoiled in [content[:length] for length in range(0, len(content), 7)] + [content + b"\0"]:
        file.write_bytes(spoiled)
        with pytest.raises(UsageError, match=rf"{name}\.bin cannot be read as a model of COLMAP"):
            load(folder)
