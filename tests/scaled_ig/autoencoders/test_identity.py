"""Without an autoencoder latents are the images."""

import torch

from scaled_ig.autoencoders import IdentityAutoencoder


def test_nothing_changes_and_nothing_is_trained():
    identity, images = IdentityAutoencoder(), torch.rand(2, 3, 8, 8)
    for change in (identity.encode, identity.decode, identity.normalise, identity.denormalise):
        assert torch.equal(change(images), images)
    assert not [*identity.encoder_parameters(), *identity.decoder_parameters(), *identity.parameters()]
