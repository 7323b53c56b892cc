"""The small decoder learns in a phase of its own, and RGB alignment may go through it."""

import csv

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.flop_counter import FlopCounterMode

from data_modules.shapenet import ShapeNetCars
from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.batch import to_unit_range
from scaled_ig.callbacks import TrainingClock
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import evaluate
from scaled_ig.metrics.images import psnr
from scaled_ig.phases import Distillation, Joint, LearningRates, RgbAlignment, RunSettings
from scaled_ig.phases.base import jitter
from scaled_ig.randomness import CounterNoise
from scaled_ig.scene_model import SceneModel
from tests.conftest import phase_data
from tests.rounding import checkpoint

pytestmark = pytest.mark.usefixtures("_own_folder")


@pytest.fixture
def _own_folder(tmp_path, monkeypatch):
    """Trainers keep their files in the present folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tiny_pack):
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=4)


@pytest.fixture
def scene(tiny_scene, data) -> SceneModel:
    made = tiny_scene()
    torch.manual_seed(1)
    made.autoencoder = SmallAutoencoder(4, 5, width=16, blocks=1, small_decoder_channels=8)
    images = torch.cat([batch.pixels for batch in data.some_training_views(36)])
    made.autoencoder.start_from_pca(images)
    with torch.no_grad():
        made.autoencoder.measure_range(made.autoencoder.encode(images))
    made.measure_background()
    return made


def train(phase, data, steps: int) -> Trainer:
    data = data.for_phase(phase_data(phase))
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[TrainingClock()],
    )  # fmt: skip
    trainer.fit(phase, datamodule=data)
    return trainer


def test_the_small_decoder_comes_near_the_full_one_and_nothing_else_moves(scene, data):
    before = {name: value.clone() for name, value in scene.state_dict().items()}
    (batch,) = data.batches(1, [(s, 0) for s in range(4)])  # test views

    @torch.no_grad()
    def distance() -> float:
        latents = scene.encode(batch.pixels)
        return float(psnr(*(to_unit_range(scene.decode(latents, which)) for which in ("small", "full"))).mean())

    at_random = distance()
    train(Distillation(scene), data, 1)
    linear = distance()
    train(Distillation(scene), data, 60)
    assert linear > at_random + 5, "it starts as the best linear map"
    assert distance() > linear, "and learns more"
    for name, value in scene.state_dict().items():
        assert torch.equal(value, before[name]) == ("small_decoder" not in name), name


def test_the_terms_of_distillation(scene, data):
    phase = Distillation(scene)
    train(phase, data, 1)
    (batch,) = data.batches(1, [(1, 4), (3, 2)])
    noise = CounterNoise(0, 5, 1)
    rendered = scene.render_latent(batch.cameras, batch.scene_index, jitter(phase.scene, batch, noise))
    expected = {"decoder": 0.0, "image": 0.0}
    with torch.no_grad():
        for latents in (rendered, scene.encode(batch.pixels)):  # as many of either kind
            images = scene.decode(latents, "small").clamp(-1, 1)
            expected["decoder"] += float((images - scene.decode(latents).clamp(-1, 1)).square().mean()) / 2
            expected["image"] += float((images - batch.pixels).square().mean()) / 2
    terms = phase.terms(batch, noise)
    assert {name: weight for name, (weight, _) in terms.items()} == {"decoder": 1.0, "image": 0.1}
    assert {name: float(value.detach()) for name, (_, value) in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_quality_is_told_with_either_decoder(scene, data):
    (batch,) = data.batches(1, [(2, 3)])
    (record,) = evaluate(scene, [batch])
    with torch.no_grad():
        latents = scene.render_latent(batch.cameras, batch.scene_index)
        for name, decoder in (("psnr", "full"), ("psnr_small", "small")):
            expected = float(psnr(to_unit_range(scene.decode(latents, decoder)), to_unit_range(batch.pixels)))
            assert record[name] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "frozen", "trained"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"learning_rates": LearningRates(decoder=0.0)}, False, False),
        ({"decoder": "small"}, False, False),
    ],
    ids=["trained", "shared_frozen", "no rate", "small"],
)
def test_alignment_computes_no_gradient_of_what_it_does_not_train(options, frozen, trained, scene, data):
    scene.autoencoder.small_decoder.fit_linear(torch.randn(4, 5, 8, 8), torch.randn(4, 3, 32, 32))
    phase = RgbAlignment(scene, RunSettings(shared_frozen=frozen), **options)
    before = {name: value.clone() for name, value in scene.state_dict().items()}
    train(phase, data, 1)
    moved = {name for name, value in scene.state_dict().items() if not torch.equal(value, before[name])}
    assert {"representation.micro.weight", "representation.mixing.weight"} <= moved
    moved = {name for name in moved if name.startswith("autoencoder.")}
    assert bool(moved) == trained
    assert all("_decoder" in name and "small_decoder" not in name for name in moved)
    latents = torch.zeros(1, 5, 8, 8, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        images = scene.decode(latents, phase.decoder)
    with FlopCounterMode(display=False) as backward:
        images.sum().backward()
    products = 2 if trained else 1  # gradient of the input, and that of the weights
    assert backward.get_total_flops() == products * forward.get_total_flops()
    assert latents.grad.abs().sum() > 0


def test_a_small_decoder_that_has_learned_nothing_is_refused(scene, data):
    with pytest.raises(UsageError, match="has learned nothing yet: train stage 1 with the distillation phase"):
        train(RgbAlignment(scene, decoder="small"), data, 1)


def test_the_joint_phase_decodes_once_a_step(scene, data, monkeypatch):
    batches: list[int] = []
    decode = scene.autoencoder.decode
    monkeypatch.setattr(
        scene.autoencoder, "decode", lambda latents: batches.append(len(latents)) or decode(latents), raising=True
    )
    train(Joint(scene), data, 3)
    assert batches == [8, 8, 8], "renderings and encodings of 4 views"


def test_without_a_small_decoder_the_way_out_is_named(tiny_scene):
    for phase in (lambda: Distillation(tiny_scene()), lambda: RgbAlignment(tiny_scene(), decoder="small")):
        with pytest.raises(UsageError, match="no small decoder"):
            phase()


def test_a_whole_run_whose_other_results_do_not_change(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    options = [
        "--scene.autoencoder.init_args.small_decoder_channels",
        8,
        "--phases.distillation.module",
        "Distillation",
    ]
    options += ["--phases.distillation.max_steps", 6, "--phases.rgb_alignment.module.init_args.decoder", "small"]
    run = ["fit", "--config", tiny_config, *options, "--run_dir", tmp_path / "run"]
    status, output = run_scaled_ig(*run)
    assert status == 0, output[-3000:]
    for phase in ("joint", "latent_supervision"):
        ours, theirs = (checkpoint(run, phase)["state_dict"] for run in (tmp_path / "run", tiny_run))
        assert theirs.keys() == {name for name in ours if "small_decoder" not in name}
        assert all(torch.equal(ours[name], value) for name, value in theirs.items()), phase
    phases = "distillation", "rgb_alignment"
    distilled, aligned = (checkpoint(tmp_path / "run", phase)["state_dict"] for phase in phases)
    assert all(torch.equal(distilled[name], aligned[name]) for name in aligned if "autoencoder" in name)
    with (tmp_path / "run" / "training.csv").open() as file:
        measured = {(row["phase"], row["name"]) for row in csv.DictReader(file)}
    assert {("rgb_alignment", "test/psnr"), ("rgb_alignment", "test/psnr_small")} <= measured
    bank = SceneBank.open(tmp_path / "run" / "bank")
    for version in ("stage1", "stage2"):
        kept = bank.load_version(version).autoencoder.state_dict()
        assert all(torch.equal(kept[name], distilled[f"scene.autoencoder.{name}"]) for name in kept), version
