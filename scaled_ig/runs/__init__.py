"""A run: what it is to do, its phases, and what it leaves in its folder."""
