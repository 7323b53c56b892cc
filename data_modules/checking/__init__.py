"""Verifying packs, in processes of their own, and leaving out what is damaged."""
