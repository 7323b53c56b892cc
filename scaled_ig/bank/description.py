"""A scene model as plain values, so that what was saved can be opened without the configuration that made it."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from scaled_ig import autoencoders, representations
from scaled_ig.allowed import class_in
from scaled_ig.autoencoders import Autoencoder
from scaled_ig.errors import UsageError
from scaled_ig.rendering import sampling
from scaled_ig.rendering.sampling import SamplingPlan
from scaled_ig.representations import SceneRepresentation
from scaled_ig.scene_model import SceneModel

_PARTS: dict[str, tuple[Any, type]] = {
    "representation": (representations, SceneRepresentation),
    "autoencoder": (autoencoders, Autoencoder),
    "sampling": (sampling, SamplingPlan),
}
# Largest numbers by their names: what is repeated so many times, or is so many pixels, samples or channels.
_MOST = {
    **dict.fromkeys(("blocks", "depth", "levels", "layers_per_block", "frequencies", "downsampling"), 256),
    **dict.fromkeys(("resolution", "num_samples", "num_stratified", "num_importance"), 4096),
    "width": 1024,
}
_MOST_OTHERS = 1 << 20
_LONGEST = 256  # of lists


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
    height, width = model.image_size
    resolution = height if height == width else [height, width]
    return {**described, "hidden_channels": hidden, "resolution": resolution, "own_heads": model.own_heads}


def build(description: dict[str, Any]) -> SceneModel:
    """The model of a description, with new weights and no scenes.

    Raises:
        UsageError: It names a class that this version does not have, arguments that do not make one, or numbers beyond
            reason.
    """
    _refuse_excess(description)
    try:
        parts: dict[str, Any] = {}
        for name, (module, base) in _PARTS.items():
            part, arguments = class_in(module, description[name]["class"], base), description[name]["arguments"]
            for key, parameter in inspect.signature(part).parameters.items():
                is_number = isinstance(arguments.get(key), int | float | None)
                if isinstance(parameter.default, int | float) and not is_number:
                    raise TypeError(f"{key} is no number")
            parts[name] = part(**arguments)
        return SceneModel(
            **parts,
            hidden_channels=description["hidden_channels"],
            resolution=description["resolution"],
            own_heads=description.get("own_heads", False),  # older descriptions do not say
        )
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"its description makes no model ({type(error).__name__}: {reason})") from None


def _refuse_excess(values: Any, name: str = "its description") -> None:
    """Anybody may have written a description; numbers of it become the sizes of tensors and of loops."""
    if isinstance(values, dict | list) and len(values) > _LONGEST:
        raise UsageError(f"{name} has {len(values):,} entries")
    if isinstance(values, dict):
        for key, value in values.items():
            _refuse_excess(value, key)
    elif isinstance(values, list):
        for value in values:
            _refuse_excess(value, name)
    elif isinstance(values, int | float) and name != "seed" and abs(values) > _MOST.get(name, _MOST_OTHERS):
        raise UsageError(f"{name} is {values:,}, more than {_MOST.get(name, _MOST_OTHERS):,}")
