"""From a pack to the batches of a phase: which scenes a stage trains, their views, and in which order these come."""
