"""The shared parts of a version in a scene model, and the other way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scaled_ig.bank.blocks import read_shared
from scaled_ig.bank.description import build
from scaled_ig.bank.index import BankVersion
from scaled_ig.errors import UsageError
from scaled_ig.scene_model import SceneModel

SPARE_BYTES = 1 << 28


def build_version(folder: Path, version: BankVersion) -> tuple[SceneModel, dict[str, Tensor]]:
    """The model of a version, without scenes, and the reference row of each table.

    Raises:
        UsageError: Its file is missing or damaged, or it was written by another scaled-ig.
    """
    shared, mean = read_shared(folder, version)
    model = build_described(folder, version)
    try:
        missing, unexpected = model.load_state_dict(shared, strict=False)
    except RuntimeError:  # of tensors of other shapes
        missing, unexpected = [], list(shared)
    rows = {name: table.row_shape for name, table in model.representation.scene_tables().items()}
    has_other_rows = rows != {name: tuple(row.shape) for name, row in mean.items()}
    if unexpected or model.shared_state().keys() & missing or has_other_rows:
        raise UsageError(f"{folder / version.shared_file} does not fit its description: copy the bank again")
    return model.eval().requires_grad_(False), mean


def build_described(folder: Path, version: BankVersion) -> SceneModel:
    """The model of a version with new weights and no scenes.

    Raises:
        UsageError: It is damaged, of another scaled-ig, or claims to be larger than the file of its shared parts.
    """
    try:
        size = (folder / version.shared_file).stat().st_size
        with _AtMost(SPARE_BYTES + 16 * size):
            return build(version.model)
    except OSError as error:
        raise UsageError(f"{folder / version.shared_file} cannot be read ({error}): copy the bank again") from None
    except ValueError as error:
        raise UsageError(
            f"{folder}: version {version.name!r} cannot be built, {error}: copy the bank again, or use the scaled-ig "
            "that wrote it"
        ) from None


class _AtMost(TorchDispatchMode):
    """Ends with a ValueError before tensors are made that have more bytes together."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self.left = most_bytes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and only to say so torch would import its compiler: seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], list | tuple) and all(isinstance(side, int) for side in args[0]):
            self._take(4 * math.prod(args[0]))  # a factory, whose first argument is the shape
        return func(*args, **(kwargs or {}))

    def _take(self, num_bytes: int) -> None:
        self.left -= num_bytes
        if self.left < 0:
            raise ValueError("its tensors are many times larger than the file of its shared parts")


@torch.no_grad()
def copy_shared(folder: Path, version: BankVersion, model: SceneModel) -> None:
    """Give a model what the scenes of a version share; see :meth:`scaled_ig.bank.scene_bank.SceneBank.load_shared`."""
    shared, _ = read_shared(folder, version)
    target = model.shared_state()
    shapes, target_shapes = ({name: tuple(value.shape) for name, value in state.items()} for state in (shared, target))
    if shapes != target_shapes:
        name = min(name for name in shapes.keys() | target_shapes if shapes.get(name) != target_shapes.get(name))
        raise UsageError(
            f"{folder}: version {version.name!r} does not fit this scene model ({name}: {shapes.get(name)} there, "
            f"{target_shapes.get(name)} here): use the representation and autoencoder that it was trained with"
        )
    for name, value in target.items():
        value.copy_(shared[name])
