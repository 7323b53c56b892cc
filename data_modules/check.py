"""Verifies a pack, and draws a sheet on which a wrong axis or camera convention is seen at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from data_modules import layout
from data_modules.layout import PackIndex, Shard
from data_modules.sources.base import PosedViews, file_sha256

ORTHONORMAL_TOLERANCE = 1e-3
AXES = (("X", (214, 39, 40)), ("Y", (44, 160, 44)), ("Z", (31, 79, 214)))
CAPTION_HEIGHT = 16
CELL = 160


def find_faults(index: PackIndex) -> list[str]:
    """Reads every byte of a pack and compares it with what it should be.

    Args:
        index: an opened pack; its tables were checked by opening it.

    Returns:
        One sentence for every fault, naming the file or the scene; empty for a sound pack.
    """
    faults: list[str] = []
    with tqdm(total=index.num_scenes, desc="checking", unit="scene") as progress:
        for shard in index.shards:
            if shard.path.stat().st_size != shard.bytes or file_sha256(shard.path) != shard.sha256:
                faults.append(
                    f"{shard.path.name} is not the file that was packed: its sha256 is not that of {layout.INDEX_FILE}"
                )
            with h5py.File(shard.path, "r", locking=False) as file:
                for scene in range(shard.first_scene, shard.last_scene):
                    found = _scene_faults(file, shard, index, scene)
                    faults += [f"scene {index.scene_ids[scene]}: {fault}" for fault in found]
                    progress.update()
    return faults


def _scene_faults(file: h5py.File, shard: Shard, index: PackIndex, scene: int) -> Iterator[str]:
    try:
        views = read_views(file, shard, index, scene)
        expected = file[layout.SHA256][scene - shard.first_scene].decode()
    except (OSError, ValueError) as error:
        yield f"cannot be read ({error})"
        return
    if layout.scene_sha256(views.images, views.camera_to_world, views.intrinsics) != expected:
        yield "its views or cameras are not those that were packed (sha256)"
    white = (views.images == 255).all(axis=(1, 2, 3))
    if white.any():
        yield f"views {_listed(white)} are all white"
    yield from camera_faults(views.camera_to_world, views.intrinsics, index.scene_radius)


def camera_faults(
    camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], scene_radius: float
) -> Iterator[str]:
    """What is wrong with cameras [V, 4, 4] and intrinsics [V, 4] around a ball of ``scene_radius``."""
    finite = np.isfinite(camera_to_world).all(axis=(1, 2)) & np.isfinite(intrinsics).all(axis=1)
    if not finite.all():
        yield f"cameras {_listed(~finite)} are not finite"
        return
    poses = camera_to_world.astype(np.float64)
    rotation, position = poses[:, :3, :3], poses[:, :3, 3]
    rigid = np.abs(rotation.transpose(0, 2, 1) @ rotation - np.eye(3)).max(axis=(1, 2)) < ORTHONORMAL_TOLERANCE
    rigid &= (poses[:, 3] == [0, 0, 0, 1]).all(axis=1)
    right_handed = np.linalg.det(rotation) > 0
    outside = np.linalg.norm(position, axis=1) > scene_radius
    faces_scene = (rotation[:, :, 2] * position).sum(axis=1) < 0
    positive = (intrinsics[:, :2] > 0).all(axis=1)
    for sound, fault in (
        (rigid, "are no rigid motions"),
        (right_handed, "are left-handed"),
        (outside, f"stand inside the ball of radius {scene_radius}"),
        (faces_scene | ~outside, "look away from the scene: try the other --camera_convention"),
        (positive, "have a focal length that is not positive"),
    ):
        if not sound.all():
            yield f"cameras {_listed(~sound)} {fault}"


def _listed(chosen: Any) -> str:
    rows = np.flatnonzero(chosen)
    return ", ".join(str(row) for row in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def read_views(file: h5py.File, shard: Shard, index: PackIndex, scene: int) -> PosedViews:
    """All views and cameras of one scene from its opened shard."""
    rows = slice(*(index.offsets[scene : scene + 2] - shard.first_view))
    return PosedViews(file[layout.VIEWS][rows], file[layout.CAMERA_TO_WORLD][rows], file[layout.INTRINSICS][rows])


def draw_contact_sheet(index: PackIndex, path: Path, num_scenes: int = 24, num_views: int = 6) -> None:
    """Draws views of scenes with the world axes in them: X red, Y green, Z blue, each as long as the ball's radius.

    Args:
        index: an opened pack.
        path: the PNG file to write.
        num_scenes: scenes shown, spread evenly over the pack.
        num_views: views shown of every scene, spread evenly over its views.
    """
    chosen = np.unique(np.linspace(0, index.num_scenes - 1, num_scenes).astype(int))
    columns = 2 if len(chosen) > 8 else 1
    rows = -(-len(chosen) // columns)
    gap = CELL // 8
    strip_width, strip_height = num_views * CELL, CELL + CAPTION_HEIGHT
    sheet = Image.new("RGB", (columns * strip_width + (columns - 1) * gap, rows * strip_height), "white")
    for place, scene in enumerate(chosen):
        strip = _scene_strip(index, int(scene), num_views)
        sheet.paste(strip, ((place // rows) * (strip_width + gap), (place % rows) * strip_height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _scene_strip(index: PackIndex, scene: int, num_views: int) -> Image.Image:
    shard = next(shard for shard in index.shards if scene < shard.last_scene)
    strip = Image.new("RGB", (num_views * CELL, CELL + CAPTION_HEIGHT), "white")
    caption = f"{index.scene_ids[scene]}  ({index.categories[scene]}, {index.num_views[scene]} views)"
    ImageDraw.Draw(strip).text((3, 2), caption, fill="black", font=ImageFont.load_default(11))
    try:
        with h5py.File(shard.path, "r", locking=False) as file:
            views = read_views(file, shard, index, scene)
    except OSError:  # named by find_faults; the other scenes are still worth seeing
        return strip
    shown = np.unique(np.linspace(0, len(views.images) - 1, num_views).astype(int))
    for column, view in enumerate(shown):
        cell = Image.fromarray(views.images[view]).resize((CELL, CELL), Image.Resampling.LANCZOS)
        _draw_axes(cell, views.camera_to_world[view], views.intrinsics[view], index.scene_radius)
        strip.paste(cell, (column * CELL, CAPTION_HEIGHT))
    return strip


def _draw_axes(
    image: Image.Image, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], length: float
) -> None:
    """Draws the axes over an image, the nearest last; axes behind the camera are left out."""
    tips = np.concatenate([np.zeros((1, 3)), length * np.eye(3)])
    camera = (tips - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]
    if (camera[:, 2] <= 0).any():
        return
    places = (camera[:, :2] / camera[:, 2:] * intrinsics[:2] + intrinsics[2:]) * image.size
    draw = ImageDraw.Draw(image)
    for axis in np.argsort(-camera[1:, 2]):
        letter, color = AXES[axis]
        origin, tip = tuple(places[0]), tuple(places[1 + axis])
        draw.line([origin, tip], fill=color, width=2)
        draw.text(
            tip, letter, fill=color, font=ImageFont.load_default(14), anchor="mm", stroke_width=2, stroke_fill="white"
        )
