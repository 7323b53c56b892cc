"""EG3D's layout: folder, file and archive; scenes by folder or by number; labels that are none."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from data_modules.sources import eg3d
from data_modules.sources.eg3d import Eg3dSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import see, write_eg3d, zipped

BUCKETS = [f"0000{row // 4}/img{row:08d}.png" for row in range(8)]


def rewrite(folder, change) -> None:
    document = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(change(document)))


def test_folder_file_and_archive_are_the_same(tmp_path):
    seen = see(32)
    names = [f"{'ab'[row % 2]}/rgb/{7 - row:06d}.png" for row in range(8)]
    folder = write_eg3d(tmp_path / "cars", seen, "opencv", names)
    archives = [zipped(folder), zipped(folder, top="cars/").rename(tmp_path / "nested.zip")]
    zipped(folder)
    loaded = []
    for path in (folder, folder / "dataset.json", *archives):
        source = Eg3dSource(path, category="car")
        assert [(scene.id, scene.category) for scene in source.scenes()] == [("a", "car"), ("b", "car")]
        loaded.append(source.load("b"))
        np.testing.assert_array_equal(loaded[-1][0].images, seen.images[[7, 5, 3, 1]], err_msg="in order of names")
        np.testing.assert_allclose(loaded[-1][0].camera_to_world, seen.poses[[7, 5, 3, 1]], atol=1e-6)
    assert len({record["sha256"] for _, record in loaded}) == 1
    assert loaded[2][1]["file"] == "cars.zip/dataset.json"


def test_archives_survive_pickling_and_leave_one_handle_open(tmp_path):
    seen = see(16)
    sources = [Eg3dSource(zipped(write_eg3d(tmp_path / f"pack{row}", seen, "opencv"))) for row in range(3)]
    for source in sources:
        source.load("balls")
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.load("balls")[0].images, seen.images)
    assert eg3d._open_zip.cache_info().currsize == 1
    assert all(
        type(value) in (int, float, str, bool, type(None), type(tmp_path)) for value in vars(sources[0]).values()
    )


def test_buckets_need_a_number_of_views(tmp_path):
    seen = see(16)
    folder = write_eg3d(tmp_path / "cars", seen, "opencv", BUCKETS)
    rewrite(folder, lambda document: {"labels": document["labels"][::-1]})
    with pytest.raises(UsageError, match=r"img00000000.*--views_per_scene"):
        Eg3dSource(folder)
    source = Eg3dSource(folder, views_per_scene=2)
    assert [scene.id for scene in source.scenes()] == [f"scene-0000{row}" for row in range(4)]
    np.testing.assert_array_equal(source.load("scene-00002")[0].images, seen.images[4:6])
    for number in (3, 0, -1):
        with pytest.raises(UsageError, match=rf"--views_per_scene {number} does not divide the 8 images"):
            Eg3dSource(folder, views_per_scene=number)


def test_images_without_a_folder_need_a_number_of_views(tmp_path):
    folder = write_eg3d(tmp_path / "cars", see(16, 2), "opencv", ["0.png", "1.png"])
    with pytest.raises(UsageError, match="--views_per_scene"):
        Eg3dSource(folder)
    assert len(Eg3dSource(folder, views_per_scene=2).load("scene-00000")[0].images) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: {"labels": None}, "no list of labels"),
        (lambda document: [], "no list of labels"),
        (lambda document: {"labels": []}, "no image"),
        (lambda document: {"labels": [["a/0.png", None]]}, r"a/0\.png has no numbers, not 25"),
        (lambda document: {"labels": [["a/0.png", [0.0] * 16]]}, r"a/0\.png has 16 numbers"),
        (lambda document: {"labels": [["a/0.png", ["x"] * 25]]}, "no row of numbers"),
        (lambda document: {"labels": document["labels"] * 2}, "one twice"),
        (lambda document: {"labels": [["a/0.png", [64.0] * 25]]}, "divided by the image size"),
    ],
)
def test_labels_that_are_none(tmp_path, change, message):
    folder = write_eg3d(tmp_path / "cars", see(16, 2), "opencv")
    rewrite(folder, change)
    with pytest.raises(UsageError, match=message) as caught:
        Eg3dSource(folder)
    assert "dataset.json" in str(caught.value)


def test_missing_files_are_named(tmp_path):
    folder = write_eg3d(tmp_path / "cars", see(16, 2), "opencv")
    (folder / "balls/rgb/000001.png").unlink()
    for path in (folder, zipped(folder)):
        with pytest.raises(UsageError, match=r"000001\.png"):
            Eg3dSource(path).load("balls")
    with pytest.raises(UsageError, match=r"dataset\.json"):
        Eg3dSource(tmp_path)
    (tmp_path / "torn.zip").write_bytes(b"PK")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name in ("torn.zip", "empty.zip", "gone.zip"):
        with pytest.raises(UsageError, match=name):
            Eg3dSource(tmp_path / name)
