"""A tiny AutoencoderKL with random weights: same code, same factor of 8."""

import pytest
import torch

from scaled_ig.autoencoders import KLAutoencoder
from scaled_ig.errors import UsageError

pytest.importorskip("diffusers")
CONFIG = {
    "block_out_channels": [8, 16, 16, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "sample_size": 32,
}


@pytest.fixture
def autoencoder() -> KLAutoencoder:
    torch.manual_seed(0)
    return KLAutoencoder(config=CONFIG)


@torch.no_grad()
def test_latents_are_eight_times_smaller_and_unscaled(autoencoder):
    images = 2 * torch.rand(2, 3, 32, 32) - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (2, 4, 4, 4)
    assert (autoencoder.downsampling, autoencoder.latent_channels) == (8, 4)
    network = autoencoder.network
    mean = network.quant_conv(network.encoder(images)).chunk(2, 1)[0]
    torch.testing.assert_close(latents, mean)
    decoded = network.decoder(network.post_quant_conv(latents))
    torch.testing.assert_close(autoencoder.decode(latents), decoded)


def test_the_normaliser_is_a_tanh_with_an_inverse(autoencoder):
    latents = torch.linspace(-150, 150, 1001)
    normalised = autoencoder.normalise(latents)
    torch.testing.assert_close(normalised, torch.tanh(0.02 * latents.double()).float())
    torch.testing.assert_close(autoencoder.denormalise(normalised), latents, rtol=1e-3, atol=1e-3)
    limit = float(torch.atanh(torch.tensor(1 - 1e-4).double()) / 0.02)
    assert float(autoencoder.denormalise(torch.tensor(1.002))) == pytest.approx(limit, rel=1e-3)


def test_encoder_and_decoder_are_trained_with_their_convolutions(autoencoder):
    network = autoencoder.network
    encoder = {id(parameter) for parameter in autoencoder.encoder_parameters()}
    decoder = {id(parameter) for parameter in autoencoder.decoder_parameters()}
    assert {id(parameter) for parameter in network.quant_conv.parameters()} <= encoder
    assert {id(parameter) for parameter in network.post_quant_conv.parameters()} <= decoder
    assert encoder | decoder == {id(parameter) for parameter in autoencoder.parameters()}
    assert not encoder & decoder


@torch.no_grad()
def test_a_sample_of_the_posterior_is_no_target_to_cache(autoencoder):
    sampled = KLAutoencoder(config=CONFIG, sample_posterior=True)
    sampled.load_state_dict(autoencoder.state_dict())
    images = 2 * torch.rand(1, 3, 32, 32) - 1
    assert autoencoder.is_deterministic
    assert torch.equal(autoencoder.encode(images), autoencoder.encode(images))
    assert not sampled.is_deterministic
    assert not torch.equal(sampled.encode(images), sampled.encode(images))
    draws = torch.stack([sampled.encode(images) for _ in range(200)])
    posterior = autoencoder.network.encode(images).latent_dist
    assert ((draws.mean(0) - posterior.mean).abs() < 6 * posterior.std / 200**0.5).all()


@pytest.mark.parametrize(
    ("values", "shift", "factor"),
    [
        ({"scaling_factor": 0.3611, "shift_factor": 0.1159}, 0.1159, 0.3611),
        ({"scaling_factor": 0.13025, "shift_factor": None}, 0.0, 0.13025),
        (
            {"scaling_factor": 0.5, "latents_mean": [1.0, -2.0, 0.0, 3.0], "latents_std": [8.0, 4.0, 5.0, 2.0]},
            torch.tensor([1.0, -2.0, 0.0, 3.0])[:, None, None],
            0.5 / torch.tensor([8.0, 4.0, 5.0, 2.0])[:, None, None],
        ),
    ],
    ids=["shift and scale", "scale", "per channel"],
)
def test_latents_of_other_networks_are_brought_to_the_papers_order(values, shift, factor):
    """What a diffusion model sees, divided by Stable Diffusion's factor, is what the papers' tanh was made for."""
    autoencoder = KLAutoencoder(config=CONFIG | values)
    latents = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0)) / factor + shift
    normalised = autoencoder.normalise(latents)
    torch.testing.assert_close(normalised, torch.tanh(0.02 * (latents - shift) * factor / 0.18215))
    torch.testing.assert_close(autoencoder.denormalise(normalised), latents, rtol=1e-3, atol=1e-3)
    assert 0.05 < float(normalised.std()) < 0.2


@pytest.mark.parametrize(
    "values",
    [
        {"scaling_factor": 0.0},
        {"scaling_factor": float("nan")},
        {"latents_std": [1.0, 2.0]},
        {"latents_std": [0.0] * 4},
    ],
    ids=str,
)
def test_a_scale_that_is_none_is_refused(values):
    with pytest.raises(UsageError, match="the autoencoder's configuration"):
        KLAutoencoder(config=CONFIG | values)
