"""Scenes with findings are left out of a new pack, which is sound."""

from dataclasses import fields

import h5py
import numpy as np
import pytest

from data_modules import layout
from data_modules.layout import PackIndex
from scaled_ig.commands.check import check
from scaled_ig.errors import UsageError
from tests.data_modules.checking.packs import make_pack, noisy_views, sound_scenes


def test_sound_scenes_are_kept(tmp_path, capsys):
    scenes = sound_scenes() | {"d": noisy_views(1), "e": noisy_views(5)}
    scenes["a"].images[1] = 255
    scenes["e"].camera_to_world[1, :3, 0] *= -1
    records = {"b": {"warnings": ["it shines"]}}
    pack = make_pack(tmp_path / "old", scenes, records, per_shard=2, left_out=({"id": "z", "reason": "no triangle"},))
    new = tmp_path / "new"
    assert check(str(pack), fix_drop=True, out=str(new)) == 1
    assert f"{new}: 2 of 5 scenes, 20 views" in capsys.readouterr().out
    index = PackIndex.open(new)
    assert index.scene_ids == ("b", "c")
    assert index.warnings == (("it shines",), ())
    assert index.document["jobs"] == [], "the call of a scene that was dropped can be repeated"
    reasons = {scene["id"]: scene["reason"] for scene in index.left_out}
    assert list(reasons) == ["z", "a", "d", "e"]
    assert "all is white" in reasons["a"]
    assert "scene b" in reasons["d"]
    for number, name in enumerate(index.scene_ids):
        with index.shards[index.shard_of(number)].open() as file:
            views = layout.read_scene(file, index, number)
        assert all(np.array_equal(getattr(views, f.name), getattr(scenes[name], f.name)) for f in fields(views))
    assert check(str(new)) == 0
    assert sorted(path.name for path in new.iterdir()) == [
        "contact_sheet.png", layout.shard_name(0), layout.shard_name(1), layout.INDEX_FILE
    ]  # fmt: skip


def test_scenes_of_a_damaged_file_are_saved(copy, tmp_path):
    path = copy / layout.shard_name(0)
    with h5py.File(path) as file:
        place = file[layout.VIEWS].id.get_chunk_info(3).byte_offset
        license_of_b = file[layout.SOURCE][1]
    content = bytearray(path.read_bytes())
    content[place + 9] ^= 1
    path.write_bytes(content)
    new = tmp_path / "new"
    assert check(str(copy), fix_drop=True, out=str(new)) == 1
    index = PackIndex.open(new)
    assert index.scene_ids == ("b", "c")
    with index.shards[0].open() as file:
        assert file[layout.SOURCE][0] == license_of_b
        assert file.attrs["created_utc"] == b"2026-01-01T00:00:00Z"
    assert check(str(new)) == 0


def test_options_that_belong_together(copy, tmp_path):
    with pytest.raises(UsageError, match="go together"):
        check(str(copy), fix_drop=True)
    with pytest.raises(UsageError, match="go together"):
        check(str(copy), out=str(tmp_path / "new"))
    with pytest.raises(UsageError, match="is not empty"):
        check(str(copy), fix_drop=True, out=str(copy))
    for number in (0, 1):
        (copy / layout.shard_name(number)).write_bytes(b"")
    with pytest.raises(UsageError, match="no sound scene to keep"):
        check(str(copy), fix_drop=True, out=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
