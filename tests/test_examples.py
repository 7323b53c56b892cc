"""What examples/ promises: the diffusion model runs on a bank, and its planes are what the bank's head reads."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import load_file

import scaled_ig
from scaled_ig.errors import UsageError

ROOT = Path(__file__).parents[1]
EXAMPLES, KEPT = ROOT / "examples", ROOT / "tests/kept/run"
sys.path.insert(0, str(EXAMPLES))
import diffusion  # noqa: E402 - not a package


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A copy: its statistics are kept in its folder."""
    return scaled_ig.open(shutil.copytree(KEPT / "bank", tmp_path_factory.mktemp("kept") / "bank"))


def test_planes_come_back_from_the_images_that_the_network_sees(bank):
    planes = bank.planes()
    normaliser = diffusion.Normaliser.of(bank)
    images = normaliser.images(planes)
    torch.testing.assert_close(normaliser.planes(images), planes)
    features = images.unflatten(1, (3, -1, diffusion.PATCH**2)).transpose(0, 2).flatten(1)
    torch.testing.assert_close(features.mean(1), torch.zeros(len(features)), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(1), torch.ones(len(features)), atol=1e-2, rtol=0)


def test_planes_of_a_bank_render_as_its_scenes_do(bank):
    """The scenes of this bank have hulls, and drawn ones have not: densities are compared, not pictures."""
    ids = bank.newest()
    model = diffusion.with_planes(bank, bank.planes(ids))
    points = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    raw = model.renderer.raw_densities(model.representation, torch.arange(len(ids)), points.expand(len(ids), -1, -1))
    for row, name in enumerate(ids):
        scene = bank[name]
        features = scene.model.representation(torch.zeros(1, dtype=torch.long), points[None])
        torch.testing.assert_close(raw[row], scene.head(features)[0][0])
    assert diffusion.views(model, scaled_ig.orbit(2)).shape[:3] == (len(ids), 2, 3)


def test_the_nearest_scene_is_the_one_that_was_changed_least():
    known = torch.randn(5, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    distance, closest = diffusion.nearest(known[[3, 1]] + 0.01, known)
    assert closest.tolist() == [3, 1]
    torch.testing.assert_close(distance, torch.full((2,), 0.01), atol=1e-4, rtol=0)
    assert (diffusion.nearest(known, known, but_itself=True)[0] > 0.1).all()


def test_the_example_draws_scenes_and_a_picture_of_them(bank, tmp_path):
    diffusion.diffusion(str(bank.path), str(tmp_path), steps=3, batch_size=2, samples=2, width=16)
    side = bank.planes().shape[-1]
    assert load_file(tmp_path / "samples.safetensors")["planes"].shape == (2, *bank.planes().shape[1:3], side, side)
    assert Image.open(tmp_path / "samples.png").size == (2 * diffusion.PICTURE, 4 * diffusion.PICTURE)
    assert diffusion.UNet2DModel.from_pretrained(tmp_path / "network").config.sample_size == side // diffusion.PATCH


def test_training_makes_denoising_better(bank):
    """Of two scenes, seen again and again, an estimate from much noise gets closer than their mean, which is 0."""
    torch.manual_seed(0)
    normaliser = diffusion.Normaliser.of(bank)
    clean = normaliser.images(bank.planes())
    network = diffusion.make_network(clean.shape[1], clean.shape[-1], 32)
    network = diffusion.train(bank, normaliser, network, steps=60, batch_size=2)
    level = torch.full((len(clean),), 300)
    noisy = diffusion.make_scheduler().add_noise(clean, torch.randn_like(clean), level)
    assert torch.nn.functional.mse_loss(network(noisy, level).sample, clean) < 0.5 * clean.square().mean()


def test_planes_that_cannot_be_halved_are_refused(bank, monkeypatch, tmp_path):
    odd = torch.nn.functional.pad(bank.planes(), (0, 1, 0, 1))
    monkeypatch.setattr(type(bank), "planes", lambda self: odd)
    with pytest.raises(UsageError, match="multiple of 8"):
        diffusion.diffusion(str(bank.path), str(tmp_path), steps=1)


@pytest.mark.slow("trains a bank within")
@pytest.mark.parametrize("name", ["first_steps", "diffusion"])
def test_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{EXAMPLES}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "outputs do not belong in the repository"
    NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert shown, "it shows no picture"
