"""Categories and licences travel with the scenes of a bank; banks from before they had any go on."""

import shutil

import pytest
import torch

from data_modules.layout import LONGEST_LICENCE, PackIndex
from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.choice import SceneChoice
from scaled_ig.bank.index import Index
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import Origin
from scaled_ig.errors import UsageError
from tests.banks import change_last_scene
from tests.conftest import BallScenes
from tests.scaled_ig.bank.test_kept_banks import KEPT

IDS = ["a", "b", "c", "d"]
ORIGINS = [Origin("car", "CC0-1.0"), Origin("car", ""), Origin("face", "its model's — ask"), Origin()]


@pytest.fixture
def bank(tiny_scene, tmp_path) -> SceneBank:
    return SceneBank.write(tmp_path / "bank", tiny_scene(), IDS, "stage1", IDS, origins=ORIGINS)


def origins(bank: SceneBank) -> dict[str, Origin]:
    return {record.id: record.origin for record in bank.scenes()}


def test_they_are_kept_with_every_change(bank, tiny_scene, tmp_path):
    assert origins(bank) == dict(zip(IDS, ORIGINS, strict=True))
    assert bank.origins() == dict.fromkeys(ORIGINS, 1)
    other = SceneBank.write(tmp_path / "other", tiny_scene(1), ["x"], "stage2", ["x"], origins=[Origin("dog", "MIT")])
    merged = SceneBank.merge(bank.path, [other.path], "int8")
    assert origins(merged) == dict(zip([*IDS, "x"], [*ORIGINS, Origin("dog", "MIT")], strict=True))
    merged.remove(["b"])
    assert origins(merged) == {"a": ORIGINS[0], "c": ORIGINS[2], "d": ORIGINS[3], "x": Origin("dog", "MIT")}
    scene = merged.load_version("stage1", ["a", "c"])
    replaced = SceneBank.replace(bank.path, scene, ["a", "c"], ["", ""])
    assert origins(replaced) == origins(merged)
    replaced = SceneBank.replace(bank.path, scene, ["a", "c"], ["", ""], [Origin("bus", "MIT"), Origin()])
    assert origins(replaced) == origins(merged) | {"a": Origin("bus", "MIT"), "c": Origin()}
    assert not replaced.verify()


def test_a_version_written_again_has_the_new_ones(bank, tiny_scene):
    again = SceneBank.write(bank.path, tiny_scene(), IDS, "stage1", IDS)
    assert set(origins(again).values()) == {Origin()}
    with pytest.raises(ValueError, match="4 ids, 4 digests and 1 origins"):
        SceneBank.write(bank.path, tiny_scene(), IDS, "stage1", IDS, origins=[Origin()])


def test_another_licence_is_noticed(bank):
    """The record's digest does not cover it, that of the scene table does."""
    change_last_scene(bank.path, "licence", "MIT")
    assert [finding.rpartition(": ")[2] for finding in bank.verify()] == ["its digest differs"]
    with pytest.raises(UsageError, match="is damaged"):
        bank.remove(["a"])
    change_last_scene(bank.path, "licence", b"bytes")
    with pytest.raises(UsageError, match="is damaged"):
        SceneBank.open(bank.path).record("d")


@pytest.mark.parametrize("kept", ["without_hulls", "with_hulls"])
def test_a_bank_from_before_is_read_and_changed(tmp_path, tiny_scene, kept):
    path = tmp_path / "bank"
    shutil.copytree(KEPT / kept, path)
    old = SceneBank.open(path)
    assert set(origins(old).values()) == {Origin()}
    assert old.origins() == {Origin(): 8}
    first, *others = old.ids
    rows = {name: old[name].rows for name in others}
    old.remove([first])
    assert old.ids == others
    new = SceneBank.write(path, tiny_scene(1), ["x"], "added-1", ["x"], origins=[Origin("car", "CC0-1.0")])
    assert origins(new) == {name: Origin() for name in others} | {"x": Origin("car", "CC0-1.0")}
    assert all(torch.equal(row, new[name].rows[key]) for name in others for key, row in rows[name].items())
    assert not new.verify()
    merged = SceneBank.merge(tmp_path / "merged", [KEPT / kept, path])
    assert len(merged) == 9
    assert not merged.verify()
    assert Index.read(path).to_bytes() == (path / "index.json").read_bytes()


def test_a_pack_says_them(tmp_path, monkeypatch):
    monkeypatch.setattr("data_modules.layout.SCENES_PER_SHARD", 2)
    licences = {"ball-0": "CC0-1.0", "ball-1": None, "ball-2": "two\nlines", "ball-3": {"name": "x" * 1000}}

    class Licensed(BallScenes):
        def load(self, scene_id):
            views, record = super().load(scene_id)
            return views, record | {"license": licences[scene_id]}

    write_pack(Licensed(4, views=3, resolution=8), tmp_path, render=None)
    stage2 = SceneChoice(ids=["ball-3", "ball-0", "ball-1"])
    data = ShapeNetCars(str(tmp_path), SceneChoice(ids=["ball-2"]), stage2)
    assert PackIndex.open(tmp_path).licences([0, 1, 2]) == ["CC0-1.0", "", "two lines"]
    assert data.scene_categories(2) == ["ball"] * 3
    by_id = dict(zip(data.scene_ids(2), data.scene_licences(2), strict=True))
    assert (by_id["ball-0"], by_id["ball-1"]) == ("CC0-1.0", "")
    assert by_id["ball-3"] == str(licences["ball-3"])[:LONGEST_LICENCE]
