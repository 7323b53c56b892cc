"""The optimiser of scene sets."""

from scaled_ig.optim.scene_adam import Clock, SceneAdam, coalesced

__all__ = ["Clock", "SceneAdam", "coalesced"]
