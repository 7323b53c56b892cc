"""Scaled inverse graphics: learn large sets of 3D scenes at the lowest time and memory per scene.

What a notebook needs stands here, and is imported when it is first used::

    import scaled_ig

    bank = scaled_ig.open("runs/demo")
    images = bank[bank.ids[0]].render(scaled_ig.orbit(8))

Docstrings cite the sections of ``docs/method.md`` as *method N*.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaled_ig.bank.scene_bank import SceneBank
    from scaled_ig.cameras import Cameras, orbit
    from scaled_ig.fitting import fit
    from scaled_ig.scene_model import SceneModel

    open = SceneBank.open

__version__ = "0.1.0"
__all__ = ["Cameras", "SceneBank", "SceneModel", "fit", "open", "orbit"]

_PLACES = {
    "Cameras": ("cameras", "Cameras"),
    "SceneBank": ("bank.scene_bank", "SceneBank"),
    "SceneModel": ("scene_model", "SceneModel"),
    "fit": ("fitting", "fit"),
    "open": ("bank.scene_bank", "SceneBank.open"),
    "orbit": ("cameras", "orbit"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"scaled_ig has no {name!r}; it has {', '.join(__all__)}")
    module, path = _PLACES[name]
    value: Any = importlib.import_module(f"scaled_ig.{module}")
    for part in path.split("."):
        value = getattr(value, part)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
