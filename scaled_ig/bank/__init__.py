"""Trained scenes on disk, of any number, with all that is needed to render them."""
