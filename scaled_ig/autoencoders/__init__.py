"""Images to latents and back."""

from scaled_ig.autoencoders.base import Autoencoder, DecoderChoice
from scaled_ig.autoencoders.identity import IdentityAutoencoder
from scaled_ig.autoencoders.kl import KLAutoencoder
from scaled_ig.autoencoders.small import SmallAutoencoder
from scaled_ig.autoencoders.tiny import TinyAutoencoder

__all__ = [
    "Autoencoder",
    "DecoderChoice",
    "IdentityAutoencoder",
    "KLAutoencoder",
    "SmallAutoencoder",
    "TinyAutoencoder",
]
