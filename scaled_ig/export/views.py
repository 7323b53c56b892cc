"""What cameras see of scenes: a film, or images with their cameras as ``transforms.json``.

Letters: B views, H rows and W columns of pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from data_modules.packing.export import write_scene
from data_modules.sources.base import PosedViews
from data_modules.sources.transforms import MAP_FILE
from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import Cameras, focal_of
from scaled_ig.errors import UsageError
from scaled_ig.export.scenes import whole_folder, write_scenes
from scaled_ig.files import write_json
from scaled_ig.rendering.sampling import SCENE_RADIUS
from scaled_ig.report import pictures
from scaled_ig.report.camera_files import CameraFile
from scaled_ig.report.orbits import orbit_cameras

FRAMES_PER_SECOND = 20


def write_video(bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object], views: int = 60) -> str:
    """Write ``<id>.mp4`` of each scene: the camera goes round it.

    Args:
        bank, ids, out, progress: See :mod:`scaled_ig.export`.
        views: Frames.
    """

    def write(scene: BankScene, path: Path) -> None:
        images = pictures.to_pictures(scene.render(_orbit(scene, views)))
        pictures.write_film(path, pictures.film_frames([images]), FRAMES_PER_SECOND)

    return write_scenes(bank, ids, out, (".mp4",), write, progress, {"format": "video", "views": views})


def write_views(
    bank: SceneBank,
    ids: list[str],
    out: Path,
    progress: Callable[[int], object],
    views: int | None = None,
    cameras: str | None = None,
    *,
    nerfstudio: bool = False,
) -> str:
    """Write ``<id>/transforms.json``, images and masks of each scene, which ``scaled-ig pack transforms`` reads.

    Args:
        bank, ids, out, progress: See :mod:`scaled_ig.export`.
        views: Of an orbit; 60 where it is None.
        cameras: A file of cameras that take its place; images have the size that it names.
        nerfstudio: Write what nerfstudio reads: cameras with OpenGL axes, no masks.

    Raises:
        UsageError: The cameras cannot be read, or both are given.
    """
    if views is not None and cameras is not None:
        raise UsageError("--views and --cameras both say where cameras stand: give one of the two")
    chosen = None if cameras is None else CameraFile.read(Path(cameras))

    def write(scene: BankScene, path: Path) -> None:
        if chosen is None:
            posed = _posed_views(scene, _orbit(scene, views or 60), None)
        else:
            posed = _posed_views(scene, chosen.cameras, chosen.size)
        with whole_folder(path) as draft:
            write_scene(draft, posed, {"license": scene.licence or None, "shape": scene.id}, {}, nerfstudio)

    digest = None if cameras is None else hashlib.sha256(Path(cameras).read_bytes()).hexdigest()
    options = {"format": "nerfstudio" if nerfstudio else "views", "views": views, "cameras": digest}
    said = write_scenes(bank, ids, out, ("",), write, progress, options)
    categories: dict[str, list[str]] = {}
    for scene_id in ids:
        categories.setdefault(bank.record(scene_id).category or "object", []).append(scene_id)
    write_json(out / MAP_FILE, categories)
    return said


write_nerfstudio = partial(write_views, nerfstudio=True)


def _orbit(scene: BankScene, views: int) -> Cameras:
    return orbit_cameras(views, focal=focal_of(scene.model.image_size))


def _posed_views(scene: BankScene, cameras: Cameras, size: tuple[int, int] | None) -> PosedViews:
    outputs = scene.render(cameras, size, outputs=("image", "opacity"))
    masks = (outputs["opacity"][:, 0] * 255).round().byte()
    distance = cameras.camera_to_world[:, :3, 3].norm(dim=1)
    near_far = torch.stack([(distance - SCENE_RADIUS).clamp(min=0), distance + SCENE_RADIUS], 1)
    return PosedViews(
        pictures.to_pictures(outputs["image"]),
        cameras.camera_to_world.cpu().numpy(),
        cameras.intrinsics.cpu().numpy(),
        near_far.cpu().numpy(),
        masks.cpu().numpy(),
    )
