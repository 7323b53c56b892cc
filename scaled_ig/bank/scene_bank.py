"""What users keep: every learned scene, and each version of the parts that scenes share.

A bank is a folder (docs/bank.md)::

    index.json                        versions and names of the other files, written last
    scenes-<generation>.sqlite        one row a scene: its version, and where its record is
    shared-<digest>.safetensors       autoencoder, head, bases, background of a version, and the mean of its scenes
    blocks/<generation>-<shard>.bin   records of scenes

Stage 2 goes on changing the shared parts, so every scene names the version that it was learned with (method 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from scaled_ig.bank.arrays import BankArrays
from scaled_ig.bank.changes import remove_scenes
from scaled_ig.bank.index import Index
from scaled_ig.bank.merge import merge_banks
from scaled_ig.bank.reading import bank_folder
from scaled_ig.bank.replacing import replace_scenes
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.bank.table import Origin
from scaled_ig.bank.verify import findings_of
from scaled_ig.bank.writing import write_version
from scaled_ig.representations.view_start import ViewStart
from scaled_ig.scene_model import SceneModel

T = TypeVar("T")


class SceneBank(BankArrays):
    """A bank on disk, a mapping from ids to scenes: reading is in the classes below, changing here."""

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
        view_start: ViewStart | None = None,
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
            view_start: How further scenes start from their own views.

        Raises:
            UsageError: Another version has a scene of these names, the bank is being changed by another call, or it
                cannot be written; nothing has changed then.
        """
        scenes = None if origins is None else list(origins)
        write_version(Path(path), model, list(ids), version, list(source_sha256), encoding, mean, scenes, view_start)
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
            target: The bank, or the run that wrote it.
            sources: Banks that are only read, or their runs.
            encoding: Of all scenes afterwards; None leaves each as it is.
            progress: Told how many bytes of records have been dealt with.

        Raises:
            UsageError: A name is there twice with different content, a bank is damaged, or the target cannot be
                changed; nothing has changed then.
        """
        folder = bank_folder(target)
        merge_banks(folder, list(map(bank_folder, sources)), encoding, progress)
        return cls.open(folder)

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
