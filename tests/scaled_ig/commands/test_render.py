"""``scaled-ig render``: films and grids of a bank's scenes."""

import math

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from scaled_ig.bank.scene_bank import SceneBank, spread
from scaled_ig.cameras import look_at_origin
from scaled_ig.cli import main
from scaled_ig.commands.render import render
from scaled_ig.errors import UsageError
from scaled_ig.report.orbits import orbit_cameras, orbit_like
from scaled_ig.report.pictures import columns_of, mosaic, to_pictures


@pytest.fixture
def bank(tmp_path, tiny_scene):
    """A bank with two versions: scenes a and b of the first, c to f of the second."""
    for version, ids in (("stage1", "ab"), ("stage2", "cdef")):
        SceneBank.write(tmp_path / "bank", tiny_scene(len(ids)), list(ids), version, ["0"] * len(ids))
    return tmp_path / "bank"


def azimuths(cameras):
    x, y = cameras.camera_to_world[:, :2, 3].unbind(1)
    return torch.rad2deg(torch.atan2(y, x))


def test_film_has_every_view_of_the_newest_scenes_side_by_side(bank, tmp_path, capsys):
    out = tmp_path / "films" / "orbit.mp4"
    assert render(str(bank), out=str(out), views=5) == 0
    frames = imageio.mimread(out, memtest=False)
    assert len(frames) == 5
    assert frames[0].shape == (256, 4 * 256, 3)  # tiles of 32 pixels, enlarged to 256
    assert capsys.readouterr().out == f"{out}: 4 scenes, 5 views\n"
    assert [file.name for file in out.parent.iterdir()] == ["orbit.mp4"]


def test_grid_shows_what_the_scene_renders(bank, tmp_path):
    out = tmp_path / "grid.png"
    render(str(bank), scene="a", out=str(out), views=6, elevation_degrees=10, azimuth_degrees=(20, 50), distance=1.5)
    grid = np.asarray(Image.open(out))
    expected = to_pictures(SceneBank.open(bank)["a"].render(orbit_cameras(6, 10, (20, 50), 1.5)))
    columns = columns_of(6)
    for view in range(6):
        row, column = divmod(view, columns)
        tile = grid[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32].astype(int)
        assert np.abs(tile - expected[view]).max() <= 1
    assert expected.std() > 1  # a blank tile would fit anything blank


def test_grid_of_many_scenes_has_one_row_a_scene(bank, tmp_path):
    render(str(bank), out=str(tmp_path / "grid.png"), views=3)
    assert Image.open(tmp_path / "grid.png").size == (3 * 32, 4 * 32)


def test_gif_loops(bank, tmp_path):
    render(str(bank), scene="c", out=str(tmp_path / "orbit.gif"), views=4)
    with Image.open(tmp_path / "orbit.gif") as film:
        assert (film.n_frames, film.info["loop"]) == (4, 0)


def test_a_run_folder_will_do(bank, tmp_path):
    render(str(tmp_path), scene="b", out=str(tmp_path / "b.png"), views=1)
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"out": "orbit.avi"}, "orbit.avi"),
        ({"views": 0}, "--views 0"),
        ({"elevation_degrees": 90}, "--elevation_degrees 90"),
        ({"distance": 0.3}, "--distance 0.3"),
    ],
)
def test_impossible_options_are_named(bank, options, word):
    with pytest.raises(UsageError, match=word):
        render(str(bank), **options)


def test_unknown_scene_is_one_sentence_and_status_2(bank, tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["render", str(bank), "--scene", "nobody", "--out", str(tmp_path / "x.mp4")])
    assert ending.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "holds no scene 'nobody'" in last
    assert not (tmp_path / "x.mp4").exists()


def test_swing_goes_there_and_back():
    angles = azimuths(orbit_cameras(8, 0.0, (-30, 30)))
    assert angles[[0, 4]].tolist() == pytest.approx([-30, 30], abs=1e-3)
    assert angles[1:4].tolist() == pytest.approx(angles[[7, 6, 5]].tolist(), abs=1e-3)


def test_full_turn_does_not_show_a_view_twice():
    angles = azimuths(orbit_cameras(4, 0.0, (0, 360)))
    assert (angles % 360).tolist() == pytest.approx([0, 90, 180, 270], abs=1e-3)


def test_orbit_follows_frontal_cameras():
    angles = torch.deg2rad(torch.linspace(-130, -50, 41))  # before the front, which looks to -Y
    centres = 1.4 * torch.stack([angles.cos(), angles.sin(), torch.zeros(41)], 1)
    film = orbit_like(look_at_origin(centres, focal=1.2), 16)
    found = azimuths(film)
    assert found.min() > -131
    assert found.max() < -49
    assert film.camera_to_world[:, :3, 3].norm(dim=1).tolist() == pytest.approx([1.4] * 16, abs=1e-4)
    assert film.intrinsics[:, 0].tolist() == pytest.approx([1.2] * 16)


def test_orbit_goes_round_for_views_from_all_sides():
    angles = torch.arange(0, 360, 5) * math.pi / 180
    centres = torch.stack([angles.cos(), angles.sin(), torch.full_like(angles, 0.5)], 1)
    found = azimuths(orbit_like(look_at_origin(centres), 8)) % 360
    assert found.sort().values.diff().tolist() == pytest.approx([45] * 7, abs=1e-2)


def test_mosaic_keeps_the_order_and_fills_with_white():
    tiles = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    whole = mosaic(tiles, columns=3)
    assert whole[::2, ::3, 0].tolist() == [[1, 2, 3], [4, 5, 255]]
    assert whole.shape == (4, 9, 3)


def test_spread_keeps_first_and_last():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread("abc", 9) == ["a", "b", "c"]
