"""What a set of scenes is made of."""

from scaled_ig.representations.base import PlaneRepresentation, SceneRepresentation
from scaled_ig.representations.micro_macro import MicroMacro
from scaled_ig.representations.triplanes import TriPlanes

__all__ = ["MicroMacro", "PlaneRepresentation", "SceneRepresentation", "TriPlanes"]
