"""Writes scenes of a pack as folders of lossless images with a ``transforms.json``, which other programs read."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.sources.base import PosedViews, SourceRecord
from data_modules.sources.photographs import denormalize_cameras
from data_modules.sources.transforms import MAP_FILE
from scaled_ig.errors import UsageError
from scaled_ig.files import write_json

TRANSFORMS_FILE = "transforms.json"
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # from its axes to OpenCV's, and back


def export_transforms(index: PackIndex, out: Path, scene_ids: list[str] | None = None, nerfstudio: bool = False) -> int:
    """Writes ``<id>/transforms.json`` and ``<id>/rgb/000000.png`` of every scene, and the categories of all.

    Masks are grey images, ``<id>/masks/000000.png``: alpha within the views would not give back the colours of pixels
    that the object covers in part. Packing the folder again as it is gives the same pixels, masks, poses, intrinsics
    and held out views, bit for bit. Where ``pack`` had normalized the cameras of posed images, they stand in the
    photographs' own world again.

    Args:
        index: an opened pack.
        out: a folder that is not there or empty.
        scene_ids: scenes to write; None writes all.
        nerfstudio: write what nerfstudio reads: OpenGL axes, and which views are trained on, watched and tested on.
            Masks are left out: there, they would say which pixels are learned.

    Returns:
        Number of scenes written.

    Raises:
        UsageError: ``out`` is taken, a scene is not in the pack, an id is no path below ``out``, or a shard is damaged.
    """
    scenes = _rows_of(index, scene_ids)
    for scene in scenes:
        _require_path(index.scene_ids[scene])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty: name another --out")
    with tqdm(desc="exporting", total=len(scenes), unit="scene") as bar:
        for shard in index.shards:
            members = [scene for scene in scenes if shard.first_scene <= scene < shard.last_scene]
            if not members:
                continue
            shard.verify()
            records = layout.read_source_records(shard)
            with shard.open() as file:
                for scene in members:
                    views = layout.read_scene(file, index, scene)
                    folder = out / index.scene_ids[scene]
                    record = records[scene - shard.first_scene] | {"shape": index.shapes[scene]}
                    write_scene(folder, views, record, _lists(index, scene, nerfstudio), nerfstudio)
                    bar.update()
    categories: dict[str, list[str]] = {}
    for scene in scenes:
        categories.setdefault(index.categories[scene], []).append(index.scene_ids[scene])
    write_json(out / MAP_FILE, categories)
    return len(scenes)


def _rows_of(index: PackIndex, scene_ids: list[str] | None) -> list[int]:
    """Rows of the scenes in the order of the pack."""
    if scene_ids is None:
        return list(range(index.num_scenes))
    rows = {scene_id: row for row, scene_id in enumerate(index.scene_ids)}
    for scene_id in scene_ids:
        if scene_id not in rows:
            raise UsageError(f"{index.path} holds no scene {scene_id}: name one of its {index.num_scenes} scenes")
    return sorted({rows[scene_id] for scene_id in scene_ids})


def _require_path(scene_id: str) -> None:
    """An id may come from anywhere, and must not lead out of the folder or to another scene's."""
    path = PurePosixPath(scene_id)
    if path.is_absolute() or ".." in path.parts or str(path) != scene_id or scene_id in (".", MAP_FILE):
        raise UsageError(f"scene {scene_id!r} cannot be a folder below --out: leave it out by --scenes")


def _lists(index: PackIndex, scene: int, nerfstudio: bool) -> dict[str, list[str]]:
    """Which images are for what: all that nerfstudio asks for, or what the files of the scene had said."""
    train, test = index.split(scene)
    test_views, val_views = index.held_out[scene]
    if not nerfstudio and not test_views:
        return {}
    val = train[:val_views]
    if nerfstudio and not val_views:
        val = test  # it does without none of the three
    parts = {"train_filenames": train[val_views:], "val_filenames": val, "test_filenames": test}
    return {key: [_image(row) for row in views.tolist()] for key, views in parts.items() if len(views)}


def _image(row: int) -> str:
    return f"rgb/{row:06d}.png"


def write_scene(
    folder: Path, views: PosedViews, record: SourceRecord, lists: dict[str, list[str]], nerfstudio: bool
) -> None:
    """Writes the images and the ``transforms.json`` of one scene.

    Args:
        folder: without images yet, made where it is missing.
        views: of the scene, with near and far.
        record: its ``shape``, and its ``license`` and ``normalization`` if it has any.
        lists: images by what they are for.
        nerfstudio: see :func:`export_transforms`.
    """
    poses: NDArray[Any] = views.camera_to_world
    near_far: NDArray[Any] | None = views.near_far
    normalization = record.get("normalization") or {}
    if "rotation" in normalization:  # that of cameras; a mesh has another one, and no cameras to take back
        poses, near_far = denormalize_cameras(poses, near_far, normalization)
    if nerfstudio:
        views, poses = replace(views, masks=None), poses @ OPENGL.astype(poses.dtype)
    document = {
        "camera_convention": "opengl" if nerfstudio else "opencv",
        **({"camera_model": "PINHOLE"} if nerfstudio else {}),
        "license": record.get("license"),
        "shape": record["shape"],
        **({} if views.masks is None else {"images_on_white": True}),
        **lists,
        "frames": _frames(folder, replace(views, camera_to_world=poses, near_far=near_far)),
    }
    (folder / TRANSFORMS_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _frames(folder: Path, views: PosedViews) -> list[dict[str, Any]]:
    """Writes the images; the numbers are float32 values with all the digits that float64 has."""
    height, width = views.images.shape[1:3]
    assert views.near_far is not None
    for part in ["rgb"] if views.masks is None else ["rgb", "masks"]:
        (folder / part).mkdir(parents=True)
    # Exact: a float32 times a number of pixels fits into float64, so that the quotient is the float32 again.
    pixels = views.intrinsics.astype(np.float64) * (width, height, width, height)
    frames = []
    for row, image in enumerate(views.images):
        name = _image(row)
        Image.fromarray(image).save(folder / name)
        mask = {}
        if views.masks is not None:
            mask = {"mask_path": f"masks/{row:06d}.png"}
            Image.fromarray(views.masks[row]).save(folder / mask["mask_path"])
        lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), pixels[row].tolist(), strict=True))
        near, far = views.near_far[row].tolist()
        pose = views.camera_to_world[row].tolist()
        size, limits = {"w": width, "h": height}, {"near": near, "far": far}
        frames.append({"file_path": name, **mask, "transform_matrix": pose, **lens, **size, **limits})
    return frames
