"""Scaled inverse graphics: learn large sets of 3D scenes at the lowest time and memory per scene.

Docstrings cite the sections of ``docs/method.md`` as *method N*.
"""

__version__ = "0.1.0"
