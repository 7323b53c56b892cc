"""Scaled inverse graphics: learn large sets of 3D scenes at the lowest time and memory per scene."""

__version__ = "0.1.0"
