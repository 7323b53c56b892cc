"""What all readers of posed images share: from a file's frames to views in this project's axes."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import PosedViews, SceneSource, SourceRecord, Viewpoints
from data_modules.sources.conventions import choose_convention, opencv_camera_to_world, read_pose, require_convention
from data_modules.sources.masks import choose_masks, require_option
from data_modules.sources.photographs import fit_image_size, normalize_cameras
from data_modules.sources.pictures import split_alpha
from scaled_ig.errors import UsageError


@dataclass(frozen=True)
class Frame:
    """One image and its camera as the file has them.

    Attributes:
        name: the image, as messages call it.
        pixels: uint8 [h, w, 3], or [h, w, 4] with alpha; sRGB.
        pose: 3x4 or 4x4 numbers, row by row.
        intrinsics: fx / w, fy / h, cx / w, cy / h.
        near_far: distances between which the scene lies, or None.
        mask: uint8 [h, w], how much of each pixel the object covers, where the pixels are on white already; else the
            mask is their alpha.
    """

    name: str
    pixels: NDArray[np.uint8]
    pose: Any
    intrinsics: tuple[float, float, float, float]
    near_far: tuple[float, float] | None = None
    mask: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Capture:
    """A scene of posed images before they are read.

    Attributes:
        file: where the cameras are, as messages call it.
        frames: images with their cameras, read one at a time.
        record: ``file``, ``sha256``, ``license``, ``shape``.
        convention_rule: camera convention of the format.
        convention_key: camera convention that the file names, or None.
    """

    file: Path
    frames: Iterator[Frame]
    record: SourceRecord
    convention_rule: str
    convention_key: str | None = None


class PosedSource(SceneSource):
    """A reader of posed images; a subclass finds the scenes and yields their frames.

    Args:
        path: what is read.
        camera_convention: ``opencv``, ``opengl``, ``opencv_w2c`` or ``opengl_w2c`` for all scenes; None takes what the
            file says, else the rule of the format.
        resolution: images are cropped to the centred square and resized to this many pixels a side, one at a time;
            None copies the pixels as they are.
        normalize: whether the cameras are brought into the world: up +Z, the scene in the ball of radius 0.5 around
            the origin; else the scenes must already stand there.
        yaw: degrees about +Z that bring the front to -Y, once the cameras are in the world; photographs do not tell
            their front.
        masks: where masks come from, see ``masks.choose_masks``.

    Raises:
        UsageError: an unknown convention or origin of masks, a resolution below 1, or a yaw of cameras that are not
            brought there.
    """

    viewpoints: ClassVar[Viewpoints | None] = None

    def __init__(
        self,
        path: Path,
        camera_convention: str | None,
        resolution: int | None,
        normalize: bool,
        yaw: float = 0.0,
        masks: str = "auto",
    ) -> None:
        if camera_convention is not None:
            require_convention(camera_convention, "--camera_convention")
        if resolution is not None and resolution < 1:
            raise UsageError(f"--resolution {resolution} must be positive, e.g. 128")
        if not math.isfinite(yaw):
            raise UsageError(f"--yaw {yaw} is no angle: give degrees, e.g. 90")
        if yaw and not normalize:
            raise UsageError(f"--yaw {yaw:g} turns the cameras that --normalize brings into the world: give both")
        self.path = path
        self.camera_convention = camera_convention
        self.resolution = resolution
        self.normalize = normalize
        self.yaw = yaw
        self.masks = require_option(masks)

    @abstractmethod
    def capture(self, scene_id: str) -> Capture:
        """Opens one scene."""

    def load(self, scene_id: str) -> tuple[PosedViews, SourceRecord]:
        """Reads the views of one scene.

        Returns:
            The views, and the record: ``file``, ``sha256``, ``license``, ``shape``, the ``camera_convention`` and who
            decided it (``camera_convention_from``: ``option``, ``key`` or ``format``), the ``normalization``
            (``photographs.normalize_cameras``) or None, and what ``masks.choose_masks`` says.

        Raises:
            UsageError: a file is missing or malformed, or the images differ in size and no resolution is given.
        """
        capture = self.capture(scene_id)
        convention, decided_by = choose_convention(
            capture.file, self.camera_convention, capture.convention_key, capture.convention_rule
        )
        views, alphas, names = self._gather(capture, convention)
        normalization = None
        if self.normalize:
            try:
                known_alphas = [alpha for alpha in alphas if alpha is not None]
                silhouettes = np.stack(known_alphas) if len(known_alphas) == len(alphas) else None
                views, normalization = normalize_cameras(views, silhouettes, self.yaw)
            except UsageError as error:
                raise UsageError(f"{capture.file}: {error}") from None
        near_far = None if views.near_far is None else views.near_far.astype(np.float32)
        views = PosedViews(
            views.images, views.camera_to_world.astype(np.float32), views.intrinsics.astype(np.float32), near_far
        )
        masks, origin = choose_masks(self.masks, views, alphas, names)
        record = capture.record | {"camera_convention": convention, "camera_convention_from": decided_by}
        return replace(views, masks=masks), record | {"normalization": normalization, **origin}

    def _gather(
        self, capture: Capture, convention: str
    ) -> tuple[PosedViews, tuple[NDArray[np.uint8] | None, ...], tuple[str, ...]]:
        """Views with cameras in float64; of each image the alpha uint8 [H, W], where it has one, and the name."""
        rows = [self._fit(capture.file, frame) for frame in capture.frames]
        if not rows:
            raise UsageError(f"{capture.file} lists no images: complete or remove it")
        names, pixels, alphas, poses, intrinsics, near_far = zip(*rows, strict=True)
        sizes = sorted({f"{image.shape[1]}x{image.shape[0]}" for image in pixels})
        if len(sizes) > 1:
            raise UsageError(
                f"{capture.file}: its images differ in size ({', '.join(sizes[:3])}): give one, e.g. --resolution 128"
            )
        limited = [limits is not None for limits in near_far]
        if any(limited) and not all(limited):
            raise UsageError(
                f"{capture.file}: only some frames have near and far: give them for all frames or for none"
            )
        # Float64 until the end: cameras of photographs may stand far from their origin.
        camera_to_world: NDArray[Any] = opencv_camera_to_world(np.stack(poses), convention)
        limits = np.array(near_far) if all(limited) else None
        views = PosedViews(np.stack(pixels), camera_to_world, np.stack(intrinsics), limits)
        return views, alphas, names

    def _fit(self, file: Path, frame: Frame) -> tuple[Any, ...]:
        """Name, pixels on white, alpha, pose, intrinsics and limits of one frame, at the resolution asked for."""
        pose = read_pose(frame.pose, f"{file}, {frame.name}")
        intrinsics = np.array(frame.intrinsics, dtype=np.float64)
        if not np.isfinite(intrinsics).all() or (intrinsics[:2] <= 0).any():
            raise UsageError(f"{file}, {frame.name}: its focal length or principal point is no size: repair it")
        pixels, alpha = split_alpha(frame.pixels) if frame.mask is None else (frame.pixels, frame.mask)
        if self.resolution is not None:
            whole = intrinsics[None]
            alpha = None if alpha is None else fit_image_size([alpha], whole, self.resolution)[0][0]
            (pixels,), (intrinsics,) = fit_image_size([pixels], whole, self.resolution)
        return frame.name, pixels, alpha, pose, intrinsics, frame.near_far
