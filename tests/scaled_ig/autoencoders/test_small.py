"""The small autoencoder starts as the principal components of patches."""

import numpy as np
import pytest
import torch

from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from tests.conftest import see_balls


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = np.random.default_rng(0)
    places, colours = generator.uniform(-0.3, 0.3, (6, 3)), generator.uniform(0, 1, (6, 3))
    return 2 * see_balls(orbit(10), 32, places, [0.15] * 6, colours) - 1


def reconstruct(autoencoder: SmallAutoencoder, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return autoencoder.decode(autoencoder.encode(images))


@pytest.mark.parametrize(("patch_size", "channels"), [(4, 5), (8, 12)])
def test_the_start_is_the_pca_projection_of_patches(images, patch_size, channels):
    autoencoder = SmallAutoencoder(patch_size, channels, width=8, blocks=1)
    at_random = float((reconstruct(autoencoder, images) - images).square().mean())
    autoencoder.start_from_pca(images)
    side = 32 // patch_size
    patches = images.double().unflatten(2, (side, patch_size)).unflatten(4, (side, patch_size))
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * patch_size**2).numpy() - 1
    fitted = patches[np.abs(patches).sum(1) > 0.5]
    components = np.linalg.eigh(fitted.T @ fitted)[1][:, -channels:]
    expected = float(((patches @ components @ components.T - patches) ** 2).mean())
    measured = float((reconstruct(autoencoder, images) - images).square().mean())
    assert measured == pytest.approx(expected, rel=1e-3)
    assert measured < at_random / 4


def test_white_stays_white(images):
    autoencoder = SmallAutoencoder(4, 5, width=8, blocks=1)
    autoencoder.start_from_pca(images)
    white = torch.ones(1, 3, 32, 32)
    torch.testing.assert_close(reconstruct(autoencoder, white), white, rtol=0, atol=1e-4)
    torch.testing.assert_close(autoencoder.encode(white).detach(), torch.zeros(1, 5, 8, 8), rtol=0, atol=1e-4)


def test_the_residual_starts_as_nothing_and_can_learn(images):
    autoencoder = SmallAutoencoder(4, 5, width=8, blocks=1)
    torch.testing.assert_close(autoencoder.encode(images), autoencoder.linear_encoder(images))
    (autoencoder.decode(autoencoder.encode(images)) - images).square().mean().backward()
    for network in (autoencoder.residual_encoder, autoencoder.residual_decoder):
        assert list(network.parameters())[-1].grad.abs().sum() > 0


def test_the_normaliser_brings_training_latents_into_the_range_and_has_an_inverse():
    autoencoder = SmallAutoencoder(4, 5, width=8, blocks=1)
    scale, shift = torch.tensor([1.0, 10, 0.1, 3, 2])[:, None, None], torch.arange(5.0)[:, None, None]
    latents = torch.randn(20, 5, 8, 8, generator=torch.Generator().manual_seed(0)) * scale + shift
    autoencoder.measure_range(latents)
    normalised = autoencoder.normalise(latents)
    torch.testing.assert_close(autoencoder.denormalise(normalised), latents)
    inside = (normalised.abs() <= 1).float().mean((0, 2, 3))
    assert (inside > 0.998).all()
    assert (normalised.abs().amax((0, 2, 3)) > 0.8).all(), "the range is used"


def test_every_parameter_belongs_to_encoder_or_decoder():
    autoencoder = SmallAutoencoder(4, 5, width=8, blocks=1)
    encoder = [id(parameter) for parameter in autoencoder.encoder_parameters()]
    decoder = [id(parameter) for parameter in autoencoder.decoder_parameters()]
    assert sorted(encoder + decoder) == sorted(id(parameter) for parameter in autoencoder.parameters())


def test_images_of_nothing_but_white_cannot_start_it():
    with pytest.raises(UsageError, match="0 patches of the training views are not white, too few for 5 "):
        SmallAutoencoder(4, 5).start_from_pca(torch.ones(2, 3, 32, 32))


def test_networks_that_see_larger_patches_change_the_cost_and_not_the_latents(images):
    autoencoder = SmallAutoencoder(2, 5, width=8, blocks=1, network_patch_size=4)
    assert autoencoder.encode(images).shape == (10, 5, 16, 16)
    torch.testing.assert_close(autoencoder.encode(images), autoencoder.linear_encoder(images))
    latents = torch.randn(1, 5, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.nn.init.normal_(autoencoder.residual_decoder[-2].weight)
    autoencoder.decode(latents)[..., :4, :4].sum().backward()  # the first patch of the networks
    assert (latents.grad[..., :2, :2] != 0).all(), "all four latents of a patch tell of its pixels"


def test_networks_see_whole_patches_of_latents():
    with pytest.raises(UsageError, match=r"network_patch_size 6 must be a multiple of patch_size 4, e\.g\. 8$"):
        SmallAutoencoder(4, 5, network_patch_size=6)
