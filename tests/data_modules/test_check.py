"""The check finds what is wrong with a pack, and its sheet shows the axes where the cameras see them."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from data_modules import layout
from data_modules.check import CAPTION_HEIGHT, CELL, camera_faults
from data_modules.layout import PackIndex
from data_modules.pack import write_pack
from data_modules.raycast import draw_cameras
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from scaled_ig.commands.check import check
from scaled_ig.errors import UsageError


class GreyViews(SceneSource):
    """Two scenes of ten noisy grey views of 32 x 32 pixels, with cameras on the upper hemisphere."""

    viewpoints = None

    def scenes(self):
        return [SceneEntry("a", "thing"), SceneEntry("b", "thing")]

    def load(self, scene_id):
        generator = np.random.default_rng(ord(scene_id))
        poses, intrinsics = draw_cameras(10, 1.3, (-180, 180), (0, 85), generator)
        return PosedViews(generator.integers(180, 220, (10, 32, 32, 3), dtype=np.uint8), poses, intrinsics), {}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    write_pack(GreyViews(), folder, render=None)
    return folder


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def shard(folder: Path) -> Path:
    return folder / layout.shard_name(0, 1)


def test_a_sound_pack(written, tmp_path, capsys):
    assert check(str(written), str(tmp_path / "sheet.png")) == 0
    output = capsys.readouterr().out
    assert "2 scenes, 20 views of 32x32 pixels, sound" in output
    assert "sheet.png" in output


def test_the_sheet_lies_in_the_pack(copy):
    check(str(copy))
    assert Image.open(copy / "contact_sheet.png").size == (6 * CELL, 2 * (CELL + CAPTION_HEIGHT))


def test_axes_are_drawn_where_the_camera_sees_them(written, tmp_path):
    check(str(written), str(tmp_path / "sheet.png"))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    poses, intrinsics = layout.read_cameras(PackIndex.open(written))
    halfway = 0.25 * np.eye(3)
    for axis, (red, green, blue) in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1))):
        camera = poses[0, :3, :3].T @ (halfway[axis] - poses[0, :3, 3])
        column, row = (camera[:2] / camera[2] * intrinsics[0, :2] + intrinsics[0, 2:]) * CELL
        patch = sheet[CAPTION_HEIGHT + int(row) - 1 : CAPTION_HEIGHT + int(row) + 2, int(column) - 1 : int(column) + 2]
        signal = patch @ (2 * np.array([red, green, blue]) - 1)
        assert signal.max() > -60, "a pixel of the axis' colour stands out of the grey"


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_byte_is_found(copy, place, capsys):
    content = bytearray(shard(copy).read_bytes())
    content[int(place * len(content))] ^= 1
    shard(copy).write_bytes(content)
    try:
        code = check(str(copy))
    except UsageError:
        return  # the byte was of the tables, which are read on opening
    assert code == 1
    assert "sha256" in capsys.readouterr().out


def test_a_flipped_pixel_names_the_scene(copy, capsys):
    row = int(PackIndex.open(copy).offsets[1])
    with h5py.File(shard(copy), "a") as file:
        view = file[layout.VIEWS][row]
        view[0, 0, 0] ^= 1
        file[layout.VIEWS][row] = view
    assert check(str(copy)) == 1
    assert "scene b: its views or cameras are not those that were packed" in capsys.readouterr().out


def test_white_views_are_listed(copy, capsys):
    with h5py.File(shard(copy), "a") as file:
        file[layout.VIEWS][3:10] = 255
    assert check(str(copy)) == 1
    assert "scene a: views 3, 4, 5, 6, 7 and 2 more are all white" in capsys.readouterr().out


def test_not_a_pack(tmp_path):
    with pytest.raises(UsageError, match="no finished pack"):
        check(str(tmp_path))


def mirrored(poses):
    poses[1, :3, 0] *= -1


def sheared(poses):
    poses[1, 0, 1] += 0.1


def inside(poses):
    poses[1, :3, 3] *= 0.3


def turned_away(poses):
    poses[1, :3, 1:3] *= -1


def infinite(poses):
    poses[1, 0, 3] = np.nan


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (mirrored, "left-handed"),
        (sheared, "no rigid motions"),
        (inside, "inside the ball"),
        (turned_away, "--camera_convention"),
        (infinite, "not finite"),
    ],
)
def test_camera_faults(spoil, fault):
    poses, intrinsics = draw_cameras(4, 1.3, (-180, 180), (0, 85), np.random.default_rng(0))
    assert not list(camera_faults(poses, intrinsics, 0.5))
    spoil(poses)
    found = list(camera_faults(poses, intrinsics, 0.5))
    assert len(found) == 1
    assert found[0].startswith("cameras 1 ")
    assert fault in found[0]
