"""What is wrong with masks: nothing in them, everything, or what the masks of other views say is not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.checking.check import check_pack
from data_modules.checking.contact_sheet import BEYOND_MASK, CAPTION_HEIGHT, CELL, draw_contact_sheet
from data_modules.checking.masks import contradiction_faults
from data_modules.layout import PackIndex, ball_near_far
from data_modules.processes import BEAT
from data_modules.raycast import draw_cameras
from data_modules.sources.base import PosedViews
from scaled_ig.cameras import Cameras
from tests.conftest import see_balls
from tests.data_modules.checking.packs import changed, lines_of, make_pack

CENTRES = np.array([[0.2, 0.1, 0.05], [-0.15, 0.2, -0.1], [0.0, -0.25, 0.1]])
RADII = (0.2, 0.15, 0.12)


def balls(views: int = 20, seed: int = 0, scale: float = 1.0) -> PosedViews:
    """Three balls and their masks, seen from the upper hemisphere."""
    poses, lenses = draw_cameras(views, 1.3, (-180, 180), (0, 85), np.random.default_rng(seed))
    cameras = Cameras(torch.from_numpy(poses), torch.from_numpy(lenses))
    images = see_balls(cameras, 48, CENTRES * scale, np.array(RADII) * scale, np.eye(3) / 2)
    black = see_balls(cameras, 48, CENTRES * scale, np.array(RADII) * scale, np.zeros((3, 3)))
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    masks = ((1 - black[:, 0]) * 255).round().to(torch.uint8).numpy()
    return PosedViews(pixels, poses, lenses, ball_near_far(poses), masks)


def shifted(mask, others):
    return np.roll(mask, 8, axis=1)


def turned(mask, others):
    return mask[::-1, ::-1]


def cut_off(mask, others):
    columns = np.flatnonzero(mask.any(axis=0))
    return np.where(np.arange(mask.shape[1]) < columns[len(columns) * 2 // 3], mask, 0)


def smeared(mask, others):
    mask = mask.copy()
    mask[2:9, 2:9] = 255
    return mask


def of_another_view(mask, others):
    return max(others, key=lambda other: int(np.abs(other.astype(int) - mask).sum()))


SPOIL = [shifted, turned, cut_off, smeared, of_another_view]
CONTRADICTS = "the mask contradicts those of the other views, as if it were shifted, mirrored or cut off"


@pytest.mark.parametrize("views", [1, 2, 8, 60])
def test_right_masks_are_sound(views):
    assert faults(balls(views, views), 0.5) == []


@pytest.mark.parametrize("spoil", SPOIL, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("view", [0, 7])
def test_a_mask_that_contradicts_the_others(tmp_path, spoil, view):
    views = balls()
    views.masks[view] = spoil(views.masks[view], views.masks)
    (line,) = lines_of(make_pack(tmp_path / "pack", {"a": views, "b": balls(seed=1)}))
    assert line == (
        f"pack-00000.h5, scene a: view {view}: {CONTRADICTS}: repair its masks, or pack it with --masks none, or leave "
        "the scene out with scaled-ig check --fix-drop"
    )


def test_several_masks_that_contradict_the_others(tmp_path):
    views = balls(30)
    for view, spoil in zip((3, 11, 20), (shifted, cut_off, smeared), strict=True):
        views.masks[view] = spoil(views.masks[view], views.masks)
    (line,) = lines_of(make_pack(tmp_path / "pack", {"a": views}))
    assert f"views 3, 11, 20: {CONTRADICTS}: " in line


def test_masks_of_which_nobody_knows_which_are_right(tmp_path):
    views = balls()
    views.masks[:] = np.roll(views.masks, 5, axis=0)
    (line,) = lines_of(make_pack(tmp_path / "pack", {"a": views}))
    assert "views 0, 1, 2, 3, 4 and 15 more: the masks contradict each other: " in line


def test_empty_and_full_masks(tmp_path):
    views = balls()
    views.masks[4], views.masks[6] = 0, 1
    lines = lines_of(make_pack(tmp_path / "pack", {"a": views}))
    assert ["view 4: the mask is empty, though something is shown: " in lines[0], len(lines)] == [True, 2]
    assert "view 6: the mask is full, as if the object covered the whole picture: repair its masks, or" in lines[1]


def test_an_empty_view_has_an_empty_mask(tmp_path):
    views = balls()
    views.masks[4], views.images[4] = 0, 255
    (line,) = lines_of(make_pack(tmp_path / "pack", {"a": views}))
    assert "view 4: nothing is shown, all is white: " in line


def faults(views: PosedViews, radius: float) -> list:
    search = contradiction_faults(views, radius)
    while True:
        try:
            assert next(search) == BEAT
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("radius", [0.5, 3.0])
def test_worlds_of_any_size(radius):
    views = balls()
    views.camera_to_world[:, :3, 3] *= 2 * radius
    assert faults(views, radius) == []
    views.masks[5] = shifted(views.masks[5], views.masks)
    (fault,) = faults(views, radius)
    assert np.flatnonzero(fault.views).tolist() == [5]


def test_what_lies_outside_of_the_world_is_no_contradiction():
    views = balls(scale=1.4)
    assert faults(views, 0.5) == []
    views.masks[5] = cut_off(views.masks[5], views.masks)
    assert len(faults(views, 0.5)) == 1


def test_the_sheet_tints_what_lies_outside_of_the_mask(tmp_path):
    views = balls()
    pack = make_pack(tmp_path / "pack", {"a": views, "b": changed(balls(seed=1), masks=None)})
    result = check_pack(PackIndex.open(pack), shown=(0, 1), processes=1, quiet=True)
    draw_contact_sheet(result, Path(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    corner = sheet[CAPTION_HEIGHT + 2, 2], sheet[2 * CAPTION_HEIGHT + CELL + 2, 2]
    assert [tuple(pixel.tolist()) for pixel in corner] == [BEYOND_MASK, (255, 255, 255)]
    report = result.reports[0].shown
    assert report is not None
    middle = np.array(np.nonzero(report.masks[0] == 255)).mean(axis=1)
    y, x = (middle / 48 * CELL).astype(int)
    np.testing.assert_allclose(sheet[CAPTION_HEIGHT + y, x], report.images[0][tuple(middle.astype(int))], atol=255)
