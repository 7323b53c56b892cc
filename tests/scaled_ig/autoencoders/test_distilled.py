"""The small decoder starts as the best linear map, and is a part of its own."""

import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder, KLAutoencoder, SmallAutoencoder
from scaled_ig.autoencoders.distilled import SmallDecoder
from scaled_ig.errors import UsageError
from tests.scaled_ig.autoencoders.test_kl import CONFIG


@pytest.mark.parametrize("downsampling", [2, 6, 8])
def test_the_linear_start_is_the_least_squares_map_of_patches(downsampling):
    generator = torch.Generator().manual_seed(0)
    latents = torch.rand(5, 4, 7, 7, generator=generator) - 0.5
    latents[:, 3] = latents[:, 0]  # of less than full rank, as latents of little variety are
    side = 7 * downsampling
    images = torch.rand(5, 3, side, side, generator=generator)
    decoder = SmallDecoder(4, downsampling, channels=8)
    decoder.fit_linear(latents, images)
    with torch.no_grad():
        decoded = decoder(latents)
    assert decoded.shape == images.shape
    patches = images.double().unflatten(2, (7, downsampling)).unflatten(4, (7, downsampling))
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(5 * 49, -1)
    inputs = torch.cat([latents.double().permute(0, 2, 3, 1).reshape(5 * 49, 4), torch.ones(5 * 49, 1)], 1)
    fitted = inputs @ torch.linalg.lstsq(inputs, patches, driver="gelsd").solution
    expected = fitted.view(5, 7, 7, 3, downsampling, downsampling).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
    torch.testing.assert_close(decoded.double(), expected, rtol=0, atol=1e-5)


@pytest.fixture(params=["kl", "small"])
def make(request):
    """Makes an autoencoder with a small decoder of so many channels, or with none."""
    if request.param == "small":
        return lambda channels=None: SmallAutoencoder(4, 5, width=8, blocks=1, small_decoder_channels=channels)
    pytest.importorskip("diffusers")
    return lambda channels=None: KLAutoencoder(config=CONFIG, small_decoder_channels=channels)


def test_it_is_a_part_of_its_own(make):
    autoencoder, without = make(8), make()
    parts = (autoencoder.encoder_parameters, autoencoder.decoder_parameters, autoencoder.small_decoder_parameters)
    found = [id(parameter) for part in parts for parameter in part()]
    assert sorted(found) == sorted(id(parameter) for parameter in autoencoder.parameters())
    assert len(list(autoencoder.small_decoder_parameters())) > 0
    assert [name for name in autoencoder.state_dict() if "small_decoder" not in name] == list(without.state_dict())
    assert not list(without.small_decoder_parameters())


def test_it_decodes_normalised_latents_and_can_learn(make):
    autoencoder = make(8)
    size = 32 // autoencoder.downsampling
    latents = torch.rand(2, autoencoder.latent_channels, size, size)
    images = autoencoder.decode_small(latents)
    assert images.shape == (2, 3, 32, 32)
    torch.testing.assert_close(images, autoencoder.small_decoder(latents))
    images.square().mean().backward()
    *_, last = autoencoder.small_decoder.residual.parameters()
    assert last.grad.abs().sum() > 0


def test_without_one_the_way_out_is_named(make):
    for autoencoder in (make(), IdentityAutoencoder()):
        with pytest.raises(UsageError, match=r"no small decoder: .*distillation phase .*small_decoder_channels"):
            autoencoder.decode_small(torch.zeros(1, 5, 8, 8))
