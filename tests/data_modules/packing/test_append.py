"""Scenes added to a finished pack: further shards, and an index that is the old one or the new one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.packing.pack import JOB_FILE, write_pack
from data_modules.packing.scene_writer import RenderSettings
from scaled_ig.errors import UsageError
from tests.data_modules.packing.test_workers import Troubled

RENDER = RenderSettings(views=1, azimuth=(0, 0), elevation=(0, 0), resolution=16)


class More(Troubled):
    """Scenes ``s10``, ``s11``, ..."""

    def scenes(self):
        return [replace(scene, id=f"s1{scene.id[1:]}") for scene in super().scenes()]


@pytest.fixture(autouse=True)
def _fixed_date_and_small_shards(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(layout, "SCENES_PER_SHARD", 2)


@pytest.fixture
def pack(tmp_path) -> Path:
    """Three scenes in two shards; one more is left out."""
    write_pack(Troubled(4, {"s1": "usage"}), tmp_path / "pack", None)
    return tmp_path / "pack"


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_appended_scenes_are_further_shards(pack):
    before = contents(pack)
    index = write_pack(More(3, {"s11": "value"}), pack, None, append=True)
    assert index.scene_ids == ("s0", "s2", "s3", "s10", "s12")
    assert [shard.path.name for shard in index.shards] == [layout.shard_name(shard) for shard in range(4)]
    assert [record["id"] for record in index.left_out] == ["s1", "s11"]
    assert len(index.document["jobs"]) == 2
    after = contents(pack)
    assert {name: after[name] for name in before if name != "pack.json"} == {
        name: digest for name, digest in before.items() if name != "pack.json"
    }
    for shard in index.shards:
        shard.verify()
    with index.shards[3].open() as file:
        given = More(3, {}).load("s12")[0]
        assert (layout.read_scene(file, index, 4).images == given.images).all()


def test_finished_calls_change_nothing(pack):
    write_pack(More(3, {}), pack, None, append=True)
    before = contents(pack)
    for append in (True, False):
        write_pack(More(3, {}), pack, None, append=append)
        write_pack(Troubled(4, {"s1": "usage"}), pack, None, append=append)
    assert contents(pack) == before


def test_an_interrupted_append_leaves_the_old_pack_and_goes_on(pack, tmp_path, monkeypatch):
    write_pack(Troubled(4, {"s1": "usage"}), tmp_path / "whole", None)
    write_pack(More(5, {"s11": "value"}), tmp_path / "whole", None, append=True)
    old = PackIndex.open(pack)
    load = Troubled.load

    def interrupted(self, scene_id):
        if scene_id == "s13":
            raise KeyboardInterrupt
        return load(self, scene_id)

    with monkeypatch.context() as patch:
        patch.setattr(Troubled, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_pack(More(5, {"s11": "value"}), pack, None, append=True)
    assert (pack / layout.shard_name(2)).exists()
    assert PackIndex.open(pack).document == old.document
    with pytest.raises(UsageError, match=r"unfinished pack of other settings.*job\.part\.json to give it up"):
        write_pack(More(4, {}), pack, None, append=True)
    write_pack(More(5, {"s11": "value"}), pack, None, append=True)
    assert contents(pack) == contents(tmp_path / "whole")


def test_an_append_that_was_given_up_leaves_files_that_nobody_takes_for_the_next(pack, monkeypatch):
    load = Troubled.load

    def interrupted(self, scene_id):
        if scene_id == "s12":
            raise KeyboardInterrupt
        return load(self, scene_id)

    with monkeypatch.context() as patch:
        patch.setattr(Troubled, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_pack(More(3, {}), pack, None, append=True)
    (pack / JOB_FILE).unlink()
    index = write_pack(More(2, {"s10": "value"}), pack, None, append=True)
    assert [shard.path.name for shard in index.shards] == [layout.shard_name(shard) for shard in (0, 1, 3)]
    assert index.scene_ids == ("s0", "s2", "s3", "s11")


def test_a_call_killed_after_its_last_deed_is_finished(pack):
    job = PackIndex.open(pack).document["jobs"][0]
    (pack / JOB_FILE).write_text(json.dumps({"job": job, "created_utc": "", "first_shard": 0}))
    (pack / "scenes.part").mkdir()
    write_pack(More(2, {}), pack, None, append=True)
    assert sorted(contents(pack)) == [*(layout.shard_name(shard) for shard in range(3)), "pack.json"]


def test_a_mended_scene_is_no_longer_left_out(pack):
    class Mended(Troubled):
        def scenes(self):
            return [scene for scene in super().scenes() if scene.id == "s1"]

    index = write_pack(Mended(4, {}), pack, None, append=True)
    assert index.scene_ids == ("s0", "s2", "s3", "s1")
    assert index.left_out == ()


def test_what_does_not_fit_is_refused(pack, tmp_path):
    before = contents(pack)
    refusals = (
        (Troubled(5, {}), {"append": True}, r"of the same ids, made of other files, e\.g\. s0 \(3 in all\)"),
        (More(2, {}), {}, "already holds a pack of other settings: add to it with --append"),
        (More(2, {}), {"append": True, "split_rule": "every_tenth"}, "--split first"),
        (More(2, {}), {"append": True, "render": RENDER}, "views of 4x6 pixels"),
        (
            More(2, {"s10": "size", "s11": "size"}),
            {"append": True},
            "no scene can be packed: mend what the lines above say",
        ),
    )
    for source, options, message in refusals:
        with pytest.raises(UsageError, match=message):
            write_pack(source, pack, **{"render": None, **options})
    with pytest.raises(UsageError, match="holds no finished pack to add to"):
        write_pack(More(2, {}), tmp_path / "none", None, append=True)
    assert contents(pack) == before
    assert not (tmp_path / "none").exists()
