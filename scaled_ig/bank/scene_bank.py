"""What users keep: every learned scene, and each version of the parts that scenes share.

A bank is a folder (docs/bank.md)::

    index.json                        versions and names of the other files, written last
    scenes-<generation>.sqlite        one row a scene: its version, and where its record is
    shared-<digest>.safetensors       autoencoder, head, bases, background of a version, and the mean of its scenes
    blocks/<generation>-<shard>.bin   records of scenes

Stage 2 goes on changing the shared parts, so every scene names the version that it was learned with (method 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from scaled_ig.bank.blocks import read_record, read_shared, require_held
from scaled_ig.bank.changes import remove_scenes
from scaled_ig.bank.index import INDEX_FILE, BankVersion, Index
from scaled_ig.bank.merge import merge_banks
from scaled_ig.bank.models import build_version, copy_shared
from scaled_ig.bank.replacing import replace_scenes
from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_records import Encoding, decode
from scaled_ig.bank.table import BankRecord, Origin, RecordTable
from scaled_ig.bank.verify import findings_of
from scaled_ig.bank.writing import write_version
from scaled_ig.errors import UsageError
from scaled_ig.finite import names_not_finite
from scaled_ig.scene_model import SceneModel

T = TypeVar("T")


def find_bank(path: str | Path) -> Path:
    """Folder of a bank: this one, or that of the run that it is."""
    folder = Path(path)
    return folder / "bank" if (folder / "bank" / INDEX_FILE).is_file() else folder


class SceneBank:
    """A bank on disk. Opening reads the index alone, whatever the number of scenes.

    Args:
        path: Folder.
        index: Content of ``index.json``.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.path = path
        self._use(index)

    def __reduce__(self) -> tuple[type[SceneBank], tuple[Path, Index]]:
        return SceneBank, (self.path, self._index)  # workers connect for themselves

    def _use(self, index: Index) -> None:
        self._index, self._table = index, RecordTable(self.path / index.table)
        self._model: Callable[[str], SceneModel] = lru_cache(maxsize=2)(self._load_model)
        self._means: dict[str, dict[str, Tensor]] = {}

    # -- reading -----------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path) -> SceneBank:
        """Open a bank.

        Raises:
            UsageError: There is none, it is damaged, or one that this version cannot read.
        """
        return cls(Path(path), Index.read(Path(path)))

    @property
    def versions(self) -> dict[str, BankVersion]:
        """Versions by name, in the order in which they were first written."""
        return self._index.versions

    @property
    def ids(self) -> list[str]:
        """Ids of all scenes, in order."""
        with self._unchanged():
            return self._table.ids()

    def __len__(self) -> int:
        return sum(version.num_scenes for version in self.versions.values())

    def scenes(self, version: str | None = None) -> list[BankRecord]:
        """What the bank knows of its scenes, or of those of a version, in order."""
        with self._unchanged():
            return list(self._table.scenes(version))

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

    def _mean(self, version: str) -> dict[str, Tensor]:
        self._require(version)
        if version not in self._means:
            with self._unchanged():
                self._means[version] = read_shared(self.path, self.versions[version])[1]
        return self._means[version]

    def __getitem__(self, scene_id: str) -> BankScene:
        """A scene by its id.

        Raises:
            UsageError: The bank does not hold it, or its record is damaged or not finite.
        """
        with self._unchanged():
            record = self.record(scene_id)
            self._require(record.version)
            model = self._model(record.version)
            return BankScene(record, self._rows(record, model), model)

    def record(self, scene_id: str) -> BankRecord:
        """What the bank knows of a scene.

        Raises:
            UsageError: The bank does not hold it.
        """
        with self._unchanged():
            record = self._table.find(scene_id)
            if record is None:
                examples = ", ".join(record.id for record in self._table.select("ORDER BY position LIMIT 5"))
                raise UsageError(f"{self.path} holds no scene {scene_id!r}; it holds {len(self)} scenes: {examples}, …")
            return record

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

    def _require(self, version: str) -> None:
        if version not in self.versions:
            names = ", ".join(self.versions)
            raise UsageError(f"{self.path} holds no version {version!r}; it holds {names}")

    def _load_model(self, version: str) -> SceneModel:
        with self._unchanged():
            model, self._means[version] = build_version(self.path, self.versions[version])
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

    # -- changing ----------------------------------------------------------------------------------------------------

    @classmethod
    def write(
        cls,
        path: str | Path,
        model: SceneModel,
        ids: Sequence[str],
        version: str,
        source_sha256: Sequence[str],
        encoding: Encoding = "float32",
        mean: dict[str, Tensor] | None = None,
        origins: Sequence[Origin] | None = None,
    ) -> SceneBank:
        """Add all scenes of a model as one version; a version of the same name is replaced.

        Collective: every rank writes the records of its own scenes. Files are the same on any number of ranks.

        Args:
            path: Folder, made where it is missing.
            model: The model.
            ids: [num_scenes] unique over the bank; the same on all ranks, as all that is given here.
            version: Name of this version of the shared parts.
            source_sha256: [num_scenes] digest of the views that each scene was learned from.
            encoding: Of the records.
            mean: Reference row of each table; the mean over the scenes where it is None.
            origins: [num_scenes] category and licence of each scene; unknown where it is None.

        Raises:
            UsageError: Another version has a scene of these names, the bank is being changed by another call, or it
                cannot be written; nothing has changed then.
        """
        scenes = None if origins is None else list(origins)
        write_version(Path(path), model, list(ids), version, list(source_sha256), encoding, mean, scenes)
        return cls.open(path)

    @classmethod
    def replace(
        cls,
        path: str | Path,
        model: SceneModel,
        ids: Sequence[str],
        source_sha256: Sequence[str],
        origins: Sequence[Origin] | None = None,
    ) -> SceneBank:
        """Put scenes that were learned again in the place of those of the same ids. Collective, as :meth:`write` is.

        They stay in their version, in its encoding, where they are in the order of scenes.

        Args:
            path: Folder of the bank.
            model: The model, with what scenes of the version share as it is there, to the bit.
            ids: [num_scenes] of scenes of one version; the same on all ranks, as all that is given here.
            source_sha256: [num_scenes] digest of the views that each scene was learned from.
            origins: [num_scenes] category and licence of each scene; as they were where it is None.

        Raises:
            UsageError: The bank does not hold one of them, they are of several versions, the model has other shared
                parts, or the bank cannot be changed; nothing has changed then.
        """
        scenes = None if origins is None else list(origins)
        replace_scenes(Path(path), model, list(ids), list(source_sha256), scenes)
        return cls.open(path)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove scenes. A version stays without its last scene: others may be learned with its shared parts.

        Raises:
            UsageError: One of them is not there, or the bank cannot be changed; nothing has changed then.
        """
        remove_scenes(self.path, list(ids))
        self._use(Index.read(self.path))

    @classmethod
    def merge(
        cls,
        target: str | Path,
        sources: Iterable[str | Path],
        encoding: Encoding | None = None,
        progress: Callable[[int], object] = lambda size: None,
    ) -> SceneBank:
        """Add the scenes of other banks to a bank, which is made where it is missing.

        Versions of the same name become one where their shared parts and encodings are the same; otherwise the later
        one gets a number behind its name. A scene that is there twice with the same content is kept once.

        Args:
            target: The bank.
            sources: Banks that are only read.
            encoding: Of all scenes afterwards; None leaves each as it is.
            progress: Told how many bytes of records have been dealt with.

        Raises:
            UsageError: A name is there twice with different content, a bank is damaged, or the target cannot be
                changed; nothing has changed then.
        """
        merge_banks(Path(target), [Path(source) for source in sources], encoding, progress)
        return cls.open(target)

    def verify(self, progress: Callable[[int], object] = lambda size: None) -> list[str]:
        """What is wrong with the bank, one sentence each; every byte is read.

        Args:
            progress: Told how many bytes of records have been read.

        Raises:
            UsageError: It has no index, or a damaged one.
        """
        return findings_of(self.path, progress)


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` items, evenly over the sequence, first and last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
