"""The shared parts of a version in a scene model, and the other way."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.bank.blocks import read_shared
from scaled_ig.bank.description import build
from scaled_ig.bank.index import BankVersion
from scaled_ig.errors import UsageError
from scaled_ig.scene_model import SceneModel


def build_version(folder: Path, version: BankVersion) -> tuple[SceneModel, dict[str, Tensor]]:
    """The model of a version, with room for one scene, and the reference row of each table.

    Raises:
        UsageError: Its file is missing or damaged, or it was written by another scaled-ig.
    """
    shared, mean = read_shared(folder, version)
    model = build_described(folder, version)
    missing, unexpected = model.load_state_dict(shared, strict=False)
    if unexpected or model.shared_state().keys() & missing:
        raise UsageError(f"{folder / version.shared_file} does not fit its description: copy the bank again")
    model.representation.new_scenes(1)
    return model.eval().requires_grad_(False), mean


def build_described(folder: Path, version: BankVersion) -> SceneModel:
    """The model of a version with new weights and no scenes.

    Raises:
        UsageError: It was written by another scaled-ig, or is damaged.
    """
    try:
        return build(version.model)
    except ValueError as error:
        raise UsageError(
            f"{folder}: version {version.name!r} cannot be built, {error}: copy the bank again, or use the scaled-ig "
            "that wrote it"
        ) from None


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
