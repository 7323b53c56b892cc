"""Posed images in the layout of EG3D: a folder or zip archive with ``dataset.json``."""

import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import SceneEntry, is_name
from data_modules.sources.pictures import is_turned, read_picture
from data_modules.sources.posed import Capture, Frame, PosedSource
from scaled_ig.documents import parse_json, read_file
from scaled_ig.errors import UsageError

LABELS_FILE = "dataset.json"
LABEL_LENGTH = 25  # a pose of 16 numbers and intrinsics of 9
LARGEST_LABELS = 1 << 28  # bytes; a million images have half of it
LARGEST_IMAGE = 1 << 28
BUCKET = re.compile(r"\d{5}/img\d{8}\.\w+")  # folders of a thousand images each, whatever they show


@dataclass(frozen=True)
class Labels:
    """``dataset.json``: image names in their order, labels float64 [N, 25], and the digest of the file."""

    names: tuple[str, ...]
    values: NDArray[np.float64]
    sha256: str


@dataclass(eq=False)
class Eg3dSource(PosedSource):
    """``dataset.json`` with ``{"labels": [[file, [25 numbers]], ...]}``: pose row by row, then 3x3 intrinsics.

    The intrinsics are divided by the image size. A scene is the first folder of a file's name. EG3D's own buckets
    (``00000/img00000000.png``) do not tell scenes apart: there ``views_per_scene`` must be given.

    The rule of the format is ``opencv``; the file has no key of its own.

    Args:
        path: the folder, its ``dataset.json``, or the zip archive.
        views_per_scene: this many consecutive images, in order of their names, are one scene, ``scene-00000`` and so
            on; None goes by folders.

    Raises:
        UsageError: the file is missing or malformed, or scenes cannot be told apart.
    """

    views_per_scene: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _group(self.path, self.views_per_scene)  # not kept: it is as large as the labels, and its cache is not pickled

    def scenes(self) -> list[SceneEntry]:
        """The scenes by name."""
        return [SceneEntry(scene, self.category) for scene in _group(self.path, self.views_per_scene)]

    def capture(self, scene_id: str) -> Capture:
        """Takes the labels of one scene, and reads images as they are asked for."""
        labels = read_labels(self.path)
        rows = _group(self.path, self.views_per_scene)[scene_id]
        file = self.path if self.path.name == LABELS_FILE else self.path / LABELS_FILE
        name = f"{self.path.name}/{LABELS_FILE}" if _is_zip(self.path) else LABELS_FILE
        record = {"file": name, "sha256": labels.sha256, "license": None, "shape": scene_id}
        return Capture(file, self._frames(labels, rows), record)

    def _frames(self, labels: Labels, rows: list[int]) -> Iterator[Frame]:
        for row in rows:
            name, label = labels.names[row], labels.values[row]
            content = _read_bytes(self.path, name)
            pixels = read_picture(io.BytesIO(content), f"{name} of {self.path}")
            lens, turned = label[16:].tolist(), is_turned(io.BytesIO(content))
            yield Frame(name, pixels, label[:16], (lens[0], lens[4], lens[2], lens[5]), is_turned=turned)


@lru_cache(maxsize=2)
def read_labels(path: Path) -> Labels:
    """Reads ``dataset.json``.

    Args:
        path: the folder, the file itself, or the zip archive.

    Raises:
        UsageError: it is missing or malformed, names an image twice, or an image has no label.
    """
    content = _read_bytes(path, LABELS_FILE)
    where = f"{LABELS_FILE} of {path}"
    try:
        rows = parse_json(content)["labels"]
        pairs = [(PurePosixPath(name.replace("\\", "/")).as_posix(), label) for name, label in rows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{where} has no list of labels ({error!r}): make it again with cameras") from None
    for name, label in pairs:
        if not _is_below(name):
            raise UsageError(f"{where} names {name!r}, which is no file below its folder: rename it")
        if not isinstance(label, list) or len(label) != LABEL_LENGTH:
            length = len(label) if isinstance(label, list) else "no"
            raise UsageError(f"{where}: {name} has {length} numbers, not {LABEL_LENGTH}: make it again with cameras")
    names = tuple(name for name, _ in pairs)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{where} lists no image, or one twice: repair it")
    try:
        values = np.array([label for _, label in pairs], dtype=np.float64)
        if values.ndim != 2:
            raise ValueError("its numbers are lists")
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: a label is no row of numbers ({error}): repair it") from None
    lens = values[:, 16:]
    if not np.isfinite(values).all() or (np.abs(lens[:, [2, 5]]) > 2).any():
        raise UsageError(f"{where}: intrinsics must be finite and divided by the image size: convert them")
    return Labels(names, values, hashlib.sha256(content).hexdigest())


@lru_cache(maxsize=2)
def _group(path: Path, views_per_scene: int | None) -> dict[str, list[int]]:
    """Scene id -> its rows of the labels, in order of the images' names."""
    names = read_labels(path).names
    order = sorted(range(len(names)), key=lambda row: names[row])
    if views_per_scene is not None:
        if views_per_scene < 1 or len(names) % views_per_scene:
            raise UsageError(f"--views_per_scene {views_per_scene} does not divide the {len(names)} images of {path}")
        starts = range(0, len(names), views_per_scene)
        return {f"scene-{i:05d}": order[first : first + views_per_scene] for i, first in enumerate(starts)}
    scenes: dict[str, list[int]] = {}
    for row in order:
        folder, slash, _ = names[row].partition("/")
        if not slash or BUCKET.fullmatch(names[row]):
            raise UsageError(f"{path}: the image {names[row]} does not tell its scene: give --views_per_scene, e.g. 50")
        scenes.setdefault(folder, []).append(row)
    return dict(sorted(scenes.items()))


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _read_bytes(path: Path, name: str) -> bytes:
    """Content of a file of the folder or archive."""
    limit = LARGEST_LABELS if name == LABELS_FILE else LARGEST_IMAGE
    try:
        if _is_zip(path):
            archive, top = _open_zip(path, os.getpid())
            return _read_member(archive, top + name, limit)
        return read_file((path.parent if path.name == LABELS_FILE else path) / name, limit)
    except (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{name} of {path} cannot be read ({error}): restore it, or name another path") from None


def _read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Content of a file of an archive; a few kilobytes may unpack to more than the memory holds."""
    size = archive.getinfo(name).file_size
    if size > limit:
        raise zipfile.BadZipFile(f"it unpacks to {size:,} bytes, and {limit:,} are the most that are read")
    with archive.open(name) as stream:
        return stream.read(size + 1)  # no more is unpacked than the archive speaks of


def _is_below(name: str) -> bool:
    """Whether an image lies in the folder of the labels; its first folder becomes the id of a scene."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name != "." and is_name(name)


@lru_cache(maxsize=1)
def _open_zip(path: Path, process: int) -> tuple[zipfile.ZipFile, str]:
    """An archive and the folder within it that holds the labels; a handle for each process, never pickled."""
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if PurePosixPath(name).name == LABELS_FILE]
    if not names:
        raise UsageError(f"{path} holds no {LABELS_FILE}: name an archive of EG3D's layout")
    return archive, min(names, key=len).removesuffix(LABELS_FILE)
