"""What all readers of posed images share: from a file's frames to views in this project's axes."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import PosedViews, SceneSource, SourceRecord, Viewpoints
from data_modules.sources.conventions import (
    LARGEST,
    choose_convention,
    opencv_camera_to_world,
    read_pose,
    require_convention,
)
from data_modules.sources.files import short, walk
from data_modules.sources.masks import choose_masks, require_option
from data_modules.sources.photographs import fit_image, normalize_cameras
from data_modules.sources.pictures import split_alpha
from data_modules.sources.undistort import Distortion, undistort
from scaled_ig.cameras import rows_and_columns
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256


@dataclass(frozen=True)
class Frame:
    """One image and its camera as the file has them; ``PosedSource`` brings them into the form of a pack.

    Attributes:
        name: the image, as messages call it.
        pixels: uint8 [h, w, 3], or [h, w, 4] with alpha; sRGB.
        pose: 3x4 or 4x4 numbers, row by row.
        intrinsics: fx / w, fy / h, cx / w, cy / h.
        near_far: distances between which the scene lies, or None.
        mask: uint8 [h, w], how much of each pixel the object covers, where the pixels are on white already; else the
            mask is their alpha.
        distortion: of the lens; None for a pinhole.
        is_turned: whether the file says that the image is to be shown turned or mirrored.
    """

    name: str
    pixels: NDArray[np.uint8]
    pose: Any
    intrinsics: tuple[float, float, float, float] | NDArray[np.float64]
    near_far: tuple[float, float] | None = None
    mask: NDArray[np.uint8] | None = None
    distortion: Distortion | None = None
    is_turned: bool = False


@dataclass(frozen=True)
class Capture:
    """A scene of posed images before they are read.

    Attributes:
        file: where the cameras are, as messages call it.
        frames: images with their cameras, read one at a time.
        record: ``file``, ``sha256``, ``license``, ``shape``.
        convention_rule: camera convention of the format.
        convention_key: camera convention that the file names, or None.
        warnings: what the file says and the views do not show, one clause each.
    """

    file: Path
    frames: Iterator[Frame]
    record: SourceRecord
    convention_rule: str = "opencv"
    convention_key: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(eq=False)
class PosedSource(SceneSource):
    """A reader of posed images; a subclass finds the scenes and yields their frames.

    Args:
        path: what is read.
        camera_convention: ``opencv``, ``opengl``, ``opencv_w2c`` or ``opengl_w2c`` for all scenes; None takes what the
            file says, else the rule of the format.
        category: category of scenes whose files name none.
        resolution: images are cropped in their middle and resized to this many pixels a side, or to these rows and
            columns, one at a time; None copies the pixels as they are.
        normalize: whether the cameras are brought into the world: up +Z, the scene in the ball of radius 0.5 around
            the origin; else the scenes must already stand there.
        yaw: degrees about +Z that bring the front to -Y, once the cameras are in the world; photographs do not tell
            their front.
        masks: where masks come from, see ``masks.choose_masks``.

    Raises:
        UsageError: an unknown convention or origin of masks, a resolution below 1, a yaw of cameras that are not
            brought there, or no scene is found.
    """

    viewpoints: ClassVar[Viewpoints | None] = None

    path: Path
    camera_convention: str | None = None
    category: str = "object"
    resolution: int | tuple[int, int] | None = None
    normalize: bool = False
    yaw: float = 0.0
    masks: str = "auto"

    def __post_init__(self) -> None:
        if self.camera_convention is not None:
            require_convention(self.camera_convention, "--camera_convention")
        if self.resolution is not None and min(rows_and_columns(self.resolution)) < 1:
            raise UsageError(f"--resolution {self.resolution} must be positive, e.g. 128")
        if not math.isfinite(self.yaw):
            raise UsageError(f"--yaw {self.yaw} is no angle: give degrees, e.g. 90")
        if self.yaw and not self.normalize:
            raise UsageError(f"--yaw {self.yaw:g} turns the cameras that --normalize brings into the world: give both")
        require_option(self.masks)

    @abstractmethod
    def capture(self, scene_id: str) -> Capture:
        """Opens one scene."""

    def load(self, scene_id: str) -> tuple[PosedViews, SourceRecord]:
        """Reads the views of one scene.

        Returns:
            The views, and the record: ``file``, ``sha256``, ``license``, ``shape``, the ``camera_convention`` and who
            decided it (``camera_convention_from``: ``option``, ``key`` or ``format``), ``undistorted`` where images
            were, the ``normalization`` (``photographs.normalize_cameras``) or None, and what ``masks.choose_masks``
            says.

        Raises:
            UsageError: a file is missing or malformed, or the images differ in size and no resolution is given.
        """
        capture = self.capture(scene_id)
        convention, decided_by = choose_convention(
            capture.file, self.camera_convention, capture.convention_key, capture.convention_rule
        )
        frames = [self._fit(capture.file, frame) for frame in capture.frames]
        views, normalization = _stack(capture.file, frames, convention), None
        alphas = [frame.mask for frame in frames]
        if self.normalize:
            known_alphas = [alpha for alpha in alphas if alpha is not None]
            silhouettes = np.stack(known_alphas) if len(known_alphas) == len(alphas) else None
            try:
                views, normalization = normalize_cameras(views, silhouettes, self.yaw)
            except UsageError as error:
                raise UsageError(f"{capture.file}: {error}") from None
        poses, intrinsics = views.camera_to_world.astype(np.float32), views.intrinsics.astype(np.float32)
        near_far = None if views.near_far is None else views.near_far.astype(np.float32)
        views = PosedViews(views.images, poses, intrinsics, near_far)
        masks, origin = choose_masks(self.masks, views, alphas, [frame.name for frame in frames])
        record = capture.record | {"camera_convention": convention, "camera_convention_from": decided_by}
        record |= {"undistorted": True} if any(frame.distortion for frame in frames) else {}
        warnings = (*capture.warnings, *_turned([frame.name for frame in frames if frame.is_turned], len(frames)))
        return replace(views, masks=masks, warnings=warnings), record | {"normalization": normalization, **origin}

    def _fit(self, file: Path, frame: Frame) -> Frame:
        """A frame at the resolution asked for, on white and with its mask, pose float64 [4, 4], intrinsics [4]."""
        where = f"{file}, {frame.name}"
        pose, intrinsics = read_pose(frame.pose, where), np.array(frame.intrinsics, dtype=np.float64)
        if not (np.abs(intrinsics) < LARGEST).all() or (intrinsics[:2] <= 0).any():
            raise UsageError(f"{where}: its focal length or principal point is no size: repair it")
        pixels, mask = split_alpha(frame.pixels) if frame.mask is None else (frame.pixels, frame.mask)
        if frame.distortion is not None:
            try:
                mask = None if mask is None else undistort(mask, intrinsics, frame.distortion)[0]
                pixels, intrinsics = undistort(pixels, intrinsics, frame.distortion)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
        if self.resolution is not None:
            size = rows_and_columns(self.resolution)
            mask = None if mask is None else fit_image(mask, intrinsics, size)[0]
            pixels, intrinsics = fit_image(pixels, intrinsics, size)
        return replace(frame, pixels=pixels, pose=pose, intrinsics=intrinsics, mask=mask)

    def record(self, file: Path, scene_id: str) -> SourceRecord:
        """Where a scene came from: the file of its cameras."""
        name = file.relative_to(self.path).as_posix()
        return {"file": name, "sha256": file_sha256(file), "license": None, "shape": scene_id}


def find_scenes(
    path: Path, camera_files: Callable[[list[str], list[str]], list[str]], expected: str
) -> dict[str, list[Path]]:
    """Folders of posed images, each of them one scene.

    Args:
        path: one scene, or a folder of scenes at any depth.
        camera_files: which of the files in a folder hold cameras, none where it is no scene; takes the names of its
            folders, of which it may remove those that are not to be searched, and those of its files.
        expected: what a scene holds, for the message.

    Returns:
        Scene id, the path below ``path`` -> the files of its cameras; ordered by id.

    Raises:
        UsageError: no scene is found.
    """
    files: dict[str, list[Path]] = {}
    for folder, below, names in walk(path):
        if cameras := camera_files(below, names):
            scene = path.resolve().name if folder == path else folder.relative_to(path).as_posix()
            files[scene] = [folder / name for name in cameras]
    if not files:
        raise UsageError(f"{path} holds no {expected}: name a folder of scenes")
    return dict(sorted(files.items()))


def _turned(names: list[str], count: int) -> list[str]:
    """A warning where files say that images are to be turned."""
    if not names:
        return []
    return [
        f"{len(names)} of its {count} images, e.g. {short(names[0])}, have an EXIF orientation, which is not applied: "
        "poses must be those of the pixels as they are stored, as nerfstudio reads them; if they are those of the "
        "turned images, turn the files first, e.g. by mogrify -auto-orient"
    ]


def _stack(file: Path, frames: list[Frame], convention: str) -> PosedViews:
    """Views of frames that are fitted; cameras in float64, since those of photographs may stand far from the origin."""
    if not frames:
        raise UsageError(f"{file} lists no images: complete or remove it")
    sizes = sorted({f"{frame.pixels.shape[1]}x{frame.pixels.shape[0]}" for frame in frames})
    if len(sizes) > 1:
        raise UsageError(f"{file}: its images differ in size ({', '.join(sizes[:3])}): give one, e.g. --resolution 128")
    limits = [frame.near_far for frame in frames if frame.near_far is not None]
    if limits and len(limits) < len(frames):
        raise UsageError(f"{file}: only some frames have near and far: give them for all frames or for none")
    camera_to_world: NDArray[Any] = opencv_camera_to_world(np.stack([frame.pose for frame in frames]), convention)
    intrinsics: NDArray[Any] = np.stack([frame.intrinsics for frame in frames])
    images = np.stack([frame.pixels for frame in frames])
    return PosedViews(images, camera_to_world, intrinsics, np.array(limits) if limits else None)
