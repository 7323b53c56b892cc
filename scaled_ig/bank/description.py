"""A scene model as plain values, so that what was saved can be opened without the configuration that made it."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from scaled_ig import autoencoders, representations
from scaled_ig.allowed import class_in
from scaled_ig.errors import UsageError
from scaled_ig.rendering import sampling
from scaled_ig.scene_model import SceneModel

_PARTS = {
    "representation": (representations, representations.SceneRepresentation),
    "autoencoder": (autoencoders, autoencoders.Autoencoder),
    "sampling": (sampling, sampling.SamplingPlan),
}


def _arguments(part: object) -> dict[str, Any]:
    """Constructor arguments of an object that keeps each under its own name."""
    if type(part).__init__ is nn.Module.__init__:
        return {}
    return {name: getattr(part, name) for name in inspect.signature(type(part)).parameters}


def describe(model: SceneModel) -> dict[str, Any]:
    """Classes and constructor arguments of the model's parts: builtin types only."""
    parts = {
        "representation": model.representation,
        "autoencoder": model.autoencoder,
        "sampling": model.renderer.sampling,
    }
    described = {name: {"class": type(part).__name__, "arguments": _arguments(part)} for name, part in parts.items()}
    hidden = model.renderer.head.hidden.out_features
    return {**described, "hidden_channels": hidden, "resolution": model.resolution, "own_heads": model.own_heads}


def build(description: dict[str, Any]) -> SceneModel:
    """The model of a description, with new weights and no scenes.

    Raises:
        UsageError: It names a class that this version does not have, or arguments that do not make one.
    """
    try:
        parts = {
            name: class_in(module, description[name]["class"], base)(**description[name]["arguments"])
            for name, (module, base) in _PARTS.items()
        }
        return SceneModel(
            **parts,
            hidden_channels=description["hidden_channels"],
            resolution=description["resolution"],
            own_heads=description.get("own_heads", False),  # older descriptions do not say
        )
    except (KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"its description makes no model ({type(error).__name__}: {reason})") from None
