"""Scenes as pictures: modes, mixtures, planes that are left out."""

import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.report.pictures import to_pictures
from scaled_ig.representations import MicroMacro, TriPlanes
from scaled_ig.scene_model import SceneModel
from scaled_ig.viewer.scenes import MODES, Look, Scenes, mix, why_not_left_out

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def bank(tmp_path, tiny_scene):
    return SceneBank.write(tmp_path / "bank", tiny_scene(4), IDS, "stage1", ["0" * 64] * 4)


def test_a_picture_is_what_the_bank_renders(bank):
    camera = orbit(1)
    picture = Scenes(bank).draw(Look("b"), camera, (32, 32))
    assert (picture == to_pictures(bank["b"].render(camera))[0]).all()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_a_picture_of_the_size(bank, mode):
    assert Scenes(bank).draw(Look("a", mode), orbit(1), (24, 40)).shape == (24, 40, 3)


def test_a_mixture_begins_at_one_scene_and_ends_at_the_other(bank):
    scenes, camera = Scenes(bank), orbit(1)
    pictures = {name: scenes.draw(Look(name), camera, (32, 32)) for name in "ab"}
    assert (scenes.draw(Look("a", other="b", share=0.0), camera, (32, 32)) == pictures["a"]).all()
    assert (scenes.draw(Look("a", other="b", share=1.0), camera, (32, 32)) == pictures["b"]).all()
    half = mix(bank["a"], bank["b"], 0.5)
    for name, row in half.rows.items():
        torch.testing.assert_close(row, (bank["a"].rows[name] + bank["b"].rows[name]) / 2)


def test_scenes_of_two_versions_are_not_mixed(bank, tmp_path, tiny_scene):
    SceneBank.write(bank.path, tiny_scene(num_scenes=1), ["e"], "stage2", ["1" * 64])
    both = SceneBank.open(bank.path)
    with pytest.raises(UsageError, match=r"a is of version stage1, e of stage2"):
        Scenes(both).draw(Look("a", other="e", share=0.5), orbit(1), (32, 32))


@pytest.mark.parametrize(("kind", "table"), [("micro", "micro"), ("macro", "mixing")])
def test_planes_that_are_left_out_are_zero(bank, kind, table):
    camera, scene = orbit(1), bank["a"]
    picture = Scenes(bank).draw(Look("a", left_out=frozenset({kind})), camera, (32, 32))
    without = scene.with_rows({table: torch.zeros_like(scene.rows[table])})
    assert (picture == to_pictures(without.render(camera))[0]).all()
    assert (picture != to_pictures(scene.render(camera))[0]).any()
    assert why_not_left_out(scene.model, kind) == ""


def test_it_is_said_why_planes_cannot_be_left_out():
    plain = SceneModel(TriPlanes(16, 8), IdentityAutoencoder(), InsideBall(4), resolution=16)
    assert "share no base planes" in why_not_left_out(plain, "micro")
    macro = SceneModel(MicroMacro(0, 16, 3, 8), IdentityAutoencoder(), InsideBall(4), resolution=16)
    assert why_not_left_out(macro, "micro") == "This model has no micro planes."
    assert why_not_left_out(macro, "macro") == ""
