"""Rays to pixels: where they are sampled, what is there, and how it adds up."""
