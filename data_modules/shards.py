"""Writes the files of a pack: whole shards and their index, each renamed to its name when its bytes are on the disk."""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_modules import layout
from data_modules.sources.base import file_sha256
from scaled_ig.errors import UsageError


def write_shard(path: Path, scenes: list[dict[str, str]], files: list[Path], attributes: dict[str, Any]) -> None:
    """Puts finished scenes together to one shard; it gets its name when it is whole.

    Args:
        path: the shard.
        scenes: ``id`` and ``category`` of its scenes.
        files: their views, as ``np.savez`` wrote ``images``, ``camera_to_world``, ``intrinsics`` and ``record``.
        attributes: further attributes of the shard.

    Raises:
        UsageError: the scenes' images differ in size.
    """
    offsets = np.cumsum([0] + [len(_member(part, "camera_to_world")) for part in files])
    temporary = path.with_suffix(".h5.part")
    with h5py.File(temporary, "w", libver=layout.LIBVER) as file:
        digests = _write_views(file, scenes, files, offsets)
        poses = np.concatenate([_member(part, "camera_to_world") for part in files])
        small = {
            layout.CAMERA_TO_WORLD: poses,
            layout.INTRINSICS: np.concatenate([_member(part, "intrinsics") for part in files]),
            layout.OFFSET: offsets.astype(np.int64),
            layout.SCENE_ID: _text([scene["id"] for scene in scenes]),
            layout.CATEGORY: _text([scene["category"] for scene in scenes]),
            layout.SHA256: np.array(digests, "S64"),
            layout.SOURCE: _text([str(_member(part, "record")) for part in files]),
        }
        for name, values in small.items():
            file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
        file.attrs.update(layout.WORLD_ATTRIBUTES | attributes)
        file.attrs.update(
            schema=layout.SCHEMA,
            schema_version=layout.SCHEMA_VERSION,
            image_size=file[layout.VIEWS].shape[1:3],
            camera_distance=float(np.median(np.linalg.norm(poses[:, :3, 3], axis=1))),
            created_by=f"scaled-ig {version('scaled-ig')}",
            content_sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
        )
        file.attrs["complete"] = True
    publish(temporary, path)


def _write_views(
    file: h5py.File, scenes: list[dict[str, str]], files: list[Path], offsets: NDArray[np.int64]
) -> list[str]:
    """Writes the images, one scene in memory at a time; returns the scenes' digests."""
    image_size = _member(files[0], "images").shape[1:3]
    views = file.create_dataset(
        layout.VIEWS,
        (offsets[-1], *image_size, 3),
        np.uint8,
        chunks=(1, *image_size, 3),
        compression="gzip",
        compression_opts=layout.GZIP_LEVEL,
        fletcher32=True,
    )
    digests = []
    for row, scene_file in enumerate(files):
        images = _member(scene_file, "images")
        if images.shape[1:3] != image_size:
            found, expected = scenes[row]["id"], scenes[0]["id"]
            raise UsageError(
                f"scene {found} has images of {images.shape[1:3]} pixels, {expected} of {image_size}: "
                "pack each size for itself"
            )
        views[offsets[row] : offsets[row + 1]] = images
        cameras = _member(scene_file, "camera_to_world"), _member(scene_file, "intrinsics")
        digests.append(layout.scene_sha256(images, *cameras))
    return digests


def _member(file: Path, name: str) -> NDArray[Any]:
    with np.load(file) as part:
        return part[name]


def _text(values: list[str]) -> NDArray[Any]:
    """Fixed-length UTF-8, since HDF5 has no checksum over strings of variable length."""
    encoded = [value.encode() for value in values]
    return np.array(encoded, h5py.string_dtype("utf-8", max(len(value) for value in encoded)))


def write_index(out: Path, files: list[Path], split_rule: str, job: str) -> None:
    """Writes ``pack.json`` beside the finished shards ``files``; ``job`` is the digest of what was asked for."""
    shards: list[dict[str, Any]] = []
    first = 0
    for file in files:
        with h5py.File(file, "r") as shard:
            scenes, views = len(shard[layout.SCENE_ID]), len(shard[layout.VIEWS])
        shards.append(
            {
                "file": file.name,
                "bytes": file.stat().st_size,
                "sha256": file_sha256(file),
                "scenes": [first, first + scenes],
                "n_views": views,
            }
        )
        first += scenes
    totals = {key: sum(shard[key] for shard in shards) for key in ("n_views", "bytes")}
    index = {
        "schema_version": layout.SCHEMA_VERSION,
        "job": job,
        "shards": shards,
        "totals": {"scenes": first, **totals},
        "split": {"test": split_rule, "fraction": layout.TEST_FRACTION},
    }
    write_json(out / layout.INDEX_FILE, index)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON file that is never seen half written."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Renames a file once its bytes are on the disk."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
