"""Checkpoints in the layout of the papers' code, and what their code makes of the planes."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder, KLAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.rendering.sampling import FullRay
from scaled_ig.representations import MicroMacro, TriPlanes
from scaled_ig.scene_model import SceneModel
from tests.scaled_ig.export.banks import write_bank

SMALL_VAE = {"block_out_channels": [32, 32], "down_block_types": ["DownEncoderBlock2D"] * 2}
SMALL_VAE |= {"up_block_types": ["UpDecoderBlock2D"] * 2, "latent_channels": 4}


@pytest.fixture(scope="module", params=["latents", "rgb", "micro"])
def bank(request, tmp_path_factory) -> SceneBank:
    axes = "xy-xz-zx"
    torch.manual_seed(0)
    autoencoder = IdentityAutoencoder() if request.param == "rgb" else KLAutoencoder(config=SMALL_VAE)
    representation = TriPlanes(5, 8, 1.0, axes) if request.param == "micro" else MicroMacro(3, 2, 4, 8, 1.0, axes)
    model = SceneModel(representation, autoencoder, FullRay(), resolution=16)
    representation.new_scenes(3, seed=1)
    model.measure_background()
    if request.param != "rgb":
        model.background.copy_(2 * torch.tensor([0.6176, 0.5711, 0.5046, 0.4422]) - 1)
    return SceneBank.write(tmp_path_factory.mktemp("official") / "bank", model, ["c", "a", "b"], "stage2", [""] * 3)


def test_what_is_written_comes_back(bank, tmp_path, say):
    out = tmp_path / "theirs"
    assert say("export", bank.path, "--format", "official", "--out", out)[0] == 0
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL_VAE))
    options = ("--checkpoint", out / "gvae_latest.pt", "--resolution", 16, "--autoencoder", config)
    status, said = say("read", tmp_path / "bank", *options)
    assert (status, said.strip()) == (0, f"{tmp_path / 'bank'}: 3 scenes of {out / 'gvae_latest.pt'}")
    back = SceneBank.open(tmp_path / "bank")
    assert back.ids == bank.ids
    for name in bank.ids:
        assert torch.equal(back[name].render(orbit(2)), bank[name].render(orbit(2)))
        assert all(torch.equal(back[name].rows[key], row) for key, row in bank[name].rows.items())
    # What their code fuses is what the bank fuses.
    nerfs = torch.load(out / "gvae_latest.pt", weights_only=True)["nerfs"]
    fused = nerfs["local_planes"]
    if "coefs" in nerfs:
        macro = torch.einsum("ib,b...->i...", nerfs["coefs"], nerfs["global_planes"]) + nerfs["bias"]
        fused = torch.cat((fused, macro), -3)
    torch.testing.assert_close(fused, bank.planes(), rtol=1e-5, atol=1e-5)


def test_ids_are_given_where_the_checkpoint_has_none(bank, tmp_path, say):
    out = tmp_path / "theirs"
    say("export", bank.path, "--format", "official", "--out", out)
    (out / "scenes.json").unlink()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL_VAE))
    options = ("--checkpoint", out / "gvae_latest.pt", "--resolution", 16, "--autoencoder", config)
    assert say("read", tmp_path / "one", *options)[0] == 0
    assert SceneBank.open(tmp_path / "one").ids == ["scene-00000", "scene-00001", "scene-00002"]
    assert say("read", tmp_path / "two", *options, "--scenes", "x,y,z")[0] == 0
    assert SceneBank.open(tmp_path / "two").ids == ["x", "y", "z"]
    status, said = say("read", tmp_path / "three", *options, "--scenes", "x,y")
    assert (status, "has 3 scenes, and there are 2 ids" in said) == (2, True)
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("hulls", "visual hulls"), ("heads", "heads of single scenes"), ("latents", "a SmallAutoencoder")],
)
def test_what_the_layout_cannot_hold_is_refused(tmp_path, say, kind, reason):
    bank = write_bank(tmp_path / "bank", kind)
    status, said = say("export", bank.path, "--format", "official", "--out", tmp_path / "theirs")
    assert status == 2
    assert f"the authors' layout has no place for {reason}" in said
    assert not (tmp_path / "theirs").exists()


def spoil(content: dict, kind: str) -> object:
    if kind == "bias":
        content["nerfs"]["bias"][1] = 0.5
    elif kind == "sum":
        content["nerfs"]["local_planes"] = content["nerfs"]["local_planes"][:, :, :2]
    elif kind == "nan":
        content["nerfs"]["local_planes"][0, 0, 0, 0, 0] = torch.nan
    elif kind == "no planes":
        del content["nerfs"]["local_planes"]
    elif kind == "coefs":
        content["nerfs"]["coefs"] = content["nerfs"]["coefs"][:2]
    elif kind == "list":
        return [content]
    return content


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bias", "its scenes have a bias other than 0"),
        ("sum", "its MLP reads 5 features, and planes have 2 + 2"),
        ("nan", "not finite"),
        ("no planes", "is no checkpoint of the papers' code"),
        ("coefs", "a tensor has the shape [2, 4], and should have [3, 4]"),
        ("list", "has no vae, nerfs and renderer"),
        ("text", "cannot be read"),
        ("pickle", "cannot be read"),
        ("missing", "cannot be read"),
    ],
)
def test_other_checkpoints_are_refused_in_one_sentence(tmp_path, say, kind, reason):
    model = SceneModel(MicroMacro(3, 2, 4, 8, 1.0, "xy-xz-zx"), IdentityAutoencoder(), FullRay(), resolution=16)
    model.representation.new_scenes(3)
    SceneBank.write(tmp_path / "bank", model, ["a", "b", "c"], "stage2", [""] * 3)
    out = tmp_path / "theirs"
    say("export", tmp_path / "bank", "--format", "official", "--out", out)
    file = out / "gvae_latest.pt"
    if kind == "text":
        file.write_text("no checkpoint")
    elif kind == "pickle":
        file.write_bytes(pickle.dumps({"vae": {}, "nerfs": {}, "renderer": Path}))
    elif kind == "missing":
        file.unlink()
    else:
        torch.save(spoil(torch.load(file, weights_only=True), kind), file)
    status, said = say("read", tmp_path / "new", "--checkpoint", file, "--resolution", 16)
    assert status == 2
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert reason in line
    assert not (tmp_path / "new").exists()
