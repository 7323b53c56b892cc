"""What a set of scenes is made of."""

from scaled_ig.representations.base import PlaneRepresentation, SceneRepresentation
from scaled_ig.representations.instant_ngp import InstantNgp
from scaled_ig.representations.kplanes import KPlanes
from scaled_ig.representations.micro_macro import MicroMacro
from scaled_ig.representations.tensorf import TensoRF
from scaled_ig.representations.triplanes import TriPlanes
from scaled_ig.representations.vanilla_nerf import VanillaNerf

__all__ = [
    "InstantNgp",
    "KPlanes",
    "MicroMacro",
    "PlaneRepresentation",
    "SceneRepresentation",
    "TensoRF",
    "TriPlanes",
    "VanillaNerf",
]
