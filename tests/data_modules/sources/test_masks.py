"""Masks of posed images in every format: alpha, mask files, from white, or none, and why there are none."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.sources.eg3d import Eg3dSource
from data_modules.sources.silhouettes import MOST_LOST, masks_from_white
from data_modules.sources.srn import SrnSource
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import Seen, see, write_eg3d, write_srn, write_transforms, zipped
from tests.data_modules.sources.one_frame import PIXELS, capture, change_frame
from tests.data_modules.sources.test_silhouettes import SHAPES, views_of

SOURCES = {
    "transforms": (write_transforms, TransformsSource, "opengl"),
    "srn": (write_srn, SrnSource, "opencv"),
    "eg3d": (write_eg3d, Eg3dSource, "opencv"),
    "eg3d zip": (lambda *arguments: zipped(write_eg3d(*arguments)), Eg3dSource, "opencv"),
}


def with_alpha(seen: Seen) -> tuple[Seen, np.ndarray]:
    """Balls behind alpha that falls off to the right, so that nearly all shares occur."""
    alpha = masks_from_white(seen.images) // 255 * np.linspace(255, 5, seen.images.shape[2]).astype(np.uint8)
    return Seen(np.concatenate([seen.images, alpha[..., None]], axis=-1), seen.poses, seen.intrinsics), alpha


def load(source: str, folder: Path, seen: Seen, **options):
    write, reader, convention = SOURCES[source]
    opened = reader(write(folder, seen, convention), **options)
    return opened.load(opened.scenes()[0].id)


@pytest.mark.parametrize("source", SOURCES)
def test_alpha_is_the_mask(tmp_path, source):
    seen, alpha = with_alpha(see())
    views, record = load(source, tmp_path / "balls", seen)
    np.testing.assert_array_equal(views.masks, alpha)
    assert (views.images[alpha == 0] == 255).all()
    assert record["masks"] == "alpha"
    assert "masks_refused" not in record


@pytest.mark.parametrize("source", SOURCES)
def test_masks_are_left_out_where_nobody_wants_them_and_pixels_are_the_same(tmp_path, source):
    seen, _ = with_alpha(see())
    views, record = load(source, tmp_path / "balls", seen, masks="none")
    assert (views.masks, record["masks"]) == (None, None)
    np.testing.assert_array_equal(views.images, load(source, tmp_path / "again", seen)[0].images)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("masks", ["auto", "from_white"])
def test_images_without_alpha(tmp_path, source, masks):
    seen = see()
    views, record = load(source, tmp_path / "balls", seen, masks=masks)
    if masks == "auto":
        assert (views.masks, record["masks"]) == (None, None)
    else:
        np.testing.assert_array_equal(views.masks, masks_from_white(seen.images))
        assert record["masks"] == "from_white"
    assert "masks_refused" not in record


def test_alpha_wins_over_white(tmp_path):
    seen, alpha = with_alpha(see())
    views, record = load("transforms", tmp_path / "balls", seen, masks="from_white")
    np.testing.assert_array_equal(views.masks, alpha)
    assert record["masks"] == "alpha"


@pytest.mark.parametrize(("masks", "origin"), [("auto", None), ("from_white", "from_white")])
def test_photographs_with_an_opaque_alpha_have_no_masks(tmp_path, masks, origin):
    seen = see()
    opaque = np.full((*seen.images.shape[:3], 1), 255, np.uint8)
    rgba = Seen(np.concatenate([seen.images, opaque], axis=-1), seen.poses, seen.intrinsics)
    views, record = load("srn", tmp_path / "balls", rgba, masks=masks)
    assert record["masks"] == origin
    assert (views.masks is None) == (origin is None)
    assert "masks_refused" not in record, "there were none to refuse"


def test_a_scene_of_which_some_images_have_no_alpha_says_so(tmp_path):
    seen, _ = with_alpha(see())
    folder = write_transforms(tmp_path / "balls", seen, "opengl")
    for row in (2, 5):
        Image.open(folder / f"images/transforms_{row:03d}.png").convert("RGB").save(
            folder / f"images/transforms_{row:03d}.png"
        )
    views, record = TransformsSource(folder).load("balls")
    assert (views.masks, record["masks"]) == (None, None)
    assert record["masks_refused"] == (
        "2 of its 8 images have no alpha, e.g. images/transforms_002.png, while the others have: give all of them "
        "alpha, or give --masks from_white"
    )
    assert TransformsSource(folder, masks="none").load("balls")[1].get("masks_refused") is None


@pytest.mark.parametrize("resolution", [16, 24, 96])
def test_masks_are_resized_with_the_pixels(tmp_path, resolution):
    """A black object on white, whose grey levels after any resizing are those of its mask."""
    seen = see()
    alpha = masks_from_white(seen.images)
    black = np.concatenate([np.zeros_like(seen.images), alpha[..., None]], axis=-1)
    views, _ = load("transforms", tmp_path / "balls", Seen(black, seen.poses, seen.intrinsics), resolution=resolution)
    assert views.masks.shape == (8, resolution, resolution)
    assert abs(255 - views.images[..., 0].astype(int) - views.masks).max() <= 1


def test_a_white_object_before_white_gets_no_masks(tmp_path):
    images, _, poses, lenses = views_of(SHAPES["white car"], 24)
    seen = Seen(images, poses.astype(np.float64), lenses.astype(np.float64))
    views, record = load("srn", tmp_path / "car", seen, masks="from_white")
    assert (views.masks, record["masks"]) == (None, None)
    assert "its masks from white contradict each other in " in record["masks_refused"]
    share = float(record["masks_refused"].split(" in ")[1].split(" %")[0])
    assert share > 100 * MOST_LOST
    assert record["masks_refused"].endswith(": give images with alpha")
    red, _ = load("srn", tmp_path / "box", Seen(*_box(24)), masks="from_white")
    assert red.masks is not None


def _box(count: int):
    images, _, poses, lenses = views_of(SHAPES["box"], count)
    return images, poses.astype(np.float64), lenses.astype(np.float64)


def test_an_image_in_which_all_is_white_gives_no_mask(tmp_path):
    seen = see()
    seen.images[3] = 255
    views, record = load("eg3d", tmp_path / "balls", seen, masks="from_white")
    assert views.masks is None
    assert record["masks_refused"] == "all is white in 1 of its 8 images, e.g. in view 3: give images with alpha"


def test_an_unknown_origin_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--masks black is not known: use auto, none, from_white"):
        load("srn", tmp_path / "balls", see(), masks="black")


def test_a_mask_file_becomes_the_mask_and_is_applied(tmp_path):
    folder = change_frame(capture(tmp_path / "scene"), mask_path="mask.png")
    mask = np.arange(24, dtype=np.uint8).reshape(4, 6) * 11
    Image.fromarray(mask).save(folder / "mask.png")
    views, record = TransformsSource(folder).load("scene")
    np.testing.assert_array_equal(views.masks[0], mask)
    assert (views.images[0][mask == 0] == 255).all()
    assert record["masks"] == "alpha"


def on_white(folder: Path, mask: np.ndarray, image: Image.Image | None = None) -> Path:
    """A scene whose mask is not to be applied once more."""
    folder = change_frame(capture(folder, image=image, images_on_white=True), mask_path="mask.png")
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


@pytest.mark.parametrize("largest", [0, 1, 255])
def test_a_mask_of_an_image_on_white_is_kept_and_not_applied(tmp_path, largest):
    mask = np.minimum(np.arange(24, dtype=np.uint8).reshape(4, 6) * 11, largest).astype(np.uint8)
    views, _ = TransformsSource(on_white(tmp_path / "scene", mask)).load("scene")
    np.testing.assert_array_equal(views.masks[0], mask)
    np.testing.assert_array_equal(views.images[0], PIXELS)


def test_an_image_on_white_needs_no_alpha(tmp_path):
    rgba = Image.fromarray(np.dstack([PIXELS, np.full((4, 6), 9, np.uint8)]))
    folder = on_white(tmp_path / "scene", np.zeros((4, 6), np.uint8), rgba)
    with pytest.raises(UsageError, match=r"0\.png: its image has alpha, and images_on_white says .*: remove one"):
        TransformsSource(folder).load("scene")


def test_the_option_is_part_of_what_a_call_asks_for(tmp_path):
    folder = write_transforms(tmp_path / "balls", see(), "opengl")
    assert json.loads((folder / "transforms.json").read_text())["frames"]
    assert vars(TransformsSource(folder)) != vars(TransformsSource(folder, masks="none"))
