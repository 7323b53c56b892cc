"""Readers of scenes, one a format: meshes, ShapeNetCore, Basel Face Model, posed images."""
