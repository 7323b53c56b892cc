"""Writes the files of a pack: scenes, whole shards and their index, each renamed to its name when it is on the disk."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_modules import layout
from data_modules.packing.disk import new_hdf5
from data_modules.sources.base import PosedViews, SourceRecord
from scaled_ig.files import file_sha256, replacing, write_json

OPTIONAL_KEYS = ("test_views", "val_views", "warnings")  # of records, which the index repeats
CAMERAS = (layout.CAMERA_TO_WORLD, layout.INTRINSICS, layout.NEAR_FAR)


def write_scene(path: Path, views: PosedViews, record: SourceRecord) -> None:
    """Writes one scene, compressed as in the shard that it waits for."""
    near_far = layout.ball_near_far(views.camera_to_world) if views.near_far is None else views.near_far
    with replacing(path) as draft, new_hdf5(draft) as file:
        create_views(file, layout.VIEWS, views.images.shape)[:] = views.images
        if views.masks is not None:
            create_views(file, layout.MASKS, views.masks.shape)[:] = views.masks
        cameras = views.camera_to_world, views.intrinsics, near_far
        for name, values in zip(CAMERAS, cameras, strict=True):
            file.create_dataset(name, data=values, dtype="f4")
        file[layout.SHA256] = np.bytes_(layout.scene_sha256(views.images, *cameras, views.masks))
        file[layout.SOURCE] = np.bytes_(json.dumps(record, sort_keys=True))


def write_shard(path: Path, scenes: list[dict[str, str]], files: list[Path], attributes: dict[str, Any]) -> None:
    """Puts finished scenes together to one shard; it gets its name when it is whole.

    Args:
        path: the shard.
        scenes: ``id`` and ``category`` of its scenes.
        files: their views of one size, as ``write_scene`` wrote them; compressed views are copied as they are.
        attributes: further attributes of the shard.
    """
    offsets, size, masked = [0], image_size(files[0]), []
    columns: dict[str, list[Any]] = {name: [] for name in (*CAMERAS, layout.SHA256, layout.SOURCE)}
    for part in files:
        with h5py.File(part, "r") as file:
            offsets.append(offsets[-1] + len(file[layout.VIEWS]))
            masked.append(layout.MASKS in file)
            for name, column in columns.items():
                column.append(file[name][()])
    with replacing(path) as draft, new_hdf5(draft) as file:
        create_views(file, layout.VIEWS, (offsets[-1], *size, 3))
        if any(masked):
            create_views(file, layout.MASKS, (offsets[-1], *size))
        for first, part in zip(offsets, files, strict=False):
            with h5py.File(part, "r") as scene:
                for name in (layout.VIEWS, layout.MASKS) if layout.MASKS in scene else (layout.VIEWS,):
                    copy_views(scene[name], range(len(scene[name])), file[name], first)
        small = {
            **{name: np.concatenate(columns[name]) for name in CAMERAS},
            layout.OFFSET: np.array(offsets, np.int64),
            layout.SCENE_ID: _text([scene["id"].encode() for scene in scenes]),
            layout.CATEGORY: _text([scene["category"].encode() for scene in scenes]),
            layout.SHA256: np.array(columns[layout.SHA256], "S64"),
            layout.SOURCE: _text(columns[layout.SOURCE]),
            **({layout.MASKED: np.array(masked, np.uint8)} if any(masked) else {}),
        }
        for name, values in small.items():
            file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
        for name, value in {
            **layout.WORLD_ATTRIBUTES,
            **attributes,
            "schema": layout.SCHEMA,
            "schema_version": layout.SCHEMA_VERSION,
            "image_size": size,
            "created_by": f"scaled-ig {version('scaled-ig')}",
            "content_sha256": hashlib.sha256(b"".join(columns[layout.SHA256])).hexdigest(),
            "complete": True,
        }.items():
            # Strings of variable length would lie in a heap that has no checksum.
            file.attrs[name] = np.bytes_(value) if isinstance(value, str) else value


def create_views(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A dataset of views [N, H, W, 3] or masks [N, H, W], one compressed chunk with a checksum each; zero at first."""
    return file.create_dataset(
        name,
        shape,
        np.uint8,
        chunks=(1, *shape[1:]),
        compression="gzip",
        compression_opts=layout.GZIP_LEVEL,
        fletcher32=True,
    )


def image_size(path: Path) -> tuple[int, int]:
    """H, W of the views in the file of a scene or of a shard."""
    with h5py.File(path, "r") as file:
        return file[layout.VIEWS].shape[1:3]


def copy_views(source: h5py.Dataset, rows: range, target: h5py.Dataset, first: int) -> None:
    """Copies views as they are compressed, to rows ``first`` and following: their makers have done the work."""
    within = (0,) * (source.ndim - 1)
    for place, row in enumerate(rows, start=first):
        filters, chunk = source.id.read_direct_chunk((row, *within))
        target.id.write_direct_chunk((place, *within), chunk, filters)


def _text(values: list[bytes]) -> NDArray[Any]:
    """Fixed-length UTF-8, since HDF5 has no checksum over strings of variable length."""
    return np.array(values, h5py.string_dtype("utf-8", max(1, *(len(value) for value in values))))


def scene_ids(shard: Path) -> list[str]:
    """The scenes of a shard."""
    with h5py.File(shard, "r") as file:
        return list(file[layout.SCENE_ID].asstr()[:])


def scene_records(file: Path) -> list[dict[str, Any]]:
    """Where the scenes came from, of the file of a scene or of a shard."""
    with h5py.File(file, "r") as opened:
        return [json.loads(text) for text in np.atleast_1d(opened[layout.SOURCE][()])]


def index_row(file: Path) -> dict[str, Any]:
    """What the index says of a finished shard and its scenes."""
    with h5py.File(file, "r") as shard:
        views = np.diff(shard[layout.OFFSET][:]).tolist()
        ids, categories = (shard[name].asstr()[:].tolist() for name in (layout.SCENE_ID, layout.CATEGORY))
        records = [json.loads(text) for text in shard[layout.SOURCE][:]]
        shapes = [str(record.get("shape") or name) for record, name in zip(records, ids, strict=True)]
        optional = [{key: record[key] for key in OPTIONAL_KEYS if key in record} for record in records]
        digests = [digest.decode() for digest in shard[layout.SHA256][:]]
        masked = shard[layout.MASKED][:].astype(bool).tolist() if layout.MASKED in shard else [False] * len(ids)
    keys = ("id", "category", "shape", "views", "sha256", "masks")
    columns = zip(ids, categories, shapes, views, digests, masked, strict=True)
    scenes = [dict(zip(keys, values, strict=True)) | more for values, more in zip(columns, optional, strict=True)]
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file), "scenes": scenes}


def write_index(
    out: Path, shards: list[dict[str, Any]], split_rule: str, jobs: list[str], left_out: list[dict[str, str]]
) -> None:
    """Writes ``pack.json`` beside the finished shards.

    Args:
        out: folder of the pack.
        shards: their rows, see ``index_row``.
        split_rule: see ``layout.split_views``.
        jobs: digests of what was asked for, one for every call that added scenes.
        left_out: scenes that are not in the pack: ``id`` and ``reason``.
    """
    with h5py.File(out / shards[-1]["file"], "r") as last:  # the newest, which is sound
        image_size = [int(size) for size in last.attrs["image_size"]]
    # Rows of a pack of schema 2, to which scenes are added, do not speak of masks.
    shards = [
        row | {"scenes": [{**scene, "masks": scene.get("masks", False)} for scene in row["scenes"]]} for row in shards
    ]
    scenes = [scene for shard in shards for scene in shard["scenes"]]
    document = {
        "schema_version": layout.SCHEMA_VERSION,
        "image_size": image_size,
        "scene_radius": layout.SCENE_RADIUS,
        "split": split_rule,
        "totals": {
            "scenes": len(scenes),
            "views": sum(scene["views"] for scene in scenes),
            "bytes": sum(shard["bytes"] for shard in shards),
        },
        "jobs": jobs,
        "left_out": left_out,
        "shards": shards,
    }
    write_json(out / layout.INDEX_FILE, document | {"sha256": layout.json_sha256(document)})
