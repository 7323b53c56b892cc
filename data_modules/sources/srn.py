"""Posed renderings in the layout of the scene representation networks' (SRN) cars and chairs."""

from collections.abc import Iterator
from pathlib import Path

from data_modules.sources.base import SceneEntry
from data_modules.sources.files import walk
from data_modules.sources.pictures import SUFFIXES, read_picture
from data_modules.sources.posed import Capture, Frame, PosedSource
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

INTRINSICS_FILE = "intrinsics.txt"
USUAL_WIDTH = 512  # what the files of cars_train speak of, whatever the size of their images


class SrnSource(PosedSource):
    """Folders ``<scene>/{intrinsics.txt, pose/000000.txt, rgb/000000.png}``; a scene's id is its path below ``path``.

    ``intrinsics.txt``: ``f cx cy 0.``, the barycentre, the scale, ``height width`` of the image that f, cx and cy speak
    of, and in some files 1 where the poses are world-to-camera. Without the size, they speak of 512 pixels if cx is
    outside of the image, else of the image. Barycentre and scale are not used.

    The rule of the format is ``opencv``; the files' own key is the last line of ``intrinsics.txt``.

    Args:
        path: one scene, or a folder of scenes at any depth.
        camera_convention: see ``PosedSource``.
        category: category of all scenes.
        resolution: see ``PosedSource``.
        normalize: see ``PosedSource``.
        yaw: see ``PosedSource``.
        masks: see ``PosedSource``.

    Raises:
        UsageError: no scene is found.
    """

    def __init__(
        self,
        path: Path,
        camera_convention: str | None = None,
        category: str = "car",
        resolution: int | None = None,
        normalize: bool = False,
        yaw: float = 0.0,
        masks: str = "auto",
    ) -> None:
        super().__init__(path, camera_convention, resolution, normalize, yaw, masks)
        self.category = category
        self.folders: dict[str, Path] = {}
        for folder, below, names in walk(path):
            if INTRINSICS_FILE in names:
                below.clear()  # hundreds of images a scene are not worth a look
                scene = path.resolve().name if folder == path else folder.relative_to(path).as_posix()
                self.folders[scene] = folder
        self.folders = dict(sorted(self.folders.items()))
        if not self.folders:
            raise UsageError(f"{path} holds no <scene>/{INTRINSICS_FILE}: name a folder of scenes")

    def scenes(self) -> list[SceneEntry]:
        """The scenes by name."""
        return [SceneEntry(scene, self.category) for scene in self.folders]

    def capture(self, scene_id: str) -> Capture:
        """Reads the intrinsics of one scene, and poses and images as they are asked for."""
        folder = self.folders[scene_id]
        file = folder / INTRINSICS_FILE
        lens, size, flag = _read_intrinsics(file)
        return Capture(
            file=file,
            frames=_frames(folder, lens, size),
            record={
                "file": file.relative_to(self.path).as_posix(),
                "sha256": file_sha256(file),
                "license": None,
                "shape": scene_id,
            },
            convention_rule="opencv",
            convention_key=None if flag is None else ("opencv_w2c" if flag else "opencv"),
        )


def _frames(folder: Path, lens: tuple[float, float, float], size: tuple[float, float] | None) -> Iterator[Frame]:
    poses = {file.stem: file for file in _listed(folder / "pose") if file.suffix == ".txt"}
    images = {file.stem: file for file in _listed(folder / "rgb") if file.suffix.lower() in SUFFIXES}
    for name in sorted(poses.keys() | images.keys()):
        if name not in poses or name not in images:
            missing = f"pose/{name}.txt" if name not in poses else f"rgb/{name}.png"
            raise UsageError(f"{folder / missing} is not there: restore it, or remove what else is named {name}")
        pixels = read_picture(images[name], str(images[name]))
        height, width = size or _spoken_size(lens, (pixels.shape[0], pixels.shape[1]))
        focal, cx, cy = lens
        intrinsics = (focal / width, focal / height, cx / width, cy / height)
        yield Frame(images[name].name, pixels, _read_numbers(poses[name]), intrinsics)


def _spoken_size(lens: tuple[float, float, float], stored: tuple[int, int]) -> tuple[float, float]:
    """Height and width that the lens speaks of, in a file that does not say."""
    return (USUAL_WIDTH, USUAL_WIDTH) if lens[1] > stored[1] else stored


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there: restore it or remove the scene {folder.parent}")
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def _read_intrinsics(
    file: Path,
) -> tuple[tuple[float, float, float], tuple[float, float] | None, bool | None]:
    """f, cx, cy in pixels; the height and width that they speak of; whether poses are world-to-camera."""
    try:
        lines = [[float(word) for word in line.split()] for line in file.read_text().splitlines() if line.strip()]
        focal, cx, cy = lines[0][:3]
        size = (lines[3][0], lines[3][1]) if len(lines) > 3 else None
        flag = bool(lines[4][0]) if len(lines) > 4 else None
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(
            f"{file} cannot be read ({error}): its lines are f cx cy 0, the barycentre, the scale, height width"
        ) from None
    if focal <= 0 or (size is not None and min(size) <= 0):
        raise UsageError(f"{file}: focal length and image size must be positive: restore the file")
    return (focal, cx, cy), size, flag


def _read_numbers(file: Path) -> list[float]:
    try:
        return [float(word) for word in file.read_text().split()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}): a pose is 16 numbers") from None
