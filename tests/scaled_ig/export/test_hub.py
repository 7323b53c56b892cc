"""Data sets for the Hugging Face Hub, opened by its own library; a bank as a snapshot of the Hub."""

import os
import sys

import huggingface_hub
import pytest
import torch
import yaml

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.export import hub
from tests.scaled_ig.export.banks import IDS, KINDS, ORIGINS, write_bank
from tests.scaled_ig.export.hub_server import serving
from tests.test_docs import fenced

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow of the extra hub is not installed")
datasets = pytest.importorskip("datasets", reason="datasets of the extra dev is not installed")
LOAD = datasets.load_dataset


@pytest.fixture(scope="module", params=KINDS)
def bank(request, tmp_path_factory) -> SceneBank:
    return write_bank(tmp_path_factory.mktemp(request.param) / "bank", request.param)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No token, no cache of this machine, and no progress bars of the libraries."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def load(folder, tmp_path):
    return LOAD(str(folder), split="train", cache_dir=str(tmp_path / "cache")).with_format("torch")


def test_the_library_opens_it(bank, tmp_path, say, offline, monkeypatch):
    monkeypatch.setattr(hub, "GROUP_BYTES", 1)  # a scene a group, and two a file
    monkeypatch.setattr(hub, "FILE_BYTES", 2 * bank.planes()[0].numel() * 4)
    status, said = say("export", bank.path, "--format", "hf", "--out", tmp_path / "planes")
    assert (status, "3 scenes for datasets.load_dataset" in said) == (0, True)
    names = sorted(path.name for path in (tmp_path / "planes" / "data").iterdir())
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    table = parquet.read_table(tmp_path / "planes" / "data" / names[0])
    planes = torch.tensor(table["planes"][1].as_py())
    assert torch.equal(planes, bank[IDS[1]].planes()), "for readers that know lists alone"
    rows = load(tmp_path / "planes", tmp_path)
    assert len(rows) == 3
    for row, name, origin in zip(rows, IDS, ORIGINS, strict=True):
        scene = bank[name]
        assert (row["id"], row["category"], row["licence"]) == (name, *origin)
        assert row["source_sha256"] == f"views-{name}"
        assert torch.equal(row["planes"], scene.planes())
        for column, table in (("mixing", "mixing"), ("hull", "hull")):
            assert (column in row) == (table in scene.rows)
            assert column not in row or torch.equal(row[column], scene.rows[table])


def test_the_card_says_what_is_there(bank, tmp_path, say, offline):
    say("export", bank.path, "--format", "hf", "--out", tmp_path / "planes")
    _, head, text = (tmp_path / "planes" / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    rows = load(tmp_path / "planes", tmp_path)
    assert datasets.Features._from_yaml_list(head["dataset_info"]["features"]) == rows.features
    assert (head["license"], head["size_categories"]) == ("other", ["n<1K"])
    assert "| CC0-1.0 | 2 |" in text
    assert "| none named | 1 |" in text
    assert "Ask whoever made the views" in text
    for channel, mean in enumerate(bank.statistics().mean.tolist()):
        assert f"\n| {channel} | {mean:.4g} |" in text
    assert str(bank.path.parent) not in text, "no folder of this machine"


def test_the_code_of_the_card_renders(bank, tmp_path, say, offline, monkeypatch):
    folder = tmp_path / "planes"
    say("export", bank.path, "--format", "hf", "--out", folder)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, repo_type: str(folder))
    monkeypatch.setattr("datasets.load_dataset", lambda name, split: load(folder, tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, object] = {}
    for language, block in fenced((folder / "README.md").read_text()):
        if language == "python":
            exec(
                block.replace(
                    "azimuth=-1.0, elevation=0.5, resolution=128", "azimuth=0.0, elevation=0.4, resolution=16"
                ),
                names,
            )
    del sys.modules["decode"]
    scene = bank[IDS[0]]
    model = scene.model.at(16 * scene.model.autoencoder.downsampling)
    expected = (model.render(orbit(1, 0.4), torch.zeros(1, dtype=torch.long)).pixels[0] + 1) / 2
    values = names["values"]
    assert values.shape == expected.shape
    assert (values - expected).square().mean().sqrt() < 0.05  # by other samples along the rays


def test_one_known_licence_is_that_of_the_data_set(tmp_path, say, offline):
    bank = write_bank(tmp_path / "bank", "latents")
    say("export", bank.path, "--format", "hf", "--out", tmp_path / "planes", "--scenes", '["cars/b"]')
    head = yaml.safe_load((tmp_path / "planes" / "README.md").read_text().split("---\n")[1])
    assert head["license"] == "cc0-1.0"


def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path, say, offline, monkeypatch):
    bank = write_bank(tmp_path / "bank", "latents")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, said = say("export", bank.path, "--format", "hf", "--out", tmp_path / "planes")
    assert status == 2
    assert "pip install 'scaled-ig[hub]'" in said
    assert not (tmp_path / "planes").exists()


# -- the Hub ---------------------------------------------------------------------------------------------------------


def test_a_push_is_one_commit_of_all_files(tmp_path, say, offline, monkeypatch):
    bank = write_bank(tmp_path / "bank", "latents")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        folder = tmp_path / "planes"
        status, said = say("export", bank.path, "--format", "hf", "--out", folder, "--push", "me/planes")
        assert status == 0, said
        assert said.splitlines()[-1].startswith(
            f"pushed: {server.url}/datasets/me/planes/commit/0123; a new data set is"
        )
    (new,) = server.created
    assert (new["name"], new["type"], new.get("private") or new.get("visibility")) in (
        ("planes", "dataset", "private"),
        ("planes", "dataset", True),  # as older versions of the library ask
    )
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert server.commits == [files]
    assert 'load_dataset("me/planes"' in files["README.md"].decode()


def test_a_push_that_fails_claims_nothing(tmp_path, say, offline, monkeypatch):
    bank = write_bank(tmp_path / "bank", "latents")
    words = ("export", bank.path, "--format", "hf", "--out", tmp_path / "planes", "--push")
    status, said = say(*words, "me/planes")
    assert (status, "--push needs a token of the Hub" in said) == (2, True)
    status, said = say(*words, "planes")
    assert (status, "--push names no data set of the Hub: give USER/NAME" in said) == (2, True)
    assert not (tmp_path / "planes").exists()
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with serving() as server:
        server.full = True
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        status, said = say(*words, "me/planes")
    folder = tmp_path / "planes"
    assert status == 2
    assert f"{folder} is whole, and was not pushed to me/planes (" in said
    assert "the storage of this account is full" in said
    assert len(load(folder, tmp_path)) == 3
    assert server.commits == []
    # The server is gone by now.
    status, said = say(*words[:5], tmp_path / "again", "--push", "me/planes")
    assert (status, "was not pushed to me/planes" in said) == (2, True)


def test_a_bank_is_opened_as_a_snapshot_of_the_hub(bank, tmp_path, offline):
    """As the Hub's own cache lays it out: files are links to blobs."""
    repository = tmp_path / "hub" / "models--me--bank"
    snapshot = repository / "snapshots" / "0123"
    for file in bank.path.rglob("*"):
        if file.is_file():
            blob, link = repository / "blobs" / file.name, snapshot / file.relative_to(bank.path)
            for folder in (blob.parent, link.parent):
                folder.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(file.read_bytes())
            link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    folder = huggingface_hub.snapshot_download("me/bank", cache_dir=tmp_path / "hub", local_files_only=True)
    opened = SceneBank.open(folder)
    assert torch.equal(opened[IDS[0]].render(orbit(2)), bank[IDS[0]].render(orbit(2)))
    assert not opened.verify()
