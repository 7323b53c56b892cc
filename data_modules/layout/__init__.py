"""The pack: names, types, shapes and attributes of its files, and how to read everything but the pixels.

A pack is a folder of shards ``pack-00000.h5`` with up to 100 scenes each, and the index ``pack.json``, which lists all
scenes and the digest of every file. Scenes are ragged: ``/scene/offset`` says which views belong to which scene.

Letters: S scenes, N views of all of them, V views of one, H rows and W columns of pixels.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_modules.layout.index_document import INDEX_FILE as INDEX_FILE
from data_modules.layout.index_document import SCHEMA_VERSION as SCHEMA_VERSION
from data_modules.layout.index_document import json_sha256 as json_sha256
from data_modules.layout.index_document import read_index
from data_modules.layout.index_document import split_views as split_views
from data_modules.layout.structure import claim_faults, dataset_faults, link_faults
from data_modules.sources.base import UNFIT, PosedViews
from scaled_ig.documents import parse_json
from scaled_ig.errors import UsageError

SCHEMA = "scaled-ig-pack"
SCENES_PER_SHARD = 100
LONGEST_LICENCE = 200  # characters that are passed on
LIBVER = ("v110", "v110")  # checksums over all metadata; "latest" of HDF5 2.0 writes what HDF5 1.14 cannot open
GZIP_LEVEL = 4

VIEWS = "views"  # uint8 [N, H, W, 3], one chunk a view
CAMERA_TO_WORLD = "cam2world"  # float32 [N, 4, 4], OpenCV axes
INTRINSICS = "intrinsics"  # float32 [N, 4]: fx / W, fy / H, cx / W, cy / H
NEAR_FAR = "near_far"  # float32 [N, 2]: distances from the camera between which the scene lies
OFFSET = "scene/offset"  # int64 [S + 1]
SCENE_ID = "scene/id"  # utf-8 [S]
CATEGORY = "scene/category"  # utf-8 [S]
SHA256 = "scene/sha256"  # ascii [S], see scene_sha256
SOURCE = "scene/source"  # utf-8 [S], JSON
MASKS = "masks"  # uint8 [N, H, W], one chunk a view; only in files with a masked scene, zero for the others
MASKED = "scene/masked"  # uint8 [S], 1 for scenes with masks; only in such files

WORLD_ATTRIBUTES: dict[str, Any] = {
    "background": [1.0, 1.0, 1.0],
    "camera_convention": "opencv_c2w",
    "world_up": "+z",
    "front": "-y",
    "scene_radius": 0.5,
    "color_space": "srgb",
}
SCENE_RADIUS: float = WORLD_ATTRIBUTES["scene_radius"]


def shard_name(shard: int) -> str:
    """File name of a shard."""
    return f"pack-{shard:05d}.h5"


def scene_sha256(
    images: NDArray[np.uint8],
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    near_far: NDArray[np.float32],
    masks: NDArray[np.uint8] | None = None,
) -> str:
    """Digest of one scene: SHA-256 over the bytes of its views, cameras and masks, C order, little endian."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    for values in (camera_to_world, intrinsics, near_far):
        digest.update(np.ascontiguousarray(values, dtype="<f4").data)
    if masks is not None:
        digest.update(np.ascontiguousarray(masks).data)
    return digest.hexdigest()


def ball_near_far(camera_to_world: NDArray[Any], radius: float = SCENE_RADIUS) -> NDArray[np.float32]:
    """Distances [V, 2] from cameras [V, 4, 4] between which the ball around the origin lies; 0 is the camera."""
    distance = np.linalg.norm(camera_to_world[:, :3, 3], axis=1)
    return np.stack([np.maximum(distance - radius, 0), distance + radius], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Shard:
    """One file of a pack: scenes [first_scene, last_scene) and views [first_view, last_view) of the whole pack."""

    path: Path
    first_scene: int
    last_scene: int
    first_view: int
    last_view: int
    bytes: int
    sha256: str
    has_masks: bool

    def open(self) -> h5py.File:
        """Opens the file for reading.

        Without locking, which fails on many network file systems: nobody writes to a finished shard. Without a cache of
        chunks, 8 MiB a file in HDF5 2.0: views are read whole, and seldom twice.

        Raises:
            UsageError: the file is missing, no HDF5 file, or its datasets are not those of these scenes, or elsewhere.
        """
        try:
            file = h5py.File(self.path, "r", locking=False, rdcc_nbytes=0)
            fault = next(self._faults(file), None)
        except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:  # h5py's words for damage
            raise UsageError(f"{self.path} cannot be read ({error}): {REPAIR}") from None
        if fault:
            file.close()
            raise UsageError(f"{self.path} cannot be read ({fault}): {REPAIR}")
        return file

    def _faults(self, file: h5py.File) -> Iterator[str]:
        """A digest does not tell who wrote a file: what is in it must be no more than the index speaks of."""
        yield from link_faults(file)
        views, scenes = self.last_view - self.first_view, self.last_scene - self.first_scene
        for name, dtype, shape in (
            (VIEWS, "uint8", (views, None, None, 3)),
            (CAMERA_TO_WORLD, "float32", (views, 4, 4)),
            (INTRINSICS, "float32", (views, 4)),
            (NEAR_FAR, "float32", (views, 2)),
            (SOURCE, "S", (scenes,)),
        ):
            yield from dataset_faults(file, name, dtype, shape, INDEX_FILE)
            yield from claim_faults(file, name, self.path.stat().st_size)
        if self.has_masks:
            yield from dataset_faults(file, MASKS, "uint8", file[VIEWS].shape[:3], INDEX_FILE)
            yield from claim_faults(file, MASKS, self.path.stat().st_size)
        for stored in [file[VIEWS], *([file[MASKS]] if self.has_masks else [])]:
            if stored.chunks != (1, *stored.shape[1:]):
                yield f"its dataset {stored.name[1:]} is not stored as one chunk a view"

    def verify(self) -> None:
        """Compares the file with the digest in the index, before the HDF5 library, which damage may crash, sees it.

        Raises:
            UsageError: the file is missing, or its bytes are not those that were packed.
        """
        try:
            with self.path.open("rb") as stream:
                sound = hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error.strerror}): {REPAIR}") from None
        if not sound:
            raise UsageError(f"{self.path} is not the file that was packed (its sha256 is another): {REPAIR}")


REPAIR = "restore it, or let scaled-ig check --fix-drop leave out its scenes"


@dataclass(frozen=True)
class PackIndex:
    """What a pack holds, without its pixels and cameras: the content of ``pack.json``.

    Attributes:
        path: folder of the pack.
        shards: its files in order.
        scene_ids: unique ids of the S scenes.
        categories: category of every scene.
        shapes: shape of every scene; variants of one shape share it.
        digests: ``scene_sha256`` of every scene.
        offsets: int64 [S + 1], views of scene s are rows offsets[s] : offsets[s + 1] of the pack.
        masked: bool [S], whether a scene has masks.
        image_size: H, W.
        split_rule: see ``split_views``.
        held_out: of every scene, how many of its first views its files keep for tests, and how many after these to be
            watched; 0 and 0 where they do not say, and ``split_rule`` decides.
        scene_radius: radius of the ball around the origin that holds every object.
        warnings: of every scene, what the views do not show as the files say; mostly none.
        left_out: scenes that could not be packed, or were dropped since: ``id`` and ``reason``.
        document: the whole of ``pack.json``.
    """

    path: Path
    shards: tuple[Shard, ...]
    scene_ids: tuple[str, ...]
    categories: tuple[str, ...]
    shapes: tuple[str, ...]
    digests: tuple[str, ...]
    offsets: NDArray[np.int64]
    masked: NDArray[np.bool_]
    image_size: tuple[int, int]
    split_rule: str
    held_out: tuple[tuple[int, int], ...]
    scene_radius: float
    warnings: tuple[tuple[str, ...], ...]
    left_out: tuple[dict[str, str], ...]
    document: dict[str, Any]

    @property
    def num_scenes(self) -> int:
        """Number of scenes S."""
        return len(self.scene_ids)

    @property
    def num_views(self) -> NDArray[np.int64]:
        """Number of views of every scene, int64 [S]."""
        return np.diff(self.offsets)

    def split(self, scene: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Views of a scene that may be trained on, those to be watched first where its files name some, and tests."""
        views, (test, _) = int(self.num_views[scene]), self.held_out[scene]
        return (np.arange(test, views), np.arange(test)) if test else split_views(views, self.split_rule)

    @cached_property
    def _first_scenes(self) -> NDArray[np.int64]:
        return np.array([shard.first_scene for shard in self.shards])

    def shard_of(self, scene: int) -> int:
        """Number of the shard that holds a scene."""
        return int(np.searchsorted(self._first_scenes, scene, side="right")) - 1

    def licences(self, scenes: Sequence[int]) -> list[str]:
        """Licences of scenes as their sources name them; empty where they do not. Each shard is opened once.

        Raises:
            UsageError: A shard cannot be read.
        """
        numbers = [self.shard_of(scene) for scene in scenes]
        texts = {number: list(map(_licence, read_source_records(self.shards[number]))) for number in set(numbers)}
        first = [shard.first_scene for shard in self.shards]
        return [texts[number][scene - first[number]] for number, scene in zip(numbers, scenes, strict=True)]

    @classmethod
    def open(cls, path: str | Path) -> "PackIndex":
        """Reads ``pack.json``; no shard is touched.

        Raises:
            UsageError: no pack, one of another version, or an index that is damaged or not that of a pack.
        """
        folder = Path(path)
        document = read_index(folder)
        shards: list[Shard] = []
        scenes: list[dict[str, Any]] = []
        for row in document["shards"]:
            first_scene, first_view = (shards[-1].last_scene, shards[-1].last_view) if shards else (0, 0)
            last_view = first_view + sum(scene["views"] for scene in row["scenes"])
            last_scene = first_scene + len(row["scenes"])
            ranges, digest = (first_scene, last_scene, first_view, last_view), row["sha256"]
            has_masks = any(scene.get("masks", False) for scene in row["scenes"])
            shards.append(Shard(folder / row["file"], *ranges, row["bytes"], digest, has_masks))
            scenes += row["scenes"]
        height, width = document["image_size"]
        return cls(
            path=folder,
            shards=tuple(shards),
            scene_ids=tuple(scene["id"] for scene in scenes),
            categories=tuple(scene["category"] for scene in scenes),
            shapes=tuple(scene["shape"] for scene in scenes),
            digests=tuple(scene["sha256"] for scene in scenes),
            offsets=np.cumsum([0] + [scene["views"] for scene in scenes]),
            masked=np.array([scene.get("masks", False) for scene in scenes]),
            image_size=(height, width),
            split_rule=document["split"],
            held_out=tuple((scene.get("test_views", 0), scene.get("val_views", 0)) for scene in scenes),
            scene_radius=document["scene_radius"],
            warnings=tuple(tuple(scene.get("warnings", ())) for scene in scenes),
            left_out=tuple(document["left_out"]),
            document=document,
        )


def read_source_records(shard: Shard) -> list[dict[str, Any]]:
    """Where every scene of a shard came from: file, digest, licence, normalization.

    Raises:
        UsageError: the file cannot be read, or a record is no JSON object.
    """
    with shard.open() as file:
        texts = file[SOURCE][:]
    try:
        records = [parse_json(text) for text in texts]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("one is no object")
    except ValueError as error:
        raise UsageError(f"{shard.path}: its records of scenes cannot be read ({error}): {REPAIR}") from None
    return records


def _licence(record: dict[str, Any]) -> str:
    """That of a source record, in one line; sources may name it by anything."""
    name = record.get("license")
    return "" if name is None else UNFIT.sub(" ", str(name))[:LONGEST_LICENCE]


def read_scene(file: h5py.File, index: PackIndex, scene: int) -> PosedViews:
    """All views, cameras and masks of one scene from the opened shard that holds it."""
    first_view = index.shards[index.shard_of(scene)].first_view
    rows = slice(*(index.offsets[scene : scene + 2] - first_view))
    names = (VIEWS, CAMERA_TO_WORLD, INTRINSICS, NEAR_FAR, *([MASKS] if index.masked[scene] else []))
    return PosedViews(*(file[name][rows] for name in names))
