"""A bank takes nothing that is not finite, and what an older one has of it is named."""

import shutil

import pytest
import torch

from scaled_ig.bank import blocks, writing
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from tests.test_ddp import the_error

IDS = ["a", "b", "c", "d"]


def write(folder, scene, encoding="float32") -> SceneBank:
    return SceneBank.write(folder, scene, IDS, "stage1", [""] * 4, encoding)


def content(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def without_checks(monkeypatch):
    """Banks are written as they were before anybody looked."""
    monkeypatch.setattr(writing, "has_finite_values", lambda *arguments: True)
    monkeypatch.setattr(blocks, "names_not_finite", lambda tensors: [])


@torch.no_grad()
@pytest.mark.parametrize("encoding", ["float32", "bfloat16", "int8", "int8_difference"])
@pytest.mark.parametrize("table", ["micro", "mixing"])
def test_scenes_that_are_not_finite_are_refused(tmp_path, tiny_scene, encoding, table):
    scene = tiny_scene()
    write(tmp_path / "bank", scene, encoding)
    before = content(tmp_path / "bank")
    scene.representation.scene_tables()[table].weight[2].view(-1)[1] = -torch.inf
    with pytest.raises(UsageError, match=f"scene 'c' cannot be kept as {encoding}: .*values that are not finite"):
        write(tmp_path / "bank", scene, encoding)
    assert content(tmp_path / "bank") == before


@torch.no_grad()
def test_shared_parts_that_are_not_finite_are_refused(tmp_path, tiny_scene):
    scene = tiny_scene()
    write(tmp_path / "bank", scene)
    before = content(tmp_path / "bank")
    scene.representation.bases[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(UsageError, match=r"representation\.bases, which scenes share, cannot be kept"):
        write(tmp_path / "bank", scene)
    assert content(tmp_path / "bank") == before


@torch.no_grad()
@pytest.mark.parametrize("encoding", ["float32", "bfloat16", "int8_difference"])
def test_verify_names_scenes_of_older_banks(tmp_path, tiny_scene, without_checks, encoding):
    scene = tiny_scene()
    scene.representation.mixing.weight[1, 0] = torch.nan
    if encoding != "int8_difference":
        scene.representation.micro.weight[3, 1, 2, 3, 0] = torch.inf
    bank = write(tmp_path / "bank", scene, encoding)
    named = ["b"] if encoding == "int8_difference" else ["b", "d"]
    findings = bank.verify()
    assert [finding.partition(": ")[2] for finding in findings] == [
        f"scene {name!r} is not finite: learn it again or remove it" for name in named
    ]
    assert bank["a"].rows["mixing"].isfinite().all()
    with pytest.raises(UsageError, match=r"scene 'b' is not finite \(mixing\): bank verify names all such scenes"):
        bank["b"]
    bank.remove(named)
    assert bank.verify() == []


@torch.no_grad()
def test_verify_names_shared_parts_of_older_banks(tmp_path, tiny_scene, monkeypatch):
    scene = tiny_scene()
    scene.representation.bases[0, 0, 0, 0, 0] = torch.nan
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "names_not_finite", lambda tensors: [])
        bank = write(tmp_path / "bank", scene)
    (finding,) = bank.verify()
    assert finding.endswith("representation.bases is not finite, which scenes share: train its scenes again")


@torch.no_grad()
def test_an_older_run_is_not_reported_until_its_scene_is_learned_again(
    tmp_path, run_scaled_ig, tiny_run, without_checks
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    bank = SceneBank.open(run / "bank")
    records, model = bank.scenes("stage2"), bank.load_version("stage2")
    model.representation.mixing.weight[1, 0] = torch.nan
    name = records[1].id
    SceneBank.replace(bank.path, model, [record.id for record in records], [record.source_sha256 for record in records])
    status, output = run_scaled_ig("bank", "verify", run)
    assert status == 1
    assert f"scene {name!r} is not finite" in output
    status, output = run_scaled_ig("report", run)
    assert status == 2, output[-3000:]
    assert f"scene {name!r} is not finite (mixing)" in the_error(output)
    status, output = run_scaled_ig("bank", "refit", run, "--scenes", name)
    assert status == 0, output[-3000:]
    status, output = run_scaled_ig("bank", "verify", run)
    assert (status, "sound" in output) == (0, True)
