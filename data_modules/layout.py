"""The pack: names, types, shapes and attributes of its files, and how to read everything but the pixels.

A pack is a folder of shards ``pack-00000-of-00020.h5`` with up to 100 scenes each, and the index ``pack.json``. Scenes
are ragged: ``/scene/offset`` says which views belong to which scene.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scaled_ig.errors import UsageError

SCHEMA = "scaled-ig-pack"
SCHEMA_VERSION = 1
INDEX_FILE = "pack.json"
SCENES_PER_SHARD = 100
LIBVER = ("v110", "v110")  # "latest" of HDF5 2.0 writes files that HDF5 1.14 cannot open
GZIP_LEVEL = 4

VIEWS = "views"  # uint8 [N, H, W, 3], one chunk a view
CAMERA_TO_WORLD = "cam2world"  # float32 [N, 4, 4], OpenCV axes
INTRINSICS = "intrinsics"  # float32 [N, 4]: fx / W, fy / H, cx / W, cy / H
OFFSET = "scene/offset"  # int64 [S + 1]
SCENE_ID = "scene/id"  # utf-8 [S]
CATEGORY = "scene/category"  # utf-8 [S]
SHA256 = "scene/sha256"  # ascii [S], see scene_sha256
SOURCE = "scene/source"  # utf-8 [S], JSON

WORLD_ATTRIBUTES: dict[str, Any] = {
    "background": [1.0, 1.0, 1.0],
    "camera_convention": "opencv_c2w",
    "world_up": "+z",
    "front": "-y",
    "scene_radius": 0.5,
    "color_space": "srgb",
}

TEST_FRACTION = 0.1
SPLIT_RULES = ("first", "every_tenth")


def shard_name(shard: int, count: int) -> str:
    """File name of a shard."""
    return f"pack-{shard:05d}-of-{count:05d}.h5"


def scene_sha256(
    images: NDArray[np.uint8], camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32]
) -> str:
    """Digest of one scene: SHA-256 over the bytes of its views, poses and intrinsics, C order, little endian."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(camera_to_world, dtype="<f4").data)
    digest.update(np.ascontiguousarray(intrinsics, dtype="<f4").data)
    return digest.hexdigest()


def split_views(num_views: int, rule: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which views of a scene are trained on and which are held out.

    Args:
        num_views: number of views V of the scene.
        rule: ``first`` holds out the first V - ceil(0.9 V) views, as the authors do with views drawn at random;
            ``every_tenth`` holds out views 0, 10, 20, ... of captures, whose neighbours are alike.

    Returns:
        Indices of training views and of test views, ascending.

    Raises:
        ValueError: the rule is not known.
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"split rule {rule!r} is not known: use {' or '.join(SPLIT_RULES)}")
    views = np.arange(num_views)
    # Integers, since 0.9 * 50 may come out above 45.
    first = num_views - math.ceil(9 * num_views / 10)
    is_test = views < first if rule == "first" else views % 10 == 0
    return views[~is_test], views[is_test]


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


@dataclass(frozen=True)
class PackIndex:
    """What a pack holds, without its pixels and cameras.

    Attributes:
        path: folder of the pack.
        shards: its files in order.
        scene_ids: unique ids of the S scenes.
        categories: category of every scene.
        offsets: int64 [S + 1], views of scene s are rows offsets[s] : offsets[s + 1] of the pack.
        image_size: H, W.
        split_rule: see ``split_views``.
        scene_radius: radius of the ball around the origin that holds every object.
        camera_distance: median distance of the first shard's cameras from the origin.
    """

    path: Path
    shards: tuple[Shard, ...]
    scene_ids: tuple[str, ...]
    categories: tuple[str, ...]
    offsets: NDArray[np.int64]
    image_size: tuple[int, int]
    split_rule: str
    scene_radius: float
    camera_distance: float

    @property
    def num_scenes(self) -> int:
        """Number of scenes S."""
        return len(self.scene_ids)

    @property
    def num_views(self) -> NDArray[np.int64]:
        """Number of views of every scene, int64 [S]."""
        return np.diff(self.offsets)

    @classmethod
    def open(cls, path: str | Path) -> "PackIndex":
        """Reads the index and the small datasets of every shard, and closes the files.

        Raises:
            UsageError: no pack, an unknown version, an unfinished or missing shard, or tables that do not fit.
        """
        folder = Path(path)
        document = _read_index(folder)
        try:
            shards = _shards(folder, document["shards"])
            rule = document["split"]["test"]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{folder / INDEX_FILE} lacks {error}: write the pack again") from None
        if rule not in SPLIT_RULES:
            raise UsageError(f"{folder / INDEX_FILE}: split rule {rule!r} is not known: use {' or '.join(SPLIT_RULES)}")
        tables = [_read_tables(shard) for shard in shards]
        scene_ids = tuple(name for table in tables for name in table.scene_ids)
        if len(set(scene_ids)) < len(scene_ids):
            raise UsageError(f"{folder}: a scene id occurs twice: write the pack again")
        for shard, table in zip(shards, tables, strict=True):
            if table.image_size != tables[0].image_size:
                raise UsageError(f"{shard.path} and {shards[0].path} differ in image size: pack each size for itself")
        counts = np.concatenate([np.diff(table.offsets) for table in tables])
        return cls(
            path=folder,
            shards=shards,
            scene_ids=scene_ids,
            categories=tuple(name for table in tables for name in table.categories),
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            image_size=tables[0].image_size,
            split_rule=rule,
            scene_radius=tables[0].scene_radius,
            camera_distance=tables[0].camera_distance,
        )


def read_cameras(index: PackIndex) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All cameras of a pack: camera_to_world float32 [N, 4, 4] (OpenCV axes) and intrinsics float32 [N, 4]."""
    return _read(index, CAMERA_TO_WORLD), _read(index, INTRINSICS)


def read_source_records(index: PackIndex) -> list[dict[str, Any]]:
    """Where every scene came from; scenes whose ``shape`` is equal are variants of one shape."""
    return [json.loads(text) for text in _read(index, SOURCE)]


def _read(index: PackIndex, name: str) -> NDArray[Any]:
    parts = []
    for shard in index.shards:
        with h5py.File(shard.path, "r", locking=False) as file:
            parts.append(file[name][:])
    return np.concatenate(parts)


def read_scene_digests(index: PackIndex, scenes: list[int]) -> list[str]:
    """Stored digests of some scenes, see ``scene_sha256``."""
    digests: list[str] = []
    for shard in index.shards:
        with h5py.File(shard.path, "r", locking=False) as file:
            digests += file[SHA256].asstr()[:].tolist()
    return [digests[scene] for scene in scenes]


@dataclass(frozen=True)
class _Tables:
    scene_ids: list[str]
    categories: list[str]
    offsets: NDArray[np.int64]
    image_size: tuple[int, int]
    scene_radius: float
    camera_distance: float


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} is no finished pack, since it has no {INDEX_FILE}: run scaled-ig pack") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): write the pack again") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(f"{path} is of version {version}, this program reads {SCHEMA_VERSION}: update one of them")
    return document


def _shards(folder: Path, rows: list[dict[str, Any]]) -> tuple[Shard, ...]:
    shards: list[Shard] = []
    view = 0
    for row in rows:
        first, last = row["scenes"]
        if first != (shards[-1].last_scene if shards else 0):
            raise UsageError(f"{folder / INDEX_FILE}: scenes before {first} are in no shard: write the pack again")
        end = view + row["n_views"]
        shards.append(Shard(folder / row["file"], first, last, view, end, row["bytes"], row["sha256"]))
        view = end
    if not shards:
        raise UsageError(f"{folder / INDEX_FILE} lists no shard: write the pack again")
    return tuple(shards)


def _read_tables(shard: Shard) -> _Tables:
    try:
        with h5py.File(shard.path, "r", locking=False) as file:
            attributes = file.attrs
            if attributes.get("schema") != SCHEMA or attributes.get("schema_version") != SCHEMA_VERSION:
                raise UsageError(f"{shard.path} is no shard of version {SCHEMA_VERSION}: write the pack again")
            if not attributes.get("complete", False):
                raise UsageError(f"{shard.path} was not finished: run scaled-ig pack again")
            height, width = (int(size) for size in attributes["image_size"])
            if not _fits(file, shard, (height, width)):
                raise UsageError(f"{shard.path}: the offset table or a shape does not fit: write the pack again")
            return _Tables(
                scene_ids=file[SCENE_ID].asstr()[:].tolist(),
                categories=file[CATEGORY].asstr()[:].tolist(),
                offsets=file[OFFSET][:],
                image_size=(height, width),
                scene_radius=float(attributes["scene_radius"]),
                camera_distance=float(attributes["camera_distance"]),
            )
    except (OSError, KeyError) as error:
        raise UsageError(f"{shard.path} cannot be read ({error}): restore it or write the pack again") from None


def _fits(file: h5py.File, shard: Shard, image_size: tuple[int, int]) -> bool:
    views, scenes = shard.last_view - shard.first_view, shard.last_scene - shard.first_scene
    shapes = {
        VIEWS: (views, *image_size, 3),
        CAMERA_TO_WORLD: (views, 4, 4),
        INTRINSICS: (views, 4),
        OFFSET: (scenes + 1,),
        **dict.fromkeys((SCENE_ID, CATEGORY, SHA256, SOURCE), (scenes,)),
    }
    if any(file[name].shape != shape for name, shape in shapes.items()):
        return False
    offsets = file[OFFSET][:]
    return bool(offsets[0] == 0 and offsets[-1] == views and (np.diff(offsets) > 0).all())
