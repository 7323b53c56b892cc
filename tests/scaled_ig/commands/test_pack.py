"""``scaled-ig pack`` of posed images: every format reaches its reader, and the axes of the cameras are said."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.raycast import draw_cameras
from scaled_ig.commands.pack import pack
from scaled_ig.errors import UsageError

VIEWS = 4
SIZE = (6, 8)  # height, width
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
OVERRIDES = "; --camera_convention overrides; look at the sheet that scaled-ig check draws"


def posed() -> tuple[np.ndarray, np.ndarray]:
    """Noise uint8 [V, H, W, 3] and OpenCV poses [V, 4, 4]."""
    generator = np.random.default_rng(0)
    poses, _ = draw_cameras(VIEWS, 1.3, (-180, 180), (0, 85), generator)
    return generator.integers(0, 256, (VIEWS, *SIZE, 3), dtype=np.uint8), poses


def write_transforms(folder: Path, scenes: tuple[str, ...] = ("a", "b"), **keys) -> None:
    images, poses = posed()
    for name in scenes:
        (folder / name).mkdir(parents=True)
        frames = [
            {"file_path": f"{row}.png", "transform_matrix": (pose @ OPENGL).tolist()} for row, pose in enumerate(poses)
        ]
        document = {"fl_x": 9.0, "frames": frames, **keys}
        (folder / name / "transforms.json").write_text(json.dumps(document))
        for row, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{row}.png")


def write_srn(folder: Path) -> None:
    images, poses = posed()
    for name in ("a", "b"):
        for below in ("pose", "rgb"):
            (folder / name / below).mkdir(parents=True)
        (folder / name / "intrinsics.txt").write_text("9. 4. 3. 0.\n0. 0. 0.\n1.\n6 8\n")
        for row, (image, pose) in enumerate(zip(images, poses, strict=True)):
            (folder / name / "pose" / f"{row:06d}.txt").write_text(" ".join(map(str, pose.ravel().tolist())))
            Image.fromarray(image).save(folder / name / "rgb" / f"{row:06d}.png")


def write_eg3d(folder: Path) -> None:
    images, poses = posed()
    labels = []
    for row, (image, pose) in enumerate(zip(images, poses, strict=True)):
        name = f"00000/img{row:08d}.png"
        (folder / "00000").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
        labels.append([name, [*pose.ravel().tolist(), 9 / 8, 0, 0.5, 0, 9 / 6, 0.5, 0, 0, 1]])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


@pytest.mark.parametrize(
    ("source", "write", "options", "category", "file"),
    [
        ("transforms", write_transforms, {"category": "chair"}, "chair", "opengl axes, as transforms.json"),
        ("srn", write_srn, {}, "car", "opencv axes, as intrinsics.txt"),
        ("eg3d", write_eg3d, {"views_per_scene": 2}, "object", "opencv axes, as dataset.json"),
    ],
)
def test_posed_images_are_copied_and_their_axes_are_said(tmp_path, capsys, source, write, options, category, file):
    write(tmp_path / "files")
    assert pack(source, str(tmp_path / "files"), out=str(tmp_path / "out"), processes=1, **options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"cameras: {file} files are unless they say otherwise{OVERRIDES}"
    index = PackIndex.open(tmp_path / "out")
    assert index.categories == (category, category)
    images, poses = posed()
    with index.shards[0].open() as shard:
        views = layout.read_scene(shard, index, 0)
    count = len(views.images)
    np.testing.assert_array_equal(views.images, images[:count])
    np.testing.assert_allclose(views.camera_to_world, poses[:count], atol=1e-6)
    np.testing.assert_allclose(views.intrinsics[0], (9 / 8, 9 / 6, 0.5, 0.5))


def test_options_of_posed_images_reach_the_reader(tmp_path, capsys):
    write_transforms(tmp_path / "files")
    options = {"camera_convention": "opencv_w2c", "resolution": 4}
    pack("transforms", str(tmp_path / "files"), out=str(tmp_path / "out"), processes=1, **options)
    assert f"cameras: opencv_w2c axes, as --camera_convention says{OVERRIDES}" in capsys.readouterr().out
    index = PackIndex.open(tmp_path / "out")
    assert index.image_size == (4, 4)
    with index.shards[0].open() as shard:
        views = layout.read_scene(shard, index, 0)
    np.testing.assert_allclose(views.camera_to_world[0], np.linalg.inv(posed()[1][0] @ OPENGL), atol=1e-5)
    with pytest.raises(UsageError, match="already holds a pack of other settings"):
        pack("transforms", str(tmp_path / "files"), out=str(tmp_path / "out"), processes=1)


def test_where_masks_come_from_is_said(tmp_path, capsys):
    write_transforms(tmp_path / "files", ("a", "b", "c"))
    for scene, rows in (("a", range(VIEWS)), ("b", range(2))):
        for row in rows:
            rgba = np.dstack([posed()[0][row], np.full(SIZE, 7, np.uint8)])
            Image.fromarray(rgba).save(tmp_path / "files" / scene / f"{row}.png")
    pack("transforms", str(tmp_path / "files"), out=str(tmp_path / "out"), processes=1)
    said = capsys.readouterr().out.splitlines()
    assert said[1:3] == [
        "no masks: b: 2 of its 4 images have no alpha, e.g. 2.png, while the others have: give all of them alpha, or "
        "give --masks from_white",
        "masks: none (2 scenes); from alpha or mask files (1 scene); --masks overrides",
    ]
    index = PackIndex.open(tmp_path / "out")
    assert index.masked.tolist() == [True, False, False]
    assert "2 of its 4 images" in layout.read_source_records(index.shards[0])[1]["masks_refused"]
    pack("transforms", str(tmp_path / "files"), out=str(tmp_path / "without"), processes=1, masks="none")
    assert capsys.readouterr().out.splitlines()[1] == "masks: none; --masks overrides"
    assert not PackIndex.open(tmp_path / "without").masked.any()


def test_a_white_object_is_refused_masks_by_name(tmp_path, capsys):
    write_transforms(tmp_path / "files", ("a", "blank"))
    Image.new("RGB", SIZE[::-1], "white").save(tmp_path / "files" / "blank" / "1.png")
    pack("transforms", str(tmp_path / "files"), out=str(tmp_path / "out"), processes=1, masks="from_white")
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "no masks: blank: all is white in 1 of its 4 images, e.g. in view 1: give images with alpha"
    assert said[2] == "masks: from white (1 scene); none (1 scene); --masks overrides"
    assert PackIndex.open(tmp_path / "out").masked.tolist() == [True, False]


def test_masks_have_no_effect_on_meshes(tmp_path):
    with pytest.raises(UsageError, match="--masks has no effect on meshes: leave it out"):
        pack("meshes", str(tmp_path), out=str(tmp_path / "out"), masks="none")


def test_scenes_that_differ_in_their_axes_are_counted(tmp_path, capsys):
    write_transforms(tmp_path / "files", ("a", "b"))
    write_transforms(tmp_path / "files", ("c",), camera_convention="OpenCV")
    pack("transforms", str(tmp_path / "files"), out=str(tmp_path / "out"), processes=1)
    said = capsys.readouterr().out.splitlines()[-1]
    assert "opengl axes, as transforms.json files are unless they say otherwise (2 scenes); " in said
    assert "opencv axes, as their files say (1 scene); " in said


def test_the_axes_of_appended_scenes_alone_are_said(tmp_path, capsys):
    write_transforms(tmp_path / "first", ("a",))
    write_transforms(tmp_path / "more", ("b",), camera_convention="opencv")
    pack("transforms", str(tmp_path / "first"), out=str(tmp_path / "out"), processes=1)
    capsys.readouterr()
    pack("transforms", str(tmp_path / "more"), out=str(tmp_path / "out"), processes=1, append=True)
    said = capsys.readouterr().out.splitlines()
    assert "2 scenes, 8 views" in said[0]
    assert said[-1] == f"cameras: opencv axes, as their files say{OVERRIDES}"
