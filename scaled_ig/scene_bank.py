"""What users keep: every learned scene, and each version of the parts that scenes share.

A bank is a folder::

    index.json                      schema, the model's description, versions, one record a scene; written last
    shared-<version>.safetensors    autoencoder, head, bases, background
    scenes-<version>.safetensors    the scenes' own parameters, one row a scene in the order of the records

Stage 2 goes on changing the shared parts, so every scene names the version that it was learned with (method 5).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaled_ig.cameras import Cameras
from scaled_ig.description import build, describe
from scaled_ig.errors import UsageError
from scaled_ig.metrics import to_unit_range
from scaled_ig.renderer import Rendering
from scaled_ig.scene_model import SceneModel

SCHEMA = "scaled-ig-bank"
SCHEMA_VERSION = 1


def _digest(*tensors: Tensor) -> str:
    sha256 = hashlib.sha256()
    for tensor in tensors:
        sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def _replace(path: Path, write) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(temporary)
    temporary.chmod(0o644)  # safetensors would keep a bank to its owner
    os.replace(temporary, path)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say which file of a bank cannot be read."""
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}): copy the bank again") from None


@dataclass(frozen=True)
class BankScene:
    """One scene of a bank, ready to be rendered.

    Args:
        record: Its entry in the index: ``id``, ``version``, ``row``, ``sha256``, ``source_sha256``.
        rows: Its own parameters by name.
        model: The model of its version, which scenes of that version share: it holds one scene at a time.
    """

    record: dict[str, Any]
    rows: dict[str, Tensor]
    model: SceneModel

    @torch.no_grad()
    def render(self, cameras: Cameras) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] from any cameras."""
        return to_unit_range(self.model.render_image(cameras, self._enter(cameras)))

    @torch.no_grad()
    def render_latent(self, cameras: Cameras) -> Rendering:
        """Latent pixels, opacity and depth, before decoding."""
        return self.model.render(cameras, self._enter(cameras))

    def _enter(self, cameras: Cameras) -> Tensor:
        for name, table in self.model.representation.scene_tables().items():
            table.weight[0] = self.rows[name]
        return torch.zeros(len(cameras), dtype=torch.long)


class SceneBank:
    """A bank on disk. Opening reads the index alone.

    Args:
        path: Folder.
        index: Content of ``index.json``.
    """

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path, self.index = path, index
        self.records: dict[str, dict[str, Any]] = {record["id"]: record for record in index["scenes"]}
        self._model = lru_cache(maxsize=2)(self._load_model)

    @classmethod
    def open(cls, path: str | Path) -> SceneBank:
        """Open a bank.

        Raises:
            UsageError: There is none, or one that this version cannot read.
        """
        path = Path(path)
        try:
            index = json.loads((path / "index.json").read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is no scene bank ({error}): give the bank folder of a finished run") from None
        if index.get("schema") != SCHEMA or index.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(f"{path}/index.json is not {SCHEMA} version {SCHEMA_VERSION}: it needs another scaled-ig")
        return cls(path, index)

    @classmethod
    def write(
        cls, path: str | Path, scene: SceneModel, ids: list[str], version: str, source_sha256: list[str]
    ) -> SceneBank:
        """Add all scenes of a model as one version; a version of the same name is replaced.

        Collective: all ranks call it, rank 0 writes.

        Args:
            path: Folder, made where it is missing.
            scene: The model.
            ids: [num_scenes] unique over the bank.
            version: Name of this version of the shared parts.
            source_sha256: [num_scenes] digest of the views that each scene was learned from.
        """
        path = Path(path)
        tables = scene.representation.scene_tables()
        rows = {name: table.gather(table.weight).contiguous() for name, table in tables.items()}
        first_table = next(iter(tables.values()))
        if first_table.rank == 0:
            shared = {name: value.detach().cpu().contiguous() for name, value in scene.shared_state().items()}
            records = [
                {
                    "id": name,
                    "version": version,
                    "row": row,
                    "sha256": _digest(*(t[row] for t in rows.values())),
                    "source_sha256": source,
                }
                for row, (name, source) in enumerate(zip(ids, source_sha256, strict=True))
            ]
            path.mkdir(parents=True, exist_ok=True)
            _replace(path / f"shared-{version}.safetensors", lambda file: save_file(shared, file))
            _replace(path / f"scenes-{version}.safetensors", lambda file: save_file(rows, file))
            index = cls.open(path).index if (path / "index.json").exists() else {"scenes": [], "versions": {}}
            index |= {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
            index["versions"][version] = {
                "model": describe(scene),
                "sha256": _digest(*(shared[name] for name in sorted(shared))),
            }
            index["scenes"] = [record for record in index["scenes"] if record["version"] != version] + records
            _replace(path / "index.json", lambda file: file.write_text(json.dumps(index, indent=1)))
        return cls(path, json.loads((path / "index.json").read_text()) if first_table.rank == 0 else {"scenes": []})

    @property
    def ids(self) -> list[str]:
        """Ids of all scenes."""
        return list(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, scene_id: str) -> BankScene:
        """A scene by its id.

        Raises:
            UsageError: The bank does not hold it, or its record is damaged.
        """
        if scene_id not in self.records:
            known = ", ".join(self.ids[:5])
            raise UsageError(f"{self.path} holds no scene {scene_id!r}; it holds {len(self)} scenes: {known}, …")
        record = self.records[scene_id]
        model = self._model(record["version"])
        path = self.path / f"scenes-{record['version']}.safetensors"
        with _readable(path), safe_open(path, framework="pt") as file:
            rows = {name: file.get_slice(name)[record["row"]] for name in model.representation.scene_tables()}
        if _digest(*rows.values()) != record["sha256"]:
            raise UsageError(f"{self.path}: scene {scene_id!r} is damaged (its digest differs): copy the bank again")
        return BankScene(record, rows, model)

    @torch.no_grad()
    def load_version(self, version: str) -> SceneModel:
        """A model that holds all scenes of a version, in the order of their records.

        Raises:
            UsageError: The bank has no such version, or it is damaged.
        """
        if version not in self.index["versions"]:
            known = ", ".join(self.index["versions"])
            raise UsageError(f"{self.path} holds no version {version!r}; it holds {known}")
        model = self._load_model(version)
        file = self.path / f"scenes-{version}.safetensors"
        with _readable(file):
            rows = load_file(file)
        records = [record for record in self.index["scenes"] if record["version"] == version]
        model.representation.new_scenes(len(records))
        tables = model.representation.scene_tables()
        for record in records:
            if _digest(*(rows[name][record["row"]] for name in tables)) != record["sha256"]:
                raise UsageError(f"{file} is damaged (the digest of {record['id']!r} differs): copy the bank again")
        for name, table in tables.items():
            table.weight.copy_(rows[name][[record["row"] for record in records]])
        return model.requires_grad_(False)

    def _load_model(self, version: str) -> SceneModel:
        described, file = self.index["versions"][version], self.path / f"shared-{version}.safetensors"
        with _readable(file):
            model, shared = build(described["model"]), load_file(file)
        if _digest(*(shared[name] for name in sorted(shared))) != described["sha256"]:
            raise UsageError(f"{file} is damaged (its digest differs): copy the bank again")
        missing, unexpected = model.load_state_dict(shared, strict=False)
        own = {f"representation.{name}.weight" for name in model.representation.scene_tables()}
        if unexpected or set(missing) - own:
            raise UsageError(f"{file} does not fit its description: copy the bank again")
        model.representation.new_scenes(1)
        return model.eval().requires_grad_(False)
