"""A bank as a mapping, and its scenes as tensors, compared with a model that holds all of them."""

import json
import pickle
from collections.abc import Mapping

import pytest
import torch
from torch.utils.data import DataLoader

from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import ENCODINGS
from scaled_ig.errors import UsageError
from scaled_ig.rendering.kernels.reference import sample_scenes
from scaled_ig.rendering.sampling import InsideBall, InsideHull
from scaled_ig.representations import InstantNgp, MicroMacro, TriPlanes
from scaled_ig.scene_model import SceneModel
from tests.conftest import ball_hulls

IDS = [f"scene-{row}" for row in range(20)]  # more than are decoded together


@pytest.fixture
def model(tiny_scene) -> SceneModel:
    return tiny_scene(len(IDS))


@pytest.fixture
def bank(model, tmp_path) -> SceneBank:
    return SceneBank.write(tmp_path / "run" / "bank", model, IDS, "stage1", [""] * len(IDS))


def write(path, representation, num_scenes=3, sampling=None, **options) -> SceneBank:
    """A bank of pixels."""
    model = SceneModel(representation, IdentityAutoencoder(), sampling or InsideBall(8), resolution=16, **options)
    model.representation.new_scenes(num_scenes, seed=5)
    return SceneBank.write(path, model, IDS[:num_scenes], "stage2", [""] * num_scenes)


# -- a mapping -------------------------------------------------------------------------------------------------------


def test_a_bank_is_a_mapping(bank, tmp_path):
    assert isinstance(bank, Mapping)
    assert list(bank) == list(bank.keys()) == bank.ids == IDS
    assert len(bank) == 20
    assert "scene-3" in bank
    assert "scene-20" not in bank
    assert 3 not in bank
    assert [name for name, scene in bank.items() if scene.id == name] == IDS
    assert bank.get("nobody") is None
    assert bank.get("scene-3").id == "scene-3"
    assert bank != SceneBank.open(tmp_path / "run"), "no two are compared by all of their scenes"
    assert len({bank, bank}) == 1
    for error in (KeyError, UsageError):
        with pytest.raises(error) as raised:
            bank["nobody"]
        assert str(raised.value).startswith(f"{bank.path} holds no scene 'nobody'; it holds 20 scenes: scene-0, ")
    with pytest.raises(UsageError, match="holds no scene 3: ask for one by its name, or for the data set"):
        bank[3]


def test_what_is_printed_is_one_line(bank, model, tmp_path):
    assert repr(bank) == f"SceneBank({str(bank.path)!r}: 20 scenes of stage1)"
    assert repr(bank["scene-3"]) == "BankScene('scene-3', stage1: micro 3 × 8 × 8 × 4, mixing 3)"
    for wave in range(6):
        SceneBank.write(bank.path, model, [f"{wave}-{name}" for name in IDS], f"stage2-{wave:04d}", [""] * 20)
    assert repr(SceneBank.open(bank.path)).endswith(": 140 scenes of stage1, stage2-0000, …, stage2-0005)")


def test_a_run_is_opened_as_its_bank(bank, tmp_path):
    assert SceneBank.open(tmp_path / "run").path == bank.path
    merged = SceneBank.merge(tmp_path / "other", [tmp_path / "run"])
    assert merged.ids == IDS
    assert SceneBank.merge(tmp_path / "run", [], "int8").path == bank.path


# -- tensors ---------------------------------------------------------------------------------------------------------


def test_planes_are_those_that_are_rendered(bank, model):
    fused = model.representation.planes(torch.arange(20)).detach().movedim(-1, 2)
    assert torch.equal(bank.planes(), fused)
    assert torch.equal(bank.planes(["scene-17", "scene-2"]), fused[[17, 2]])
    assert torch.equal(bank.planes("scene-2"), fused[[2]])
    assert torch.equal(bank["scene-2"].planes(), fused[2])
    micro = model.representation.micro.weight.movedim(-1, 2)
    assert torch.equal(bank.micro(), micro)
    assert torch.equal(bank["scene-2"].planes(fused=False), micro[2])
    assert torch.equal(bank.mixing(IDS[4:]), model.representation.mixing.weight[4:])
    assert torch.equal(bank.bases(), model.representation.bases.movedim(-1, 2))
    mixture = torch.einsum("nm,m...->n...", bank.mixing(), bank.bases())
    torch.testing.assert_close(bank.planes(), torch.cat([bank.micro(), mixture], 2))


def test_the_head_reads_them(bank, model):
    """What the renderer reads at a point, from the tensors alone."""
    points = torch.rand(1, 50, 3) - 0.5
    planes = bank.planes("scene-7").movedim(2, -1)
    features = sample_scenes(planes, torch.tensor([0]), points / 0.5, model.representation.axes)
    raw, _ = bank.head()(features)
    expected = model.renderer.raw_densities(model.representation, torch.tensor([7]), points)
    torch.testing.assert_close(raw, expected)
    head = bank.head()
    head.out.bias.data += 5
    assert torch.equal(bank.head().out.bias, model.renderer.head.out.bias), "a copy"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_planes_of_scenes_in_hulls_are_those_of_their_scenes(tmp_path, encoding):
    model = SceneModel(TriPlanes(3, 8, 0.5), IdentityAutoencoder(), InsideHull(8), resolution=16)
    model.representation.new_scenes(4, seed=5)
    model.representation.hull.weight = torch.nn.Parameter(ball_hulls(4), requires_grad=False)
    bank = SceneBank.write(tmp_path / "bank", model, IDS[:4], "stage1", [""] * 4, encoding)
    planes = bank.planes()
    assert torch.equal(planes, bank.micro())
    for name, scene_planes in zip(bank.ids, planes, strict=True):
        assert torch.equal(scene_planes, bank[name].rows["micro"].movedim(-1, 1))
    with pytest.raises(UsageError, match=r"scenes of version 'stage1' \(TriPlanes\) mix no base planes"):
        bank.mixing()
    with pytest.raises(UsageError, match=r"\(TriPlanes\) mix no base planes: bank\[id\].rows has what is there"):
        bank.bases()


def test_the_newest_scenes_are_those_of_all_waves(bank, model):
    stage1 = bank.planes()
    with torch.no_grad():
        model.representation.bases.mul_(2)
    waves = []
    for wave in range(2):
        model.representation.new_scenes(3, seed=wave + 20)
        SceneBank.write(bank.path, model, [f"{wave}-{row}" for row in range(3)], f"stage2-{wave:04d}", [""] * 3)
        waves.append(model.representation.planes(torch.arange(3)).detach().movedim(-1, 2))
    grown = SceneBank.open(bank.path)
    assert torch.equal(grown.planes(), torch.cat(waves))
    assert grown.statistics().num_scenes == 6
    assert torch.equal(grown.bases(), model.representation.bases.movedim(-1, 2))
    assert torch.equal(grown.bases("stage1"), bank.bases())
    both = grown.planes(["scene-1", "1-2", "scene-0"])
    assert torch.equal(both, torch.stack([stage1[1], waves[1][2], stage1[0]])), "each with the bases of its version"
    assert len(grown._models) == 2, "waves share one model"


def test_what_is_not_there_is_one_sentence(bank, tmp_path):
    points = write(tmp_path / "points", InstantNgp(levels=2, log2_table_size=8, coarsest=4, finest=8))
    for call in (points.planes, points.micro, points.statistics, points.dataset, points[IDS[0]].planes):
        with pytest.raises(UsageError, match="scenes of version 'stage2' are InstantNgp, which have no planes"):
            call()
    macro = write(tmp_path / "macro", MicroMacro(0, 6, num_bases=3, plane_resolution=8))
    assert macro.planes().shape == (3, 3, 6, 8, 8)
    with pytest.raises(UsageError, match="scenes of version 'stage2' have no planes of their own"):
        macro.micro()
    own_heads = write(tmp_path / "own", TriPlanes(3, 8, 0.5), own_heads=True)
    with pytest.raises(UsageError, match=r"has a head of its own: bank\[id\].head is that of one"):
        own_heads.head()
    head = own_heads[IDS[1]].head
    assert torch.equal(
        torch.cat([head.hidden.weight.flatten(), head.hidden.bias]), own_heads[IDS[1]].rows["head"][:256]
    )
    with pytest.raises(UsageError, match="holds no version 'stage9'; it holds stage1"):
        bank.bases("stage9")
    with pytest.raises(UsageError, match="no ids of scenes"):
        bank.planes([])
    with pytest.raises(UsageError, match="holds no scene 'z'"):
        bank.planes(["z"])


def test_scenes_of_two_shapes_are_no_tensor(bank, tmp_path):
    model = SceneModel(TriPlanes(3, 4, 0.5), IdentityAutoencoder(), InsideBall(8), resolution=16)
    model.representation.new_scenes(1)
    grown = SceneBank.write(bank.path, model, ["small"], "stage2", [""])
    with pytest.raises(UsageError, match=r"'small' has a shape of \[3, 3, 4, 4\], and 'scene-0' of \[3, 10, 8, 8\]"):
        grown.planes(["scene-0", "small"])


def test_planes_are_read_without_a_model_for_each_scene(bank, monkeypatch):
    built = []
    load = SceneBank._load_model
    monkeypatch.setattr(SceneBank, "_load_model", lambda self, version: built.append(version) or load(self, version))
    bank.planes()
    bank.statistics()
    for scene in bank.values():
        scene.planes()
    assert built == ["stage1"]


# -- statistics ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_all_planes(bank):
    values = bank.planes().double().transpose(0, 2).flatten(1)
    statistics = bank.statistics()
    torch.testing.assert_close(statistics.mean.double(), values.mean(1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(statistics.sd.double(), values.std(1, correction=0), atol=1e-6, rtol=1e-6)
    assert torch.equal(statistics.min.double(), values.amin(1))
    assert torch.equal(statistics.max.double(), values.amax(1))
    assert statistics.num_scenes == 20


def test_statistics_are_kept_until_the_bank_changes(bank, model, monkeypatch):
    first, file = bank.statistics(), bank.path / "statistics.json"
    assert file.is_file()
    assert not bank.verify(), "a part of the bank"
    with monkeypatch.context() as patch:
        patch.setattr(SceneBank, "_measure", lambda self: pytest.fail("measured again"))
        again = SceneBank.open(bank.path).statistics()
    for name in ("mean", "sd", "min", "max"):
        assert torch.equal(getattr(again, name), getattr(first, name))
    content = json.loads(file.read_text())
    for damage in ("[]", "{", json.dumps(content | {"mean": "x"}), json.dumps(content | {"more": [1]}), "{}"):
        file.write_text(damage)
        assert torch.equal(SceneBank.open(bank.path).statistics().mean, first.mean)
    bank.remove(["scene-0"])
    assert not file.exists(), "nothing is left of a scene that was removed"
    assert bank.statistics().num_scenes == 19


def test_statistics_that_cannot_be_kept_are_measured(bank):
    (bank.path / "statistics.json").mkdir()
    assert bank.statistics().num_scenes == 20


# -- a data set ------------------------------------------------------------------------------------------------------


def test_a_data_set_feeds_workers(bank):
    planes, dataset = bank.planes(), bank.dataset()
    assert len(dataset) == 20
    assert torch.equal(dataset[3]["planes"], planes[3])
    with pytest.raises(IndexError):
        dataset[20]
    batches = list(DataLoader(dataset, batch_size=8, num_workers=2))
    assert torch.equal(torch.cat([batch["planes"] for batch in batches]), planes)
    assert [name for batch in batches for name in batch["id"]] == IDS
    assert batches[0]["category"] == [""] * 8
    few = bank.dataset(["scene-5", "scene-1"], fused=False)
    assert torch.equal(torch.stack([few[0]["planes"], few[1]["planes"]]), bank.micro(["scene-5", "scene-1"]))


def test_a_data_set_can_be_sent_to_another_process(bank):
    sent = pickle.loads(pickle.dumps(bank.dataset()))
    assert torch.equal(sent[4]["planes"], bank.planes("scene-4")[0])
