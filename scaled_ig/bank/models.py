"""The shared parts of a version in a scene model, and the other way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.bank.blocks import read_shared, write_shared
from scaled_ig.bank.changes import changing
from scaled_ig.bank.description import build, describe
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
        UsageError: It was written by another scaled-ig.
    """
    try:
        return build(version.model)
    except ValueError as error:
        raise UsageError(f"{folder}: version {version.name!r} cannot be built: {error}") from None


@torch.no_grad()
def copy_shared(folder: Path, version: BankVersion, scene: SceneModel) -> None:
    """Give a model what the scenes of a version share; see :meth:`scaled_ig.bank.scene_bank.SceneBank.load_shared`."""
    shared, _ = read_shared(folder, version)
    target = scene.shared_state()
    shapes, wanted = ({name: tuple(value.shape) for name, value in state.items()} for state in (shared, target))
    if shapes != wanted:
        name = min(name for name in shapes.keys() | wanted if shapes.get(name) != wanted.get(name))
        raise UsageError(
            f"{folder}: version {version.name!r} does not fit this scene model ({name}: {shapes.get(name)} there, "
            f"{wanted.get(name)} here): use the representation and autoencoder that it was trained with"
        )
    for name, value in target.items():
        value.copy_(shared[name])


def replace_shared(folder: Path, versions: Sequence[str], scene: SceneModel) -> None:
    """See :meth:`scaled_ig.bank.scene_bank.SceneBank.replace_shared`."""
    with changing(folder, with_scenes=False) as change:
        new = {}
        for version in versions:
            if version not in change.index.versions:
                raise UsageError(f"{folder} holds no version {version!r}; it holds {', '.join(change.index.versions)}")
            old = change.index.versions[version]
            mean = read_shared(folder, old)[1]
            shapes = {name: table.row_shape for name, table in scene.representation.scene_tables().items()}
            if shapes != {name: tuple(row.shape) for name, row in mean.items()}:
                raise UsageError(f"version {version!r} of {folder} has scenes of other shapes: {shapes} do not fit")
            digest = write_shared(folder, scene.shared_state(), mean)
            new[version] = replace(old, model=describe(scene), shared_sha256=digest)
        change.commit(change.index.versions | new)


def versions_with_shared_parts_of(folder: Path, versions: dict[str, BankVersion], version: str) -> list[str]:
    """Names of the versions whose shared parts are those of ``version``, whatever their reference rows."""
    wanted = read_shared(folder, versions[version])[0]
    return [
        name
        for name, other in versions.items()
        if (shared := read_shared(folder, other)[0]).keys() == wanted.keys()
        and all(torch.equal(shared[key], value) for key, value in wanted.items())
    ]
