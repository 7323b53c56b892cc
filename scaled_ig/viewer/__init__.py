"""Scenes of banks and views of packs in a browser."""
