"""The check of whole packs: sound ones, its sheet, the index, and files over which a library crashes."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data_modules import layout
from data_modules.checking.check import check_pack
from data_modules.checking.contact_sheet import CAPTION_HEIGHT, CELL
from data_modules.layout import PackIndex
from scaled_ig.commands.check import check
from scaled_ig.errors import UsageError
from tests.data_modules.checking.packs import (
    NAMES,
    changed,
    lines_of,
    make_pack,
    noisy_views,
    sound_scenes,
)

# -- sound packs ------------------------------------------------------------------------------------------------------


def test_a_sound_pack(written, tmp_path, capsys):
    assert check(str(written), sheet=str(tmp_path / "sheet.png")) == 0
    said = capsys.readouterr()
    assert "--data.stage1_scenes 1 --data.stage2_scenes 2 --scene.resolution 16 " in said.err  # recipes ask for more
    last = said.out.strip().splitlines()
    assert len(last) == 1
    assert last[0].endswith(f"3 scenes, 30 views of 16x16 pixels, sound; {tmp_path / 'sheet.png'}")


def test_few_views_symmetric_objects_and_left_out_scenes_are_no_findings(tmp_path, capsys):
    few = {name: noisy_views(seed, 4) for seed, name in enumerate(NAMES)}
    alike = noisy_views(7, 4)
    few["vase"] = changed(alike, images=np.repeat(alike.images[:1], 4, axis=0))
    warned, left_out = {"vase": {"warnings": ["it shines"]}}, ({"id": "z", "reason": "no triangle"},)
    pack = make_pack(tmp_path / "few", few, warned, split="every_tenth", left_out=left_out)
    assert check(str(pack)) == 0
    assert "sound, 1 left out when packed, 1 scene with warnings when packed" in capsys.readouterr().out


def test_the_sheet_lies_in_the_pack_and_says_how_cameras_were_read(tmp_path):
    records = {"a": {"camera_convention": "opengl", "license": "MIT"}}
    with_words = make_pack(tmp_path / "posed", {"a": noisy_views(0)}, records)
    without = make_pack(tmp_path / "rendered", {"a": noisy_views(0)})
    sheets = []
    for pack in (with_words, without):
        check(str(pack))
        sheets.append(np.asarray(Image.open(pack / "contact_sheet.png")))
    assert sheets[0].shape[:2] == (CELL + CAPTION_HEIGHT, 6 * CELL)
    assert (sheets[0][:CAPTION_HEIGHT] != sheets[1][:CAPTION_HEIGHT]).any()
    assert (sheets[0][CAPTION_HEIGHT:] == sheets[1][CAPTION_HEIGHT:]).all()


def test_axes_are_drawn_where_the_camera_sees_them(written, tmp_path):
    check(str(written), sheet=str(tmp_path / "sheet.png"))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    views = noisy_views(0)
    pose, pinhole = views.camera_to_world[0], views.intrinsics[0]
    halfway = 0.25 * np.eye(3)
    for axis, (red, green, blue) in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1))):
        camera = pose[:3, :3].T @ (halfway[axis] - pose[:3, 3])
        column, row = (camera[:2] / camera[2] * pinhole[:2] + pinhole[2:]) * CELL
        patch = sheet[CAPTION_HEIGHT + int(row) - 1 : CAPTION_HEIGHT + int(row) + 2, int(column) - 1 : int(column) + 2]
        signal_of_colour = patch @ (2 * np.array([red, green, blue]) - 1)
        assert signal_of_colour.max() > -60, "a pixel of the axis' colour stands out of the grey"


def test_cameras_without_numbers_have_no_axes_on_the_sheet(tmp_path):
    broken = noisy_views(3)
    broken.camera_to_world[:] = np.nan
    pack = make_pack(tmp_path / "pack", {"a": noisy_views(0), "b": broken})
    assert check(str(pack)) == 1
    sheet = np.asarray(Image.open(pack / "contact_sheet.png")).astype(int)
    colours = [np.ptp(sheet[end - CELL : end], axis=-1).max() for end in (CELL + CAPTION_HEIGHT, len(sheet))]
    assert colours[0] > 150 > 100 > colours[1], "views are nearly grey, axes are not"


# -- findings ---------------------------------------------------------------------------------------------------------


def test_findings_that_the_screen_does_not_show_are_in_a_file(tmp_path, capsys, monkeypatch):
    scenes = sound_scenes()
    scenes["b"].images[2] = 255
    pack = make_pack(tmp_path / "pack", scenes)
    assert check(str(pack)) == 1
    assert not (pack / "findings.txt").exists()
    capsys.readouterr()

    def many(*given):
        result = check_pack(*given, quiet=True)
        return replace(result, findings=result.findings * 1434)

    monkeypatch.setattr("data_modules.checking.check.check_pack", many)
    assert check(str(pack), sheet=str(tmp_path / "elsewhere" / "sheet.png")) == 1
    *shown, more, _ = capsys.readouterr().out.strip().splitlines()
    path = tmp_path / "elsewhere" / "findings.txt"
    assert more == f"and 1,234 more findings, all of them in {path}"
    assert (len(shown), path.read_text().splitlines()) == (200, 1434 * shown[:1])


# -- the index --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", "3", '{"name": "npm"}', '{"schema_version": 1}', '{"schema_version": 2}', "[" * 9999]
)
def test_an_index_that_is_none(copy, content):
    (copy / layout.INDEX_FILE).write_text(content)
    with pytest.raises(UsageError, match=r"pack\.json"):
        check(str(copy))


def test_an_unfinished_pack(tmp_path):
    (tmp_path / "scenes.part").mkdir()
    with pytest.raises(UsageError, match="no finished pack"):
        check(str(tmp_path))


# -- containment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [0, 1, 2])
def test_a_crash_costs_one_scene(written, monkeypatch, scene):
    """The real check, with a library that crashes over one scene."""
    monkeypatch.setattr("data_modules.checking.check.check_shard", crash_at[scene])
    result = check_pack(PackIndex.open(written), processes=1, quiet=True)
    (finding,) = result.findings
    assert finding.scene == NAMES[scene]
    assert finding.what == "the HDF5 library crashed (SIGSEGV) while it was read"
    assert list(result.reasons) == [scene]


def crash_at_0(task):
    yield from crash_over(task, 0)


def crash_at_1(task):
    yield from crash_over(task, 1)


def crash_at_2(task):
    yield from crash_over(task, 2)


crash_at = (crash_at_0, crash_at_1, crash_at_2)


def crash_over(task, scene):
    from data_modules.checking.findings import SceneReport
    from data_modules.checking.shard import check_shard

    for message in check_shard(task):
        if isinstance(message, SceneReport) and message.scene == scene:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield message


def crash_at_the_head(task):
    if task.shard.first_scene == 0:
        os.kill(os.getpid(), signal.SIGABRT)
    from data_modules.checking.shard import check_shard

    yield from check_shard(task)


def test_a_crash_at_the_head_costs_the_file(written, monkeypatch):
    monkeypatch.setattr("data_modules.checking.check.check_shard", crash_at_the_head)
    result = check_pack(PackIndex.open(written), processes=2, quiet=True)
    (finding,) = result.findings
    assert (finding.file, finding.scene) == (layout.shard_name(0), None)
    assert finding.what == "the HDF5 library crashed (SIGABRT) while it was read"
    assert sorted(result.reasons) == [0, 1]


def test_a_name_cannot_write_to_the_terminal(tmp_path):
    scenes = {"a": noisy_views(0), "b\u202ec": noisy_views(1)}
    scenes["b\u202ec"].images[[1, 4]] = 255
    (line,) = lines_of(make_pack(tmp_path / "pack", scenes))
    assert "scene b?c: views 1, 4: nothing is shown" in line


# -- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["contact_sheet.png", "findings.txt"])
def test_a_file_that_cannot_be_written_costs_neither_the_verdict_nor_the_new_pack(tmp_path, capsys, monkeypatch, file):
    monkeypatch.setattr("scaled_ig.commands.check.SHOWN_LINES", 1)
    scenes = sound_scenes()
    scenes["b"].images[2], scenes["b"].images[3] = 255, 200
    pack = make_pack(tmp_path / "pack", scenes)
    (pack / file).mkdir()
    with pytest.raises(UsageError, match=rf"{file} cannot be written .*--sheet"):
        check(str(pack), fix_drop=True, out=str(tmp_path / "new"))
    assert layout.PackIndex.open(tmp_path / "new").scene_ids == ("a", "c")
    finding, *_, kept, last = capsys.readouterr().out.strip().splitlines()
    assert "scene b: view 2: nothing is shown" in finding
    assert kept.startswith(str(tmp_path / "new"))
    assert "2 findings, 1 scene not sound" in last
    assert check(str(pack), sheet=str(tmp_path / "sheets" / "sheet.png")) == 1
    assert len((tmp_path / "sheets" / "findings.txt").read_text().splitlines()) == 2


def test_a_new_pack_that_cannot_be_written_costs_no_verdict(tmp_path, written, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"--out .*cannot be written"):
        check(str(written), sheet=str(tmp_path / "s.png"), fix_drop=True, out=str(tmp_path / "file" / "new"))
    assert capsys.readouterr().out.strip().endswith("3 scenes, 30 views of 16x16 pixels, sound")


def test_a_sheet_of_many_scenes_has_one_view_of_each_from_the_front(tmp_path):
    scenes = {f"scene_{number:02d}": noisy_views(number, 4) for number in range(27)}
    for number, views in enumerate(scenes.values()):
        images = np.full_like(views.images, 255)
        images[number % 4, 4:12, 4:12] = 9 * number
        poses = views.camera_to_world.copy()
        poses[:, :3, 3] = (0.0, 1.3, 0.1)
        poses[number % 4, :3, 3] = (0.0, -1.3, 0.1)
        scenes[f"scene_{number:02d}"] = changed(views, images=images, camera_to_world=poses)
    pack = make_pack(tmp_path / "many", scenes)
    check(str(pack), sheet=str(tmp_path / "sheet.png"), sheet_scenes=100)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[:2] == (5 * (CELL + CAPTION_HEIGHT), 6 * CELL)
    middles = sheet[CAPTION_HEIGHT + CELL // 2 :: CELL + CAPTION_HEIGHT, CELL // 2 :: CELL, 0].reshape(-1)
    assert middles[:27].tolist() == [9 * number for number in range(27)]
    check(str(pack), sheet=str(tmp_path / "fewer.png"), sheet_scenes=24)
    assert Image.open(tmp_path / "fewer.png").size[1] == 12 * (CELL + CAPTION_HEIGHT)
