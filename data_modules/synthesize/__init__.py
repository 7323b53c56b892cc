"""Default data made from nothing: procedural cars and a morphable head, in the formats that the readers read."""
