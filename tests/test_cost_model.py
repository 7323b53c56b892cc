"""The cost model counts what real models, records and checkpoints weigh, and docs/scale.md says what it prints."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import cost_model as model  # noqa: E402
import cost_model_report as report  # noqa: E402
from cost_model import PAPER, QUICKSTART, Sizes  # noqa: E402

from data_modules.layout import split_views  # noqa: E402
from scaled_ig.autoencoders import KLAutoencoder, SmallAutoencoder  # noqa: E402
from scaled_ig.bank.scene_records import encode  # noqa: E402
from scaled_ig.metrics.costs import bytes_per_scene, shared_bytes  # noqa: E402
from scaled_ig.rendering.sampling import InsideBall  # noqa: E402
from scaled_ig.representations import MicroMacro  # noqa: E402
from scaled_ig.scene_model import SceneModel  # noqa: E402

STABLE_DIFFUSION = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TINY = Sizes("tiny", 8, 4, 6, 3, 10, 9, 1, 32, (5, 8), 0, 0)


def representation(sizes: Sizes) -> MicroMacro:
    """What scenes of these sizes are."""
    return MicroMacro(sizes.micro_channels, sizes.macro_channels, sizes.num_bases, sizes.plane_resolution)


@pytest.fixture(scope="module")
def real() -> dict[str, SceneModel]:
    """Models of the papers' size, its autoencoder without memory, and of the quickstart."""
    small = SmallAutoencoder(patch_size=4, latent_channels=12)
    with torch.device("meta"):
        large = KLAutoencoder(config=STABLE_DIFFUSION)
    return {
        "paper": SceneModel(representation(PAPER), large, InsideBall(24)),
        "quickstart": SceneModel(representation(QUICKSTART), small, InsideBall(16)),
    }


@pytest.mark.parametrize("sizes", [PAPER, QUICKSTART], ids=lambda sizes: sizes.name)
def test_bytes_are_those_of_real_models(real, sizes):
    scene = real[sizes.name]
    assert model.row_bytes(sizes) == sum(bytes_per_scene_of(scene).values())
    shared = shared_bytes(scene)
    assert model.shared_bytes(sizes) == {name: shared[name] for name in model.shared_bytes(sizes)}
    assert sizes.latent == (scene.autoencoder.latent_channels, scene.latent_resolution)
    train, test = split_views(sizes.views, "first")
    watched = 2 if sizes is QUICKSTART else 0  # val_fraction 0.05 of 36
    assert (sizes.train_views, sizes.test_views) == (len(train) - watched, len(test))


def bytes_per_scene_of(scene: SceneModel) -> dict[str, int]:
    scene.representation.new_scenes(1, seed=0)
    return bytes_per_scene(scene)


@pytest.mark.parametrize("encoding", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("sizes", [PAPER, QUICKSTART], ids=lambda sizes: sizes.name)
def test_bytes_are_those_of_real_records(sizes, encoding):
    planes = torch.randn(3, sizes.plane_resolution, sizes.plane_resolution, sizes.micro_channels)
    rows = {"micro": planes, "mixing": torch.randn(sizes.num_bases)}
    assert len(encode(rows, encoding, rows)) == model.record_bytes(sizes, encoding)


def test_records_of_the_papers_size():
    assert model.record_bytes(PAPER, "float32") == 491_720
    assert model.record_bytes(PAPER, "int8") == 123_200


def test_bytes_are_those_of_a_real_checkpoint(tiny_run):
    """Of every state that has one row a scene; there are four scenes."""
    path = tiny_run / "checkpoints/latent_supervision/final.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    rows = [
        value for name, value in checkpoint["state_dict"].items() if name.endswith(("micro.weight", "mixing.weight"))
    ]
    (state,) = checkpoint["optimizer_states"]
    for group in state["param_groups"]:
        rows += [value for key in group["params"] if group["rows"] for value in state["state"][key].values()]
    assert len(rows) == 2 + 2 * 3
    assert sum(value.nbytes for value in rows) == 4 * model.checkpoint_bytes(TINY)


def test_bytes_are_those_of_real_latents(tiny_run):
    files = list((tiny_run / "latents/stage2").glob("*.safetensors"))
    content = 4 * model.latent_bytes(TINY)
    assert files
    assert content < sum(file.stat().st_size for file in files) < content + 1000 * len(files)


def test_a_run_keeps_two_checkpoints_of_a_phase(tiny_run):
    phases = ("latent_supervision", "rgb_alignment")
    names = [file.name for name in phases for file in (tiny_run / "checkpoints" / name).iterdir()]
    assert sorted(names) == ["final.ckpt", "final.ckpt", "last.ckpt", "last.ckpt"]


def test_time_is_linear_beyond_stage_1():
    plan = model.Plan("", "", t1=100.0, tau=8.0, serial=0.5)
    assert model.total_seconds(plan, 500, 1) == 100
    assert model.total_seconds(plan, 1500, 1) == 100 + 1000 * 8.5
    assert model.total_seconds(plan, 1500, 4) == 100 + 1000 * 2.5


def test_steps_are_the_papers():
    assert model.steps(PAPER, 1500, 30, 32) == 1500 * 135
    assert model.steps(PAPER, 1500, 50, 32) == 1500 * 225


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (7.864e9, "7.86 GB"), (1.12e18, "1,120 PB")]
)
def test_sizes_are_readable(count, text):
    assert report.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(600, "10 min"), (7200, "2 h"), (2 * 86400, "2 d"), (1e9, "32 y")])
def test_times_are_readable(seconds, text):
    assert report.duration(seconds) == text


@pytest.mark.parametrize("name", list(report.tables()))
def test_the_page_says_what_the_model_says(name):
    assert report.tables()[name] in (ROOT / "docs/scale.md").read_text()
