"""Random AutoencoderTiny of TAESD's and its relatives' shapes."""

import copy
import json

import pytest
import torch

from data_modules.shapenet import ShapeNetCars
from scaled_ig.autoencoders import TinyAutoencoder
from scaled_ig.bank.description import build, describe
from scaled_ig.errors import UsageError
from scaled_ig.phases import LatentSupervision, WarmUp
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import TriPlanes
from scaled_ig.scene_model import SceneModel
from tests.scaled_ig.phases.test_phases import phase_data, train

pytest.importorskip("diffusers")


def configuration(latent_channels: int = 4, levels: int = 4, **values):
    """Of a small network that reduces images 2^(levels - 1) times."""
    stages = {f"{part}_block_out_channels": [8] * levels for part in ("encoder", "decoder")}
    stages |= {f"num_{part}_blocks": [1] * levels for part in ("encoder", "decoder")}
    return stages | {"latent_channels": latent_channels} | values


CONFIG = configuration()


@pytest.mark.parametrize("levels", [2, 4, 6])
@pytest.mark.parametrize("latent_channels", [4, 16, 32])
@torch.no_grad()
def test_images_keep_their_size_at_every_depth(latent_channels, levels):
    autoencoder = TinyAutoencoder(config=configuration(latent_channels, levels))
    factor = 2 ** (levels - 1)
    assert (autoencoder.downsampling, autoencoder.latent_channels) == (factor, latent_channels)
    images = 2 * torch.rand(2, 3, 64, 64) - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (2, latent_channels, 64 // factor, 64 // factor)
    torch.testing.assert_close(latents, autoencoder.network.encoder.layers((images + 1) / 2))
    assert autoencoder.decode(latents).shape == images.shape
    torch.testing.assert_close(autoencoder.decode(latents), autoencoder.network.decoder(latents))


@torch.no_grad()
def test_the_range_is_the_configurations_until_one_is_measured():
    autoencoder = TinyAutoencoder(config=CONFIG | {"latent_magnitude": 2, "latent_shift": 0.25})
    latents = 5 * torch.rand(3, 4, 8, 8) - 2.5
    scaled = latents / 4 + 0.25  # what diffusers' scale_latents maps to [0, 1]
    torch.testing.assert_close(autoencoder.network.scale_latents(latents), scaled.clamp(0, 1))
    torch.testing.assert_close(autoencoder.normalise(latents), 2 * scaled - 1)
    assert not autoencoder.measured
    latents *= torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None, None]
    autoencoder.measure_range(latents + 7)
    normalised = autoencoder.normalise(latents + 7)
    assert (normalised.abs() < 1).all()
    assert (normalised.abs().amax((0, 2, 3)) > 0.8).all()
    torch.testing.assert_close(autoencoder.denormalise(normalised), latents + 7, rtol=1e-4, atol=1e-4)
    assert autoencoder.measured


def scene_of(autoencoder) -> SceneModel:
    made = SceneModel(TriPlanes(3, 5), autoencoder, InsideBall(6), resolution=32)
    made.representation.new_scenes(4, seed=1)
    return made


@pytest.mark.parametrize("phase", [WarmUp, LatentSupervision])
def test_the_first_phase_measures_the_range_of_its_views_once(phase, tiny_pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=4)
    torch.manual_seed(0)
    scene = scene_of(TinyAutoencoder(config=CONFIG))
    twin = copy.deepcopy(scene.autoencoder)
    train(phase(scene), data, steps=2)
    views = data.for_phase(phase_data(phase(scene))).some_training_views(512)
    images = torch.cat([batch.pixels for batch in views])
    with torch.no_grad():
        twin.measure_range(twin.encode(images))
        torch.testing.assert_close(scene.autoencoder.half_range, twin.half_range)
        torch.testing.assert_close(scene.autoencoder.centre, twin.centre)
        torch.testing.assert_close(scene.background, scene.encode(torch.ones(1, 3, 32, 32))[0].mean((1, 2)))
        assert (scene.encode(images).abs() <= 1).float().mean() > 0.99
        scene.autoencoder.half_range.mul_(2)
    train(phase(scene), data, steps=1)
    torch.testing.assert_close(scene.autoencoder.half_range, 2 * twin.half_range)


@torch.no_grad()
def test_a_bank_describes_it():
    scene = scene_of(TinyAutoencoder(config=CONFIG, small_decoder_channels=4))
    scene.autoencoder.measure_range(torch.randn(2, 4, 4, 4))
    again = build(json.loads(json.dumps(describe(scene))))
    assert describe(again) == describe(scene)
    again.representation.new_scenes(4)
    again.load_state_dict(scene.state_dict())
    latents = torch.rand(1, 4, 4, 4)
    assert torch.equal(again.decode(latents), scene.decode(latents))
    assert again.autoencoder.measured


def test_encoder_and_decoder_are_trained_apart():
    autoencoder = TinyAutoencoder(config=CONFIG)
    encoder = {id(parameter) for parameter in autoencoder.encoder_parameters()}
    decoder = {id(parameter) for parameter in autoencoder.decoder_parameters()}
    assert encoder | decoder == {id(parameter) for parameter in autoencoder.parameters()}
    assert not encoder & decoder


def test_a_decoder_of_another_factor_is_refused():
    with pytest.raises(UsageError, match="decoder enlarges 27 times and its encoder reduces 8 times"):
        TinyAutoencoder(config=CONFIG | {"upsampling_scaling_factor": 3})
    with pytest.raises(UsageError, match=r"its configuration makes no AutoencoderTiny \(.*same length"):
        TinyAutoencoder(config=CONFIG | {"num_encoder_blocks": [1]})
