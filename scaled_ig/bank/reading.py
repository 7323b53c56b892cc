"""Reading a bank: a mapping from ids to scenes. Safe from any number of threads, and in forked or spawned workers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from scaled_ig.bank.blocks import read_record, read_shared, read_start, require_held
from scaled_ig.bank.index import INDEX_FILE, BankVersion, Index
from scaled_ig.bank.models import build_version, copy_shared
from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_records import decode
from scaled_ig.bank.table import BankRecord, Origin, RecordTable
from scaled_ig.errors import UsageError
from scaled_ig.finite import names_not_finite
from scaled_ig.forks import fork_safe_lock
from scaled_ig.representations.view_start import ViewStart
from scaled_ig.scene_model import SceneModel

MOST_MODELS = 2
"""Models that are held, of versions that were asked for lately."""

_BUILDING = fork_safe_lock()  # one model at a time: it may be large, and its first weights are drawn at random


class MissingSceneError(UsageError, KeyError):
    """A bank does not hold a scene."""

    __str__ = UsageError.__str__  # a KeyError's is its repr


class BankReader(Mapping[str, BankScene]):
    """Scenes by id. Opening reads the index alone, whatever the number of scenes.

    Args:
        path: Folder.
        index: Content of ``index.json``.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.path = path
        self._use(index)

    def __reduce__(self) -> tuple[type[Self], tuple[Path, Index]]:
        return type(self), (self.path, self._index)  # workers connect for themselves

    __eq__ = object.__eq__  # a mapping's compares all scenes
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        names = list(self.versions)
        shown = ", ".join(names if len(names) <= 4 else [*names[:2], "…", names[-1]])
        return f"{type(self).__name__}({str(self.path)!r}: {len(self)} scenes of {shown or 'no version'})"

    def _use(self, index: Index) -> None:
        self._index, self._table = index, RecordTable(self.path / index.table)
        self._models: dict[str, SceneModel] = {}
        self._means: dict[str, dict[str, Tensor]] = {}

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a bank.

        Args:
            path: Its folder, or that of the run that wrote it.

        Raises:
            UsageError: There is none, it is damaged, or one that this version cannot read.
        """
        folder = bank_folder(path)
        return cls(folder, Index.read(folder))

    @property
    def versions(self) -> dict[str, BankVersion]:
        """Versions by name, in the order in which they were first written."""
        return self._index.versions

    @property
    def ids(self) -> list[str]:
        """Ids of all scenes, in order."""
        with self._unchanged():
            return self._table.ids()

    def newest(self) -> list[str]:
        """Ids of the scenes of the version that was written last, or of all waves where it is one of them.

        Raises:
            UsageError: The bank holds no scene.
        """
        records = self.scenes()
        if not records:
            raise UsageError(f"{self.path} holds no scenes: finish a phase of training first")
        newest = _without_wave(records[-1].version)
        return [record.id for record in records if _without_wave(record.version) == newest]

    def __len__(self) -> int:
        return sum(version.num_scenes for version in self.versions.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, scene_id: object) -> bool:
        with self._unchanged():
            return isinstance(scene_id, str) and self._table.find(scene_id) is not None

    def __getitem__(self, scene_id: str) -> BankScene:
        """A scene by its id.

        Raises:
            UsageError: The bank does not hold it, or its record is damaged or not finite.
        """
        with self._unchanged():
            record = self.record(scene_id)
            model = self._model(record.version)
            rows = {name: row[None] for name, row in self._rows(record, model).items()}
            return BankScene(record, model.of_rows(rows))

    def scenes(self, version: str | None = None) -> list[BankRecord]:
        """What the bank knows of its scenes, or of those of a version, in order."""
        with self._unchanged():
            return list(self._table.scenes(version))

    def record(self, scene_id: str) -> BankRecord:
        """What the bank knows of a scene.

        Raises:
            UsageError: The bank does not hold it.
        """
        if not isinstance(scene_id, str):
            raise MissingSceneError(
                f"{self.path} holds no scene {scene_id!r}: ask for one by its name, or for the data set, which counts"
            )
        with self._unchanged():
            record = self._table.find(scene_id)
            if record is None:
                examples = ", ".join(record.id for record in self._table.select("ORDER BY position LIMIT 5"))
                raise MissingSceneError(
                    f"{self.path} holds no scene {scene_id!r}; it holds {len(self)} scenes: {examples}, …"
                )
            return record

    def record_bytes(self, version: str | None = None) -> int:
        """Bytes of all records together, or of those of a version."""
        with self._unchanged():
            return self._table.total(version)

    def origins(self) -> dict[Origin, int]:
        """Numbers of scenes by category and licence."""
        with self._unchanged():
            return self._table.origins()

    def mean(self, version: str) -> dict[str, Tensor]:
        """Reference row of each table: the mean over the scenes of a version when it was written, or what was given.

        Raises:
            UsageError: There is no such version, or its file is damaged.
        """
        return {name: row.clone() for name, row in self._mean(version).items()}

    def view_start(self, version: str) -> ViewStart | None:
        """How new scenes of a version start from their own views; None where stage 1 fitted nothing.

        Raises:
            UsageError: There is no such version, or its file is damaged.
        """
        described = self._require(version)
        with self._unchanged():
            return read_start(self.path, described)

    @torch.no_grad()
    def load_version(self, version: str, ids: Iterable[str] | None = None) -> SceneModel:
        """A model that holds the scenes of a version.

        Args:
            version: Its name.
            ids: Which scenes, in this order; all in theirs where it is None.

        Raises:
            UsageError: The bank has no such version, the version has no such scene, or it is damaged.
        """
        self._require(version)
        with self._unchanged():
            records = self.scenes(version) if ids is None else [self._scene_of(version, name) for name in ids]
            require_held(self.path, records)
            model, mean = self._load_model(version), self._mean(version)
            model.representation.new_scenes(len(records), start=mean)
            tables = model.representation.scene_tables()
            for row, record in enumerate(records):
                for name, values in self._rows(record, model).items():
                    tables[name].weight[row] = values
        return model.requires_grad_(False)

    def load_shared(self, version: str, model: SceneModel) -> None:
        """Give a model what the scenes of a version share; its own scenes stay as they are.

        Raises:
            UsageError: There is no such version, it is damaged, or the model is another one.
        """
        self._require(version)
        with self._unchanged():
            copy_shared(self.path, self.versions[version], model)

    def _scene_of(self, version: str, scene_id: str) -> BankRecord:
        record = self._table.find(scene_id)
        if record is None or record.version != version:
            raise UsageError(f"version {version!r} of {self.path} holds no scene {scene_id!r}")
        return record

    def _rows(self, record: BankRecord, model: SceneModel) -> dict[str, Tensor]:
        content, mean = read_record(self.path, record), self._mean(record.version)
        try:
            rows = decode(content, self.versions[record.version].encoding, mean, model.representation.texels)
        except ValueError as error:
            raise UsageError(
                f"{self.path}: scene {record.id!r} cannot be read ({error}): copy the bank again"
            ) from None
        for name in names_not_finite(rows):
            raise UsageError(
                f"{self.path}: scene {record.id!r} is not finite ({name}): bank verify names all such scenes; "
                "learn them again with bank refit, or remove them with bank remove"
            )
        return rows

    def _require(self, version: str) -> BankVersion:
        if version not in self.versions:
            names = ", ".join(self.versions)
            raise UsageError(f"{self.path} holds no version {version!r}; it holds {names}")
        return self.versions[version]

    def _mean(self, version: str) -> dict[str, Tensor]:
        described = self._require(version)
        if described.shared_sha256 not in self._means:
            with self._unchanged():
                self._means[described.shared_sha256] = read_shared(self.path, described)[1]
        return self._means[described.shared_sha256]

    def _model(self, version: str) -> SceneModel:
        """What the scenes of a version share, without scenes; versions with equal parts, such as waves, have one."""
        described = self._require(version)
        key = described.shared_sha256 + json.dumps(described.model, sort_keys=True)
        with _BUILDING:
            if key not in self._models:
                while len(self._models) >= MOST_MODELS:
                    del self._models[next(iter(self._models))]
                self._models[key] = self._load_model(version)
            return self._models[key]

    def _load_model(self, version: str) -> SceneModel:
        described = self.versions[version]
        with self._unchanged():
            model, self._means[described.shared_sha256] = build_version(self.path, described)
        return model

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """A file may be missing because the bank has become another one since it was opened."""
        try:
            yield
        except UsageError:
            if Index.read(self.path) != self._index:
                raise UsageError(f"{self.path} has been changed since it was opened: open it again") from None
            raise


def bank_folder(path: str | Path) -> Path:
    """Folder of a bank: this one, or that of the run that it is."""
    folder = Path(path)
    return folder / "bank" if (folder / "bank" / INDEX_FILE).is_file() else folder


def _without_wave(version: str) -> str:
    return re.sub(r"-\d{4,}$", "", version)
