"""Posed photographs or renderings: nerfstudio's and Blender's ``transforms.json``, and ``transforms_opencv.json``."""

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.sources.base import PosedViews, SceneEntry, SceneSource, SourceRecord, Viewpoints, file_sha256
from scaled_ig.errors import UsageError

FILE_NAMES = ("transforms_opencv.json", "transforms.json", "transforms_train.json")
CONVENTIONS = ("opencv", "opengl")


class TransformsSource(SceneSource):
    """Folders that hold a transforms file; each is one scene, its id is its path below ``path``.

    Where ``path`` holds ``dataset_map.json`` (``{"car": [scene, ...], ...}``), its lists give the scenes that are taken
    and their categories. Pixels and poses are copied as they are: the scenes must already stand in world axes.

    Args:
        path: folder of scenes, or one scene.
        camera_convention: ``opencv`` or ``opengl`` for all scenes; None takes a file's key ``camera_convention``, else
            ``opencv`` for files named ``transforms_opencv.json``, else ``opengl``.
        category: category of scenes that no map names.

    Raises:
        UsageError: no transforms file is found, or the map names a scene that is not there.
    """

    viewpoints: ClassVar[Viewpoints | None] = None

    def __init__(self, path: Path, camera_convention: str | None = None, category: str = "object") -> None:
        self.path = path
        self.camera_convention = camera_convention
        found: dict[Path, Path] = {}
        for name in FILE_NAMES:
            for file in sorted(path.rglob(name)):
                found.setdefault(file.parent, file)
        if not found:
            raise UsageError(f"{path} holds no {', '.join(FILE_NAMES)}: name a folder of scenes")
        self.files = {_scene_id(path, folder): file for folder, file in sorted(found.items())}
        has_map = (path / "dataset_map.json").is_file()
        self.categories = self._mapped() if has_map else dict.fromkeys(self.files, category)

    def _mapped(self) -> dict[str, str]:
        listed = _read_json(self.path / "dataset_map.json")
        categories: dict[str, str] = {}
        for category, names in listed.items():
            for name in names:
                matches = [scene for scene in self.files if scene == name or scene.endswith(f"/{name}")]
                if len(matches) != 1:
                    raise UsageError(
                        f"{self.path / 'dataset_map.json'} names {name}, found {len(matches)} times below {self.path}: "
                        "name the folder of one subset that holds every scene once"
                    )
                categories[matches[0]] = category
        return categories

    def scenes(self) -> list[SceneEntry]:
        """The folders by name, or the map's order."""
        return [SceneEntry(scene, category) for scene, category in self.categories.items()]

    def load(self, scene_id: str) -> tuple[PosedViews, SourceRecord]:
        """Reads the views of one scene."""
        file = self.files[scene_id]
        document = _read_json(file)
        frames = document.get("frames")
        if not frames:
            raise UsageError(f"{file} lists no frames: complete or remove it")
        images = [_read_image(file, frame) for frame in frames]
        if len({image.shape for image in images}) > 1:
            raise UsageError(f"{file}: its images differ in size: bring them to one size")
        height, width = images[0].shape[:2]
        try:
            poses = np.array([frame["transform_matrix"] for frame in frames], dtype=np.float64).reshape(-1, 4, 4)
            intrinsics = [_intrinsics(document | frame, width, height) for frame in frames]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{file}: a frame's camera cannot be read ({error!r}): repair the file") from None
        if self._convention(file, document) == "opengl":
            poses[:, :, 1:3] *= -1
        views = PosedViews(np.stack(images), poses.astype(np.float32), np.array(intrinsics, dtype=np.float32))
        return views, {
            "file": file.relative_to(self.path).as_posix(),
            "sha256": file_sha256(file),
            "license": document.get("license"),
            "shape": scene_id,
            "normalization": None,
        }

    def _convention(self, file: Path, document: dict[str, Any]) -> str:
        by_name = "opencv" if "_opencv" in file.stem else "opengl"
        convention = self.camera_convention or str(document.get("camera_convention", by_name)).lower()
        if convention not in CONVENTIONS:
            raise UsageError(f"{file}: camera_convention {convention!r} is not known: use {' or '.join(CONVENTIONS)}")
        return convention


def _scene_id(path: Path, folder: Path) -> str:
    return folder.name if folder == path else folder.relative_to(path).as_posix()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no readable JSON ({error}): repair or remove it") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no JSON object: repair or remove it")
    return document


def _read_image(file: Path, frame: dict[str, Any]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]; RGBA is blended on white, RGB is left as it is."""
    path = file.parent / str(frame.get("file_path", ""))
    if not path.suffix:
        path = path.with_suffix(".png")  # Blender's files leave it out
    try:
        with Image.open(path) as image:
            if image.mode == "RGB":
                return np.asarray(image)
            rgba = np.asarray(image.convert("RGBA"), dtype=np.float64) / 255
    except OSError as error:
        raise UsageError(f"{file} names the image {path}, which cannot be read ({error}): restore it") from None
    color, alpha = rgba[..., :3], rgba[..., 3:]
    return np.round((color * alpha + 1 - alpha) * 255).astype(np.uint8)


def _intrinsics(camera: dict[str, Any], width: int, height: int) -> tuple[float, float, float, float]:
    """fx / W, fy / H, cx / W, cy / H; the keys speak of an image of ``w`` x ``h`` pixels, if they are there."""
    wide, high = float(camera.get("w", width)), float(camera.get("h", height))
    if "fl_x" in camera:
        fx = float(camera["fl_x"])
        fy = float(camera.get("fl_y", fx))
    else:
        fx = wide / (2 * math.tan(float(camera["camera_angle_x"]) / 2))
        fy = fx
    return fx / wide, fy / high, float(camera.get("cx", wide / 2)) / wide, float(camera.get("cy", high / 2)) / high
