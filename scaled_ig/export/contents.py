"""What formats of arrays hold: planes of scenes, and all that reads them. A scene at a time is in memory.

Letters: N scenes, F features, K texels along a plane, M base planes, H hidden neurons, C channels, G cells of a hull.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scaled_ig import __version__
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import BankRecord
from scaled_ig.rendering.field_head import SceneHeads
from scaled_ig.rendering.sampling import FullRay, InsideBall
from scaled_ig.representations import MicroMacro, PlaneRepresentation
from scaled_ig.runs.provenance import commit
from scaled_ig.scene_model import SceneModel


@dataclass(frozen=True)
class Part:
    """One array of a file.

    Args:
        name: Its name.
        dtype: Of its values.
        shape: Its shape.
        pieces: Gives it from front to back, in one piece or in many.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[NDArray[Any]]]


class Contents:
    """Scenes with the same shared parts on their way into a file.

    Args:
        bank: The bank.
        ids: Of the scenes, in this order.
        progress: Told the number of scenes that are done.

    Raises:
        UsageError: The scenes have no planes.
    """

    def __init__(self, bank: SceneBank, ids: Sequence[str], progress: Callable[[int], object]) -> None:
        self.bank, self.records, self._progress = bank, [bank.record(name) for name in ids], progress
        first = bank[ids[0]]
        self.model: SceneModel = first.model
        self.plane_shape = tuple(first.planes().shape)
        self.row_shapes = {name: tuple(row.shape) for name, row in first.rows.items()}
        self._rows: dict[str, list[Any]] = {name: [] for name in self.row_shapes}
        self._sums = np.zeros((2, self.plane_shape[1]))
        self._ends = np.array([[np.inf], [-np.inf]]) * np.ones(self.plane_shape[1])

    def scenes(self) -> Iterator[tuple[BankRecord, NDArray[np.float32], dict[str, NDArray[Any]]]]:
        """Each scene with its planes [3, F, K, K] and its rows; what is small of them is kept for the other parts."""
        for record in self.records:
            scene = self.bank[record.id]
            planes = scene.planes().contiguous().numpy()
            rows = {name: row.numpy() for name, row in scene.rows.items()}
            for name in self._rows.keys() & {"mixing", "head"}:
                self._rows[name].append(rows[name])
            if "hull" in rows:
                self._rows["hull"].append(zlib.compress(rows["hull"].tobytes()))
            self._sums += [planes.sum((0, 2, 3), float), np.square(planes, dtype=float).sum((0, 2, 3))]
            low, high = self._ends
            self._ends = np.array([np.minimum(low, planes.min((0, 2, 3))), np.maximum(high, planes.max((0, 2, 3)))])
            yield record, planes, rows
            self._progress(1)

    def parts(self) -> list[Part]:
        """All arrays, to be read in this order."""
        count, channels = len(self.records), self.plane_shape[1]
        parts = [Part("planes", "<f4", (count, *self.plane_shape), lambda: (planes for _, planes, _ in self.scenes()))]
        if "mixing" in self.row_shapes:
            shape = (count, *self.row_shapes["mixing"])
            parts.append(Part("mixing", "<f4", shape, lambda: iter([np.stack(self._rows["mixing"])])))
        for name, array in self.shared().items():
            parts.append(Part(name, "<f4", array.shape, lambda array=array: iter([array])))  # type: ignore[misc]
        if "head" in self.row_shapes:
            like = self.model.renderer.head
            for name, value in like.named_parameters():
                pieces = lambda name=name: iter([self.heads()[name]])  # noqa: E731
                parts.append(Part(f"head.{name}", "<f4", (count, *value.shape), pieces))
        for name in ("mean", "sd", "min", "max"):
            parts.append(
                Part(f"statistics.{name}", "<f4", (channels,), lambda name=name: iter([self.statistics()[name]]))  # type: ignore[misc]
            )
        if "hull" in self.row_shapes:
            parts.append(Part("hulls", "|u1", (count, *self.row_shapes["hull"]), self._hulls))
        return parts

    def shared(self) -> dict[str, NDArray[np.float32]]:
        """``bases`` [M, 3, F_mac, K, K], where there are some, and ``head.*``, unless scenes have their own."""
        arrays = {}
        representation = self.model.representation
        if isinstance(representation, MicroMacro) and representation.mixing is not None:
            arrays["bases"] = representation.bases.detach().movedim(-1, 2).contiguous().numpy()
        if not self.model.own_heads:
            head = self.model.renderer.head.named_parameters()
            arrays |= {f"head.{name}": value.detach().numpy() for name, value in head}
        return arrays

    def heads(self) -> dict[str, NDArray[np.float32]]:
        """Heads of the scenes that have been read, [N, H, F], [N, H], [N, 1 + C, H] and [N, 1 + C]."""
        rows = torch.from_numpy(np.stack(self._rows["head"]))
        return {name: value.numpy() for name, value in SceneHeads(self.model.renderer.head, rows).parameters.items()}

    def _hulls(self) -> Iterator[NDArray[np.uint8]]:
        for stream in self._rows["hull"]:
            yield np.frombuffer(zlib.decompress(stream), np.uint8)

    def statistics(self) -> dict[str, NDArray[np.float32]]:
        """Mean, standard deviation, least and greatest of each channel [F] of the planes that have been read."""
        num_values = len(self.records) * self.plane_shape[0] * self.plane_shape[2] * self.plane_shape[3]
        mean, square = self._sums / num_values
        arrays = {"mean": mean, "sd": np.sqrt(np.maximum(square - mean**2, 0)), "min": self._ends[0]}
        return {name: array.astype("<f4") for name, array in (arrays | {"max": self._ends[1]}).items()}

    def about(self) -> dict[str, Any]:
        """What a reader must know beside the arrays, see docs/exports.md."""
        representation, sampling = self.model.representation, self.model.renderer.sampling
        assert isinstance(representation, PlaneRepresentation)
        near, far = (sampling.t_near, sampling.t_far) if isinstance(sampling, FullRay) else (None, None)
        version = self.bank.versions[self.records[0].version]
        return {
            "values": "rgb" if self.model.is_rgb else "latents",
            "extent": representation.extent,
            "plane_axes": representation.plane_axes,
            "radius": sampling.radius if isinstance(sampling, InsideBall) else None,
            "near": near,
            "far": far,
            "background": ((self.model.background + 1) / 2).tolist(),
            "resolution": list(self.model.image_size),
            "version": version.name,
            "shared_sha256": version.shared_sha256,
            "encoding": version.encoding,
            "model": _without_folders(version.model),
            "scaled_ig": __version__,
            "commit": commit(),
            "torch": torch.__version__,
        }


def _without_folders(values: Any) -> Any:
    """A description without the folders of this machine, from which an autoencoder may have been read."""
    if isinstance(values, dict):
        return {name: _without_folders(value) for name, value in values.items()}
    return Path(values).name if isinstance(values, str) and Path(values).is_absolute() else values
