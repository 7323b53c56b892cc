"""The page that shows a pack: one file without addresses, with all that the check knows."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_modules import layout
from data_modules.checking.check import find_findings
from data_modules.checking.scene import THUMBNAIL
from data_modules.layout import PackIndex
from data_modules.raycast import draw_cameras
from scaled_ig.commands.check import check
from scaled_ig.report import explorer
from scaled_ig.report.explorer_figures import TEST, TRAIN, bars_of, draw_frusta, draw_histogram
from tests.data_modules.checking.packs import make_pack, noisy_views

RECORDS = {
    "red <car>": {"license": "CC-BY-3.0", "camera_convention": "opengl", "camera_convention_from": "key"},
    "blue": {"license": "CC0-1.0"},
    "grey": {"license": "CC0-1.0"},
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    scenes = {"red <car>": noisy_views(0), "blue": noisy_views(1, 20), "grey": noisy_views(2)}
    scenes["grey"].images[2] = 255
    left_out = ({"id": "torn", "reason": "the mesh has no triangle"},)
    return make_pack(tmp_path_factory.mktemp("pack") / "toys", scenes, RECORDS, per_shard=2, left_out=left_out)


@pytest.fixture(scope="module")
def html(pack) -> str:
    assert check(str(pack), html=True) == 1
    return (pack / "explorer.html").read_text()


def test_the_page_lies_beside_the_sheet(pack, tmp_path, capsys):
    check(str(pack), sheet=str(tmp_path / "elsewhere" / "sheet.png"), html=True)
    assert (tmp_path / "elsewhere" / "explorer.html").exists()
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / "elsewhere" / "explorer.html"))


def test_it_has_no_address(html):
    assert not re.search(r"https?://|src=\"(?!data:)|url\((?!data:)|@import|<link|<script", html)


def test_it_says_what_is_in_the_pack(html, pack):
    for words in (
        "3 scenes, 40 views", "16 × 16 pixels", "2 of them sound; category thing; all with masks",
        "10 – 20", "red &lt;car&gt;", "36", "rule first",
        "CC0-1.0", "CC-BY-3.0", "read as opengl, by the file’s key", "made by the renderer", layout.shard_name(1),
        "Left out: 1 scene", "the mesh has no triangle",
    ):  # fmt: skip
        assert words in html, words
    size = sum(path.stat().st_size for path in pack.glob("*.h5"))
    assert f"{size / 3 / 1024:,.0f} KiB a scene" in html


def test_it_has_all_findings_and_marks_their_scenes(html, pack):
    assert "1 finding" in html
    assert "view 2: nothing is shown, all is white" in html
    assert html.count('class="thumb bad"') == 1
    assert re.search(r'class="thumb bad" title="grey"', html)


def test_every_scene_has_its_own_picture(html):
    places = re.findall(r'<i class="s0" style="background-position:-(\d+)px -0px">', html)
    assert [int(place) for place in places] == [0, THUMBNAIL, 2 * THUMBNAIL]


def test_more_scenes_than_the_page_takes_are_spread_evenly(pack, monkeypatch, tmp_path):
    monkeypatch.setattr(explorer, "MOST_THUMBNAILS", 2)
    result = find_findings(PackIndex.open(pack), shown=[0], pictured=[0, 2], processes=1, quiet=True)
    explorer.write_explorer(result, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "2 of 3 scenes, spread evenly" in text
    assert text.count('<div class="thumb') - text.count('<div class="thumbs') == 2


def test_many_small_pictures_stay_small(pack):
    result = find_findings(PackIndex.open(pack), pictured=[0, 1, 2], processes=1, quiet=True)
    many = [result.reports[row % 3] for row in range(501)]
    sheets = list(explorer._sprites(many))
    assert len(sheets) == 2
    assert "1800" not in sheets[1]
    assert len(sheets[0]) < 500 * 10e6 / 2000


def test_a_pack_with_damage_still_has_its_page(pack, tmp_path):
    import shutil

    copy = Path(shutil.copytree(pack, tmp_path / "copy"))
    (copy / layout.shard_name(0)).write_bytes(b"")
    assert check(str(copy), html=True) == 2, "the other file's scene has a white view"
    text = (copy / "explorer.html").read_text()
    assert "0 bytes instead of" in text
    assert text.count('class="thumb bad"') == 3


def test_cameras_without_numbers_are_not_drawn(tmp_path):
    broken = noisy_views(3)
    broken.camera_to_world[:] = np.nan
    pack = make_pack(tmp_path / "pack", {"a": noisy_views(0), "b": broken})
    assert check(str(pack), html=True) == 1
    assert "nan" not in re.sub(r"base64,[^)\"]*", "", (pack / "explorer.html").read_text()).lower()


def test_frusta_stand_where_the_cameras_do():
    poses, intrinsics = draw_cameras(10, 1.3, (-180, 180), (0, 85), np.random.default_rng(0))
    is_test = np.arange(10) < 3
    svg = draw_frusta(poses, intrinsics, is_test, 0.5)
    assert svg.count(f'stroke="{TEST}"') == 3
    assert svg.count(f'stroke="{TRAIN}"') == 7
    assert "front" in svg
    before = draw_frusta(*_one_camera(0.0), np.array([False]), 0.5)
    behind = draw_frusta(*_one_camera(180.0), np.array([False]), 0.5)
    assert before.index("<circle") < before.index(f'stroke="{TRAIN}"'), "before the ball, hence drawn after it"
    assert behind.index("<circle") > behind.index(f'stroke="{TRAIN}"')


def _one_camera(azimuth):
    return draw_cameras(1, 1.3, (azimuth, azimuth), (20, 20), np.random.default_rng(0))


def test_bars_count_training_and_test_views():
    bars = bars_of(np.array([-180.0, -175, 0, 180]), np.array([False, True, False, True]), -180, 180, 90)
    assert [(bar.train, bar.test) for bar in bars] == [(1, 1), (0, 0), (1, 0), (0, 1)]
    svg = draw_histogram(bars, [-180, 0, 180], "Azimuth", "°")
    assert svg.count("<rect") == 4
    assert "−180°" in svg


def test_distances_and_numbers_of_views_are_drawn_where_they_vary(tmp_path):
    same = make_pack(tmp_path / "same", {"a": noisy_views(0), "b": noisy_views(1)})
    check(str(same), html=True)
    far = noisy_views(1, 12)
    poses = far.camera_to_world.copy()
    poses[:6, :3, 3] *= 1.5
    far = replace(far, camera_to_world=poses, near_far=layout.ball_near_far(poses))
    other = make_pack(tmp_path / "other", {"a": noisy_views(0), "b": far})
    assert check(str(other), html=True) == 0
    for title in ('aria-label="Distance"', 'aria-label="Views per scene"'):
        assert title not in (same / "explorer.html").read_text()
        assert title in (other / "explorer.html").read_text()
