"""Default data made from nothing: procedural cars and a morphable head, in the formats that the readers read."""

LICENCE = "CC0-1.0"
"""Of what is drawn: this project drew it from random numbers, and keeps no rights to it."""
