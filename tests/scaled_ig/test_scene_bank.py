"""What is kept renders as what was trained."""

import json

import pytest
import torch

from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.metrics import to_unit_range
from scaled_ig.scene_bank import SceneBank

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def scene(tiny_scene):
    made = tiny_scene()
    made.measure_background()
    return made


@pytest.fixture
def bank(scene, tmp_path) -> SceneBank:
    SceneBank.write(tmp_path / "bank", scene, IDS, "stage1", [f"digest-{name}" for name in IDS])
    return SceneBank.open(tmp_path / "bank")


def expected(scene, row: int) -> torch.Tensor:
    cameras = orbit(3)
    return to_unit_range(scene.render_image(cameras, torch.full((3,), row))).detach()


def test_a_scene_renders_bit_by_bit_as_it_was_trained(scene, bank):
    assert bank.ids == IDS
    assert len(bank) == 4
    for row, name in enumerate(IDS):
        assert torch.equal(bank[name].render(orbit(3)), expected(scene, row))
        assert bank[name].record["source_sha256"] == f"digest-{name}"
    latent = bank["c"].render_latent(orbit(3))
    assert torch.equal(latent.pixels, scene.render(orbit(3), torch.full((3,), 2)).pixels.detach())


def test_two_scenes_can_be_held_at_once(scene, bank):
    first, second = bank["a"], bank["b"]
    assert torch.equal(second.render(orbit(3)), expected(scene, 1))
    assert torch.equal(first.render(orbit(3)), expected(scene, 0))


def test_versions_keep_the_shared_parts_that_their_scenes_were_learned_with(scene, bank):
    before = expected(scene, 1)
    with torch.no_grad():
        scene.representation.bases.add_(1)
    scene.representation.new_scenes(2, seed=8)
    SceneBank.write(bank.path, scene, ["x", "y"], "stage2", ["", ""])
    both = SceneBank.open(bank.path)
    assert both.ids == [*IDS, "x", "y"]
    assert torch.equal(both["b"].render(orbit(3)), before)
    assert torch.equal(both["y"].render(orbit(3)), expected(scene, 1))
    assert [both[name].record["version"] for name in ("b", "y")] == ["stage1", "stage2"]


def test_a_version_is_replaced_by_one_of_the_same_name(scene, bank):
    with torch.no_grad():
        scene.representation.micro.weight.mul_(2)
    SceneBank.write(bank.path, scene, IDS, "stage1", [""] * 4)
    again = SceneBank.open(bank.path)
    assert again.ids == IDS
    assert torch.equal(again["d"].render(orbit(3)), expected(scene, 3))


def test_what_is_not_there_is_named(bank, tmp_path):
    with pytest.raises(UsageError, match=r"holds no scene 'z'; it holds 4 scenes: a, b, c, d"):
        bank["z"]
    with pytest.raises(UsageError, match=f"{tmp_path} is no scene bank"):
        SceneBank.open(tmp_path)


def test_another_schema_is_refused(bank):
    index = json.loads((bank.path / "index.json").read_text())
    (bank.path / "index.json").write_text(json.dumps(index | {"schema_version": 99}))
    with pytest.raises(UsageError, match="is not scaled-ig-bank version 1"):
        SceneBank.open(bank.path)


def flip_last_byte(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_record_is_found(bank):
    flip_last_byte(bank.path / "scenes-stage1.safetensors")
    with pytest.raises(UsageError, match="scene 'd' is damaged"):
        bank["d"]
    assert bank["a"].record["id"] == "a", "the others are whole"


def test_damaged_shared_parts_are_found(bank):
    flip_last_byte(bank.path / "shared-stage1.safetensors")
    with pytest.raises(UsageError, match=r"shared-stage1.safetensors.*(damaged|does not fit)"):
        bank["a"]


def test_no_temporary_files_are_left(bank):
    names = {"index.json", "scenes-stage1.safetensors", "shared-stage1.safetensors"}
    assert {file.name for file in bank.path.iterdir()} == names


@pytest.mark.parametrize("name", ["scenes-stage1.safetensors", "shared-stage1.safetensors"])
def test_a_file_cut_short_or_missing_is_named(bank, name):
    file = bank.path / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match=name):
        SceneBank.open(bank.path)["a"]
    file.unlink()
    with pytest.raises(UsageError, match=name):
        SceneBank.open(bank.path)["a"]
