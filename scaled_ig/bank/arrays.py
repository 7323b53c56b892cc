"""Scenes as tensors, for those who train on them: records are read one after the other, a few at a time.

Letters: N scenes, F features of a texel, K texels along a plane, M base planes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scaled_ig.bank.index import STATISTICS_FILE
from scaled_ig.bank.reading import BankReader
from scaled_ig.bank.scene import planes_of, require_planes
from scaled_ig.bank.table import BankRecord
from scaled_ig.documents import DocumentError, parse_json
from scaled_ig.errors import UsageError
from scaled_ig.files import write_json
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

AT_ONCE = 16  # scenes that are decoded together


@dataclass(frozen=True)
class PlaneStatistics:
    """Of each channel of fused planes, over scenes and texels.

    Args:
        mean: [F].
        sd: [F] standard deviation.
        min: [F].
        max: [F].
        num_scenes: How many were measured.
    """

    mean: Tensor
    sd: Tensor
    min: Tensor
    max: Tensor
    num_scenes: int


class BankArrays(BankReader):
    """Planes, and what they are read with. ``ids`` are those of the newest version, all waves of it, where not given.

    Scenes of several versions fit in one tensor where their planes have one shape.
    """

    def planes(self, ids: str | Iterable[str] | None = None, fused: bool = True) -> Tensor:
        """Feature planes [N, 3, F, K, K] float32.

        Args:
            ids: Of the scenes, in this order.
            fused: What is rendered: a scene's own planes, then the mixture of base planes. Otherwise its own alone.

        Raises:
            UsageError: A scene is not there or damaged, has no planes, or planes of another shape than the first.
        """
        return self._join(ids, lambda record, model: planes_of(model, record.version, fused))

    def micro(self, ids: str | Iterable[str] | None = None) -> Tensor:
        """The scenes' own planes [N, 3, F_mic, K, K]; raises as :meth:`planes`."""
        return self.planes(ids, fused=False)

    def mixing(self, ids: str | Iterable[str] | None = None) -> Tensor:
        """Coefficients of base planes [N, M].

        Raises:
            UsageError: A scene is not there or damaged, or mixes no base planes.
        """
        return self._join(
            ids, lambda record, model: _micro_macro(model, record.version).scene_tables()["mixing"].weight
        )

    def bases(self, version: str | None = None) -> Tensor:
        """Base planes [M, 3, F_mac, K, K] of a version, the newest where it is not given.

        Raises:
            UsageError: There is no such version, or it has none.
        """
        name = self._newest_version() if version is None else version
        return _micro_macro(self._model(name), name).bases.detach().movedim(-1, 2).clone()

    def head(self, version: str | None = None) -> FieldHead:
        """The tiny MLP that reads the planes of a version, the newest where it is not given; a copy.

        Raises:
            UsageError: There is no such version, or its scenes have heads of their own.
        """
        model = self._model(self._newest_version() if version is None else version)
        if model.own_heads:
            raise UsageError("every scene of this version has a head of its own: bank[id].head is that of one")
        return copy.deepcopy(model.renderer.head)

    def statistics(self) -> PlaneStatistics:
        """Statistics of the newest scenes' fused planes: measured in one pass, and kept in the bank's folder.

        Raises:
            UsageError: A scene is damaged or has no planes.
        """
        file, digest = self.path / STATISTICS_FILE, hashlib.sha256(self._index.to_bytes()).hexdigest()
        with suppress(OSError, DocumentError, LookupError, TypeError, ValueError):
            content = parse_json(file.read_bytes())
            if content.pop("index_sha256") == digest:
                num_scenes = int(content.pop("num_scenes"))
                return PlaneStatistics(**{name: torch.tensor(content[name]) for name in content}, num_scenes=num_scenes)
        measured = self._measure()
        kept = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(measured).items()}
        with suppress(OSError):  # a bank that is only read
            write_json(file, {"index_sha256": digest, **kept})
        return measured

    @torch.no_grad()
    def _measure(self) -> PlaneStatistics:
        names, parts = self._ids(None), []
        for records, model in self._in_parts(names):
            values = planes_of(model, records[0].version, fused=True).transpose(0, 2).flatten(1)  # [F, S · 3 · K · K]
            sums = values.double().sum(1), values.double().square().sum(1)
            parts.append((*sums, values.amin(1), values.amax(1), values.shape[1]))
        totals, squares, least, most, counts = zip(*parts, strict=True)
        mean, square = (sum(sums) / sum(counts) for sums in (totals, squares))
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        ends = torch.stack(least).amin(0), torch.stack(most).amax(0)
        return PlaneStatistics(mean.float(), deviation.float(), *ends, len(names))

    def dataset(self, ids: Iterable[str] | None = None, fused: bool = True) -> PlaneDataset:
        """A data set of ``{"planes": [3, F, K, K], "id": …, "category": …}`` for a DataLoader with any workers.

        Args:
            ids: Of the scenes, in this order.
            fused: As in :meth:`planes`.

        Raises:
            UsageError: Scenes have no planes.
        """
        names = self._ids(ids)
        for version in {self.record(name).version for name in names[:1]}:
            require_planes(self._model(version), version, fused)
        return PlaneDataset(self, names, fused)

    def _newest_version(self) -> str:
        return self.record(self.newest()[-1]).version

    def _ids(self, ids: str | Iterable[str] | None) -> list[str]:
        names = self.newest() if ids is None else [ids] if isinstance(ids, str) else list(ids)
        if not names:
            raise UsageError(f"no ids of scenes of {self.path} are given: leave them out for the newest scenes")
        return names

    @torch.no_grad()
    def _join(self, ids: str | Iterable[str] | None, read: Callable[[BankRecord, SceneModel], Tensor]) -> Tensor:
        """What is read of each part of some scenes, in one tensor."""
        names, start = self._ids(ids), 0
        joined = torch.empty(0)
        for records, model in self._in_parts(names):
            part = read(records[0], model)
            if not start:
                joined = part.new_empty(len(names), *part.shape[1:])
            if part.shape[1:] != joined.shape[1:]:
                raise UsageError(
                    f"scene {records[0].id!r} has a shape of {list(part.shape[1:])}, and {names[0]!r} of "
                    f"{list(joined.shape[1:])}: ask for scenes of one shape at a time"
                )
            joined[start : start + len(part)] = part
            start += len(part)
        return joined

    def _in_parts(self, ids: Iterable[str]) -> Iterator[tuple[list[BankRecord], SceneModel]]:
        """A few scenes after the other, of one version: their records, and a model that holds them."""
        with self._unchanged():
            for version, records in groupby(map(self.record, ids), attrgetter("version")):
                shared = self._model(version)
                while part := list(islice(records, AT_ONCE)):
                    rows = [self._rows(record, shared) for record in part]
                    yield part, shared.of_rows({name: torch.stack([row[name] for row in rows]) for name in rows[0]})


class PlaneDataset(Dataset[dict[str, Any]]):
    """Planes of scenes one by one, see :meth:`BankArrays.dataset`.

    Args:
        bank: The bank.
        ids: Of its scenes.
        fused: As in :meth:`BankArrays.planes`.
    """

    def __init__(self, bank: BankArrays, ids: list[str], fused: bool) -> None:
        self.bank, self.ids, self.fused = bank, ids, fused

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> dict[str, Any]:
        scene = self.bank[self.ids[place]]
        return {"planes": scene.planes(self.fused), "id": scene.id, "category": scene.category}


def _micro_macro(model: SceneModel, version: str) -> MicroMacro:
    representation = model.representation
    if not isinstance(representation, MicroMacro) or representation.mixing is None:
        kind = type(representation).__name__
        raise UsageError(f"scenes of version {version!r} ({kind}) mix no base planes: bank[id].rows has what is there")
    return representation
