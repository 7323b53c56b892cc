"""Posed renderings in the layout of the scene representation networks' (SRN) cars and chairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_modules.sources.base import SceneEntry
from data_modules.sources.pictures import SUFFIXES, is_turned, read_picture
from data_modules.sources.posed import Capture, Frame, PosedSource, find_scenes
from scaled_ig.documents import read_file
from scaled_ig.errors import UsageError

INTRINSICS_FILE = "intrinsics.txt"
LARGEST_TEXT = 1 << 16  # bytes of a file of a few numbers
USUAL_WIDTH = 512  # what the files of cars_train speak of, whatever the size of their images


@dataclass(eq=False)
class SrnSource(PosedSource):
    """Folders ``<scene>/{intrinsics.txt, pose/000000.txt, rgb/000000.png}``; a scene's id is its path below ``path``.

    ``intrinsics.txt``: ``f cx cy 0.``, the barycentre, the scale, ``height width`` of the image that f, cx and cy speak
    of, and in some files 1 where the poses are world-to-camera. Without the size, they speak of 512 pixels if cx is
    outside of the image, else of the image. Barycentre and scale are not used.

    The rule of the format is ``opencv``; the files' own key is the last line of ``intrinsics.txt``.

    Args:
        path: one scene, or a folder of scenes at any depth.
    """

    category: str = "car"

    def __post_init__(self) -> None:
        super().__post_init__()
        files = find_scenes(self.path, _intrinsics_files, f"<scene>/{INTRINSICS_FILE}")
        # This name is part of the digest of a job, by which pack knows what it has begun.
        self.folders = {scene: file.parent for scene, (file,) in files.items()}

    def scenes(self) -> list[SceneEntry]:
        """The scenes by name."""
        return [SceneEntry(scene, self.category) for scene in self.folders]

    def capture(self, scene_id: str) -> Capture:
        """Reads the intrinsics of one scene, and poses and images as they are asked for."""
        folder = self.folders[scene_id]
        file = folder / INTRINSICS_FILE
        lens, size, convention = _read_intrinsics(file)
        return Capture(file, _frames(folder, lens, size), self.record(file, scene_id), convention_key=convention)


def _intrinsics_files(below: list[str], names: list[str]) -> list[str]:
    if INTRINSICS_FILE not in names:
        return []
    below.clear()  # hundreds of images a scene are not worth a look
    return [INTRINSICS_FILE]


def _frames(folder: Path, lens: tuple[float, float, float], size: tuple[float, float] | None) -> Iterator[Frame]:
    poses = {file.stem: file for file in _listed(folder / "pose") if file.suffix == ".txt"}
    images = {file.stem: file for file in _listed(folder / "rgb") if file.suffix.lower() in SUFFIXES}
    focal, cx, cy = lens
    for name in sorted(poses.keys() | images.keys()):
        if name not in poses or name not in images:
            missing = f"pose/{name}.txt" if name not in poses else f"rgb/{name}.png"
            raise UsageError(f"{folder / missing} is not there: restore it, or remove what else is named {name}")
        pixels = read_picture(images[name], str(images[name]))
        height, width = size or ((USUAL_WIDTH, USUAL_WIDTH) if cx > pixels.shape[1] else pixels.shape[:2])
        intrinsics = (focal / width, focal / height, cx / width, cy / height)
        pose, turned = _read_numbers(poses[name]), is_turned(images[name])
        yield Frame(images[name].name, pixels, pose, intrinsics, is_turned=turned)


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there: restore it or remove the scene {folder.parent}")
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def _read_intrinsics(file: Path) -> tuple[tuple[float, float, float], tuple[float, float] | None, str | None]:
    """f, cx, cy in pixels; the height and width that they speak of; the convention of the poses."""
    try:
        text = read_file(file, LARGEST_TEXT).decode("utf-8-sig")
        lines = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        focal, cx, cy = lines[0][:3]
        size = (lines[3][0], lines[3][1]) if len(lines) > 3 else None
        convention = ("opencv_w2c" if lines[4][0] else "opencv") if len(lines) > 4 else None
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(
            f"{file} cannot be read ({error}): its lines are f cx cy 0, the barycentre, the scale, height width"
        ) from None
    if focal <= 0 or (size is not None and min(size) <= 0):
        raise UsageError(f"{file}: focal length and image size must be positive: restore the file")
    return (focal, cx, cy), size, convention


def _read_numbers(file: Path) -> list[float]:
    try:
        return [float(word) for word in read_file(file, LARGEST_TEXT).decode("utf-8-sig").split()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}): a pose is 16 numbers") from None
