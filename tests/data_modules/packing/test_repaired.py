"""Files that were repaired: what a repeated call notices of them, and how they come into a pack."""

import os
import time
from pathlib import Path

import pytest

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.packing.pack import write_pack
from data_modules.sources.base import SceneEntry, SceneSource
from scaled_ig.commands.check import check
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256
from tests.data_modules.checking.packs import noisy_views


class Files(SceneSource):
    """Noise of the seed that a file holds; ``white`` is packed but not sound, ``torn`` cannot be packed."""

    viewpoints = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def scenes(self):
        return [SceneEntry(file.stem, "thing") for file in sorted(self.path.iterdir())]

    def load(self, scene_id):
        file = self.path / f"{scene_id}.txt"
        text = file.read_text()
        if text == "torn":
            raise UsageError(f"{file} is torn")
        views = noisy_views(99 if text == "white" else int(text))
        if text == "white":
            views.images[:] = 255
        return views, {"file": file.name, "sha256": file_sha256(file), "license": None, "shape": scene_id}


@pytest.fixture(autouse=True)
def _fixed_date_and_small_shards(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(layout, "SCENES_PER_SHARD", 2)


def write_files(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def interrupt(monkeypatch, source: Files, out: Path, at: str) -> None:
    load = Files.load

    def interrupted(self, scene_id):
        if scene_id == at:
            raise KeyboardInterrupt
        return load(self, scene_id)

    with monkeypatch.context() as patch:
        patch.setattr(Files, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_pack(source, out, None)
    time.sleep(0.05)  # more than a tick of the clock of files


def test_what_was_dropped_is_added_when_it_is_repaired(tmp_path, capsys):
    first, more = write_files(tmp_path / "first", a="1"), write_files(tmp_path / "more", b="2", c="white", d="torn")
    write_pack(Files(first), tmp_path / "pack", None)
    write_pack(Files(more), tmp_path / "pack", None, append=True)
    assert check(str(tmp_path / "pack"), fix_drop=True, out=str(tmp_path / "fixed")) == 1
    write_files(more, c="3")
    capsys.readouterr()
    index = write_pack(Files(more), tmp_path / "fixed", None, append=True)
    assert "1 of 3 scenes are there already and passed over" in capsys.readouterr().out
    assert index.scene_ids == ("a", "b", "c")
    assert [record["id"] for record in index.left_out] == ["d"]
    assert check(str(tmp_path / "fixed")) == 0


def test_scenes_of_one_id_and_other_files_are_refused(tmp_path):
    files = write_files(tmp_path / "files", a="1", b="2")
    write_pack(Files(files), tmp_path / "out", None)
    write_files(files, b="3", c="4")
    with pytest.raises(UsageError, match=r"made of other files, e\.g\. b \(1 in all\): list only those that are miss"):
        write_pack(Files(files), tmp_path / "out", None, append=True)


@pytest.mark.parametrize("is_old", [False, True])
def test_an_interrupted_call_makes_changed_scenes_anew(tmp_path, monkeypatch, capsys, is_old):
    files = write_files(tmp_path / "files", a="1", b="2", c="3", d="4")
    interrupt(monkeypatch, Files(files), tmp_path / "out", at="d")
    assert (tmp_path / "out" / layout.shard_name(0)).exists()
    write_files(files, b="5", c="6")
    if is_old:
        os.utime(files / "b.txt", (1e9, 1e9))
    write_pack(Files(files), tmp_path / "out", None)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"made anew, since its file was changed: {name}" for name in "bc"]
    write_pack(Files(files), tmp_path / "whole", None)
    assert PackIndex.open(tmp_path / "out").document == PackIndex.open(tmp_path / "whole").document


def test_a_finished_call_says_that_it_does_nothing(tmp_path, capsys):
    files = write_files(tmp_path / "files", a="1", b="2")
    first = write_pack(Files(files), tmp_path / "out", None)
    assert "nothing was done" not in capsys.readouterr().out
    write_files(files, b="3")
    assert write_pack(Files(files), tmp_path / "out", None).document == first.document
    assert "already packed, nothing was done: to pack files anew remove it" in capsys.readouterr().out


def test_nothing_is_added_where_all_is_there(tmp_path, capsys):
    files = write_files(tmp_path / "files", a="1", b="2")
    first = write_pack(Files(files), tmp_path / "out", None)
    (files / "b.txt").unlink()
    assert write_pack(Files(files), tmp_path / "out", None, append=True).document == first.document
    assert "nothing was done" in capsys.readouterr().out
