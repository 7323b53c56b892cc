"""Folders of diffusers: read whole, or refused with what is wrong with them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scaled_ig.autoencoders import KLAutoencoder, TinyAutoencoder
from scaled_ig.errors import UsageError
from tests.scaled_ig.autoencoders.test_kl import CONFIG as KL
from tests.scaled_ig.autoencoders.test_tiny import CONFIG as TINY

diffusers = pytest.importorskip("diffusers")
WEIGHTS = "diffusion_pytorch_model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 334643276\n"


@pytest.fixture(params=[(KLAutoencoder, KL), (TinyAutoencoder, TINY)], ids=["kl", "tiny"])
def kind(request):
    """An autoencoder and the configuration of its network."""
    return request.param


@pytest.fixture
def made(kind):
    torch.manual_seed(0)
    return kind[0](config=kind[1])


@pytest.fixture
def folder(made, tmp_path) -> Path:
    made.network.save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def configure(folder: Path, **values) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refusal(kind, folder: Path, **options) -> str:
    with pytest.raises(UsageError) as caught:
        kind[0](str(folder), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("place", ["", "vae"])
def test_weights_are_read_from_a_folder_or_one_in_it(kind, made, tmp_path, place):
    made.network.save_pretrained(tmp_path / place)
    loaded, state = kind[0](str(tmp_path), subfolder="vae").state_dict(), made.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_half_precision_is_read_in_float32_when_its_variant_is_asked_for(kind, made, tmp_path):
    made.network.half().save_pretrained(tmp_path, variant="fp16")
    assert "only diffusion_pytorch_model.fp16.safetensors: give --scene.autoencoder.init_args.variant fp16" in refusal(
        kind, tmp_path
    )
    loaded = kind[0](str(tmp_path), variant="fp16").network.state_dict()
    for name, value in made.network.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], value.float())
    (tmp_path / "diffusion_pytorch_model.fp16.safetensors").rename(tmp_path / WEIGHTS)
    assert "variant null" in refusal(kind, tmp_path, variant="fp16")
    assert torch.equal(kind[0](str(tmp_path)).network.state_dict()[name], value.float())


def prefixed(weights):
    return {f"first_stage_model.{name}": value for name, value in weights.items()}


def decoder_alone(weights):
    return {name: value for name, value in weights.items() if name.startswith("decoder.")}


def one_renamed(weights):
    first = min(weights)
    return {("elsewhere" if name == first else name): value for name, value in weights.items()}


def one_more(weights):
    return weights | {"teacher.weight": torch.zeros(3)}


def transposed(weights):
    name = next(name for name, value in sorted(weights.items()) if value.ndim > 1 and value.shape[0] != value.shape[1])
    return weights | {name: weights[name].transpose(0, 1).contiguous()}


@pytest.mark.parametrize("change", [prefixed, decoder_alone, one_renamed, one_more, transposed])
def test_weights_that_are_not_those_of_the_network_are_listed(kind, folder, change):
    before = load_file(folder / WEIGHTS)
    rewrite(folder, change)
    after, message = load_file(folder / WEIGHTS), refusal(kind, folder)
    missing, unexpected = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    changed = [name for name in before.keys() & after.keys() if before[name].shape != after[name].shape]
    assert (f"{len(missing)} missing" in message) == bool(missing)
    assert (f"{len(unexpected)} unexpected" in message) == bool(unexpected)
    assert ("of other shapes" in message) == bool(changed)
    assert all(name in message for name in (*missing[:4], *unexpected[:4], *changed[:4]))
    assert str(folder / WEIGHTS) in message


def test_every_weight_counts(kind, folder):
    weights = load_file(folder / WEIGHTS)
    for name in sorted(weights)[:: max(1, len(weights) // 6)]:
        save_file({other: value for other, value in weights.items() if other != name}, folder / WEIGHTS)
        assert f"1 missing ({name})" in refusal(kind, folder)


def test_weights_that_are_not_finite_are_named(kind, folder):
    rewrite(folder, lambda weights: weights | {min(weights): torch.full_like(weights[min(weights)], torch.inf)})
    assert f"not finite ({min(load_file(folder / WEIGHTS))})" in refusal(kind, folder)


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_files_that_are_cut_short_are_named(kind, folder, part):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(part * len(content))])
    message = refusal(kind, folder)
    assert str(folder / WEIGHTS) in message
    assert "cut short or no safetensors; download it again" in message


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_pointers_are_named(kind, folder, name):
    (folder / name).write_bytes(POINTER)
    message = refusal(kind, folder)
    assert str(folder / name) in message
    assert "is a Git LFS pointer, not the file itself: run git lfs pull" in message


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '{"model_type": 3, "_class_name": 4}'])
def test_a_broken_configuration_is_named(kind, folder, content):
    (folder / "config.json").write_text(content)
    assert str(folder / "config.json") in refusal(kind, folder)


@pytest.mark.parametrize(
    "values",
    [
        {"latent_channels": "four"},
        {"latent_channels": 0},
        {"latent_channels": -4},
        {"latent_channels": 1 << 40},
        {"act_fn": "nothing"},
        {"in_channels": 1},
        {"out_channels": 4},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_such_network_is_refused(kind, folder, values):
    configure(folder, **values)
    refusal(kind, folder)


def test_sizes_beyond_the_weights_take_no_memory(kind, folder):
    key = "block_out_channels" if kind[0] is KLAutoencoder else "encoder_block_out_channels"
    configure(folder, **{key: [1 << 16] * 4})
    assert "more than diffusion_pytorch_model.safetensors can hold" in refusal(kind, folder)


def test_other_classes_are_named(kind, folder):
    other = "AutoencoderTiny" if kind[0] is KLAutoencoder else "AutoencoderKL"
    served = {"AutoencoderTiny": "TinyAutoencoder", "AutoencoderKL": "KLAutoencoder"}
    configure(folder, _class_name=other)
    assert f"asks for {other}, and" in refusal(kind, folder)
    assert f"--scene.autoencoder {served[other]}" in refusal(kind, folder)
    configure(folder, _class_name="VQModel")
    assert "asks for VQModel" in refusal(kind, folder)


def test_absent_files_are_named(kind, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights = (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    assert f"no {WEIGHTS} in the folder {folder}, only {weights.name}" in refusal(kind, folder)
    named = (folder / "config.json").rename(folder / "unnamed")
    assert f"no config.json in the folder {folder}, only {weights.name}: put the config.json" in refusal(kind, folder)
    named.rename(folder / "config.json")
    weights.unlink()
    missing = rf"no {kind[0].network_class} (config.json and {WEIGHTS}) in the folder {folder}: download "
    assert missing in refusal(kind, folder)
    (folder / "config.json").unlink()
    assert missing in refusal(kind, folder)
    assert "config.json is a file" not in refusal(kind, folder)
    inside = folder / "elsewhere"
    inside.mkdir()
    (inside / "config.json").write_text("{}")
    assert "only in elsewhere of it: give --scene.autoencoder.init_args.subfolder elsewhere" in refusal(kind, folder)
    assert "is a file: give the folder" in refusal(kind, inside / "config.json")
    assert "there is no such folder" in refusal(kind, tmp_path / "nowhere")


def test_old_names_of_attention_are_read(folder, kind, made):
    """Stable Diffusion's own file has them."""
    if kind[0] is not KLAutoencoder:
        pytest.skip("it has no attention")
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def rename(name: str) -> str:
        for new, before in old.items():
            name = name.replace(new, before)
        return name

    rewrite(folder, lambda weights: {rename(name): value for name, value in weights.items()})
    assert sum(".query." in name for name in load_file(folder / WEIGHTS)) == 4
    loaded = kind[0](str(folder)).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in made.state_dict().items())
