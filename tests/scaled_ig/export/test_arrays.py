"""Files of arrays, opened by numpy and by safetensors: the planes of the bank, and pictures of them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.export.decode import orbit_rays, render
from tests.scaled_ig.export.banks import IDS, KINDS, ORIGINS, write_bank
from tests.test_docs import fenced


@pytest.fixture(scope="module", params=KINDS)
def bank(request, tmp_path_factory) -> SceneBank:
    return write_bank(tmp_path_factory.mktemp(request.param) / "bank", request.param)


def arrays_of(path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Tensors and texts of an export."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        texts = {name: arrays.pop(name) for name in ("ids", "categories", "licences")}
        about = json.loads(str(arrays.pop("about")))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, {
            "about": about,
            **{name: text.tolist() for name, text in texts.items()},
        }
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, {  # noqa: SIM118 - it is no dictionary
            name: json.loads(text) for name, text in file.metadata().items()
        }


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_file_holds_what_the_bank_holds(bank, tmp_path, say, ending):
    path = tmp_path / f"planes.{ending}"
    status, said = say("export", bank.path, "--format", ending, "--out", path)
    assert (status, f"{path}: planes 3 × 3 × " in said) == (0, True)
    arrays, texts = arrays_of(path)
    assert texts["ids"] == IDS
    assert texts["categories"] == [origin.category for origin in ORIGINS]
    assert texts["licences"] == [origin.licence for origin in ORIGINS]
    assert torch.equal(arrays["planes"], bank.planes())
    statistics = bank.statistics()
    for name in ("mean", "sd", "min", "max"):
        torch.testing.assert_close(arrays[f"statistics.{name}"], getattr(statistics, name), rtol=1e-5, atol=1e-6)
    for row, name in enumerate(IDS):
        rows = bank[name].rows
        for array, table in (("mixing", "mixing"), ("hulls", "hull")):
            assert (array in arrays) == (table in rows)
            assert array not in arrays or torch.equal(arrays[array][row], rows[table])
        for key, value in bank[name].head.state_dict().items():
            head = arrays[f"head.{key}"]
            assert torch.equal(head[row] if "head" in rows else head, value)
    if "mixing" in arrays:
        macro = torch.einsum("nm,m...->n...", arrays["mixing"], arrays["bases"])
        torch.testing.assert_close(arrays["planes"][:, :, -macro.shape[2] :], macro, rtol=1e-5, atol=1e-5)


def test_pictures_of_the_arrays_are_those_of_the_bank(bank, tmp_path, say):
    path = tmp_path / "planes.npz"
    say("export", bank.path, "--format", "npz", "--out", path, "--scenes", json.dumps(IDS[::-1]))
    arrays, texts = arrays_of(path)
    assert texts["ids"] == IDS[::-1]
    for row, name in enumerate(texts["ids"]):
        scene = bank[name]
        head = {key[5:]: value for key, value in arrays.items() if key.startswith("head.")}
        head = {key: value[row] for key, value in head.items()} if scene.model.own_heads else head
        hull = arrays["hulls"][row] if "hulls" in arrays else None
        for view, azimuth in enumerate((0.0, 2 * math.pi / 3)):
            rays = orbit_rays(azimuth, 0.3 * math.pi / 2, scene.model.latent_size[0])
            samples = 512 if hull is not None else 64
            values, opacity = render(arrays["planes"][row], head, texts["about"], *rays, hull=hull, samples=samples)
            expected = scene.render_latent(orbit(3)[view : view + 1])
            # Samples within hulls lie elsewhere; the others are the same.
            tolerance = 0.02 if hull is not None else 1e-4
            pixels = ((expected.pixels[0] + 1) / 2).clamp(0, 1)
            assert (values - pixels).square().mean().sqrt() < tolerance
            assert (opacity - expected.accumulation[0]).square().mean().sqrt() < tolerance
            assert pixels.std() > 0.01, "there is something to be seen"


def test_the_same_scenes_are_the_same_bytes(bank, tmp_path, say):
    for ending in ("npz", "safetensors"):
        for name in ("one", "two"):
            say("export", bank.path, "--format", ending, "--out", tmp_path / f"{name}.{ending}")
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("npz --out OUT/planes", "--out OUT/planes becomes one file: let its name end with .npz"),
        ("safetensors --out OUT/planes.npz", "--out OUT/planes.npz becomes one file: let its name end with .safetens"),
        ("npz --out OUT/there.npz", "OUT/there.npz is there already: name another --out, or remove it"),
        ("npz --out OUT/p.npz --scenes z", "BANK holds no scene 'z'"),
        ("npz --out OUT/p.npz --version stage9", "BANK holds no version 'stage9'; it holds stage2"),
        ("npz --out OUT/p.npz --version stage2 --scenes a", "--scenes and --version both say which scenes"),
        ("npz --out OUT/p.npz --push me/planes", "--push has no effect with --format npz: leave it out"),
        ("npz --out OUT/there.npz/p.npz", "OUT/there.npz"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, say, options, sentence):
    bank = write_bank(tmp_path / "bank", "latents")
    (tmp_path / "there.npz").write_bytes(b"mine")
    words = options.replace("OUT", str(tmp_path)).split()
    status, said = say("export", bank.path, "--format", *words)
    assert status == 2
    assert said.splitlines()[-1].startswith(
        "error: " + sentence.replace("OUT", str(tmp_path)).replace("BANK", str(bank.path))
    )
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "there.npz"]


def test_scenes_of_other_shared_parts_are_refused(tmp_path, say, tiny_scene):
    bank = write_bank(tmp_path / "bank", "latents")
    SceneBank.write(bank.path, tiny_scene(1), ["x"], "stage1", ["x"])
    status, said = say("export", bank.path, "--format", "npz", "--out", tmp_path / "p.npz", "--scenes", "ä,x")
    assert status == 2
    assert "scenes of stage2 and stage1 have other shared parts" in said


def test_the_code_of_the_page_renders(bank, tmp_path, say, monkeypatch):
    say("export", bank.path, "--format", "safetensors", "--out", tmp_path / "planes.safetensors")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs/exports.md").read_text()
    blocks = [block for language, block in fenced(page) if language == "python"]
    names: dict[str, object] = {}
    reading, rendering = (block.replace("[3]", "[1]") for block in blocks[:2])
    if "hull" not in bank[IDS[1]].rows:
        reading, rendering = (
            part.replace('    hull = file.get_slice("hulls")[1]\n', "") for part in (reading, rendering)
        )
        names["hull"] = None
    if bank[IDS[1]].model.own_heads:
        rendering = rendering.replace("head, about", "{name: value[1] for name, value in head.items()}, about")
    exec(reading + rendering, names)
    assert torch.equal(names["planes"], bank[IDS[1]].planes())
    assert names["values"].shape == (128 * 128, bank[IDS[1]].model.autoencoder.latent_channels)
