"""What is wrong with a scene that was read as it was packed: its pictures, its cameras, its record."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.checking.cameras import CameraFault, camera_faults
from data_modules.checking.findings import LEAVE_OUT, REPACK, Finding, SceneReport, ShardTask, ShownScene
from data_modules.checking.masks import contradiction_faults, mask_faults
from data_modules.sources.base import PosedViews

SHOWN_VIEWS = 6  # of a scene on the contact sheet
REACH_VIEWS = 8
NEARLY_WHITE = 240  # photographs and JPEG files are rarely pure
MOST_OUTSIDE = 0.05  # of the object's pixels


def check_scene(views: PosedViews, task: ShardTask, scene: int, source: bytes) -> Iterator[Any]:
    """Yields ``BEAT`` now and then, and at last the ``SceneReport`` of a scene of the pack.

    Args:
        views: as read, undamaged.
        task: of its shard.
        scene: its number in the pack.
        source: its record, as JSON.
    """
    file, name = task.shard.path.name, task.scene_ids[scene - task.shard.first_scene]
    record = _record(source)
    if record is None:
        yield SceneReport(scene, (Finding(file, name, None, "its source record is no JSON object", REPACK),), {})
        return
    if not len(views.images):
        yield SceneReport(scene, (Finding(file, name, None, "has no views", REPACK),), {})
        return
    faults = [*picture_faults(views), *mask_faults(views), *camera_faults(views, task.scene_radius, record)]
    faults = faults or list(reach_faults(views, task.scene_radius))
    if views.masks is not None and not faults:
        faults = yield from contradiction_faults(views, task.scene_radius)
    findings = tuple(Finding(file, name, tuple(np.flatnonzero(f.views).tolist()), f.what, f.remedy) for f in faults)
    places = np.unique(np.linspace(0, len(views.images) - 1, SHOWN_VIEWS).astype(int))
    masks = None if views.masks is None else views.masks[places]
    shown = ShownScene(views.images[places], masks, views.camera_to_world[places], views.intrinsics[places])
    yield SceneReport(scene, findings, record, shown if scene in task.shown else None)


def _record(source: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(source)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def picture_faults(views: PosedViews) -> Iterator[CameraFault]:
    """Views that show nothing, and views that are there twice."""
    flat = np.array([(view == view[0, 0]).all() for view in views.images])
    white = flat & (views.images[:, 0, 0] == 255).all(axis=1)
    if white.any():
        yield CameraFault(white, "nothing is shown, all is white", REPACK)
    if (flat & ~white).any():
        yield CameraFault(flat & ~white, "nothing is shown, all is one colour", REPACK)
    pictures = [hashlib.sha256(view).digest() for view in views.images]
    cameras = [p.tobytes() + i.tobytes() for p, i in zip(views.camera_to_world, views.intrinsics, strict=True)]
    yield from _twice(pictures, cameras, flat)


def _twice(pictures: list[bytes], cameras: list[bytes], flat: NDArray[np.bool_]) -> Iterator[CameraFault]:
    first_camera, first_picture = _first_places(cameras), _first_places(pictures)
    rows = range(len(pictures))
    same_camera = np.array([first_camera[row] < row for row in rows])
    same_picture = np.array([first_picture[row] < row for row in rows]) & ~flat
    same_pair = np.array(
        [(pictures[row], cameras[row]) == (pictures[c], cameras[c]) for row, c in enumerate(first_camera)]
    )
    remedy = f"pack it without them, {LEAVE_OUT}"
    for wrong, firsts, what in (
        (same_camera & same_pair, first_camera, "picture and camera are those of another view"),
        (same_camera & ~same_pair, first_camera, "the camera is that of another view, the picture is not"),
        # A symmetric object looks alike from many sides: only where most pictures differ is it a mistake.
        (same_picture & ~same_camera & (len(set(pictures)) > len(pictures) / 2), first_picture,
         "the picture is that of another view, the camera is not"),
    ):  # fmt: skip
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            yield CameraFault(wrong, f"{what} ({row} is {firsts[row]})", remedy)


def reach_faults(views: PosedViews, radius: float) -> Iterator[CameraFault]:
    """Views whose background is not white, and objects that reach outside the ball, as seen in some of the views."""
    looked_at = np.unique(np.linspace(0, len(views.images) - 1, REACH_VIEWS).astype(int))
    busy, outside = np.zeros((2, len(views.images)), dtype=bool)
    shares: list[float] = []
    for row in looked_at:
        image = views.images[row]
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        if (corners.min(axis=1) < NEARLY_WHITE).sum() > 2:
            busy[row] = True
            continue
        shares.append(_share_outside(image, views.camera_to_world[row], views.intrinsics[row], radius))
        outside[row] = shares[-1] > MOST_OUTSIDE
    if busy.sum() > len(looked_at) / 2:
        yield CameraFault(busy, "the background is not white", f"give images with alpha or masks, {LEAVE_OUT}")
    if outside.sum() > len(looked_at) / 2:
        what = f"{100 * max(shares):.0f} % of what is seen lies outside the ball of radius {radius:g} that is learned"
        yield CameraFault(outside, what, f"pack it with --normalize, {LEAVE_OUT}")


def _share_outside(
    image: NDArray[np.uint8], pose: NDArray[np.float32], intrinsics: NDArray[np.float32], radius: float
) -> float:
    """Share of the pixels that are not white whose rays pass the origin at more than ``radius``, and a little."""
    rows, columns = np.nonzero((image < NEARLY_WHITE).any(axis=-1))
    if not len(rows):
        return 0.0
    height, width = image.shape[:2]
    places = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1)
    rays = np.concatenate([(places - intrinsics[2:]) / intrinsics[:2], np.ones((len(rows), 1))], axis=1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    distance = np.linalg.norm(np.cross(-pose[:3, 3] @ pose[:3, :3], rays), axis=1)
    return float((distance > 1.05 * radius).mean())


def _first_places(values: list[bytes]) -> list[int]:
    """Where each value stands for the first time."""
    places: dict[bytes, int] = {}
    return [places.setdefault(value, place) for place, value in enumerate(values)]
