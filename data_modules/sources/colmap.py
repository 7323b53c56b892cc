"""Photographs whose cameras COLMAP has found: its sparse models, binary or text, beside their images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_modules.sources.base import SceneEntry
from data_modules.sources.colmap_model import ModelImage, read_cameras, read_images
from data_modules.sources.files import short, walk
from data_modules.sources.lens import read_distortion, read_lens
from data_modules.sources.pictures import is_turned, read_mask, read_picture, with_alpha
from data_modules.sources.posed import Capture, Frame, PosedSource
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

IMAGES, MASKS = "images", "masks"
ENDINGS = (".bin", ".txt")


@dataclass(eq=False)
class ColmapSource(PosedSource):
    """Folders that hold ``images/``, and below or in them a model, such as ``sparse/0/{cameras,images}.bin``.

    Each such folder is one scene, its id is its path below ``path``. Of several models of a scene the one with the most
    images is taken; of a binary and a text one in the same folder, the binary one. Masks are taken from ``masks/``,
    where they have the images' names with another ending, or, as COLMAP wants them, with ``.png`` behind it.

    All files have the convention ``opencv_w2c``. Lenses that are no pinholes are undistorted where OpenCV is installed.

    Args:
        path: folder of scenes, or one scene.

    Raises:
        UsageError: no model is found, or none has its images beside it.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        every = list(_models(self.path))
        if not every:
            raise UsageError(
                f"{self.path} holds no model of COLMAP, cameras.bin and images.bin: name a folder with one"
            )
        models: dict[str, list[Path]] = {}
        for model in every:
            if home := _home(model, self.path):
                scene = self.path.resolve().name if home == self.path else home.relative_to(self.path).as_posix()
                models.setdefault(scene, []).append(model)
        if not models:
            raise UsageError(
                f"{every[0].parent} has no folder {IMAGES} beside or above it: put the photographs into one, and name "
                "the folder that holds it and the model"
            )
        # This name is part of the digest of a job, by which pack knows what it has begun.
        self.models = dict(sorted(models.items()))

    def scenes(self) -> list[SceneEntry]:
        """The folders by name."""
        return [SceneEntry(scene, self.category) for scene in self.models]

    def capture(self, scene_id: str) -> Capture:
        """Reads the model of one scene, and its images as they are asked for."""
        models = self.models[scene_id]
        listed = {model: read_images(_images_of(model)) for model in models}
        model = max(models, key=lambda model: len(listed[model]))  # of equals the first
        cameras, file, home = read_cameras(model), _images_of(model), _home(model, self.path)
        assert home is not None
        record = self.record(file, scene_id)
        record["files"] = {one.relative_to(self.path).as_posix(): file_sha256(one) for one in (model, file)}
        taken = f"of its {len(models)} models {short(model.parent.name)} is taken, which has the most images"
        frames = (_frame(home, file, image, cameras) for image in listed[model])
        return Capture(file, frames, record, convention_key="opencv_w2c", warnings=(taken,) if len(models) > 1 else ())


def _models(path: Path) -> Iterator[Path]:
    """The file of cameras of every model."""
    for folder, below, names in walk(path):
        endings = [ending for ending in ENDINGS if {f"cameras{ending}", f"images{ending}"} <= set(names)]
        if endings:
            yield folder / f"cameras{endings[0]}"
        for name in (IMAGES, MASKS):  # thousands of photographs are not worth a look
            if name in below:
                below.remove(name)


def _home(model: Path, top: Path) -> Path | None:
    """The nearest folder above a model, up to one, that holds images; None where there is none."""
    folders = [model.parent, *model.parent.parents]
    within = folders[: folders.index(top) + 1]
    return next((folder for folder in within if (folder / IMAGES).is_dir()), None)


def _images_of(model: Path) -> Path:
    return model.with_name(f"images{model.suffix}")


def _frame(home: Path, listed: Path, image: ModelImage, cameras: dict[int, dict[str, Any]]) -> Frame:
    """Reads an image and its mask."""
    where, name = f"{listed}, {short(image.name)}", PurePosixPath(image.name.replace("\\", "/"))
    if image.camera not in cameras:
        raise UsageError(f"{where}: its camera {image.camera} is not there: restore the model")
    if name.is_absolute() or ".." in name.parts:
        raise UsageError(f"{where} is outside of the folder {home / IMAGES}: copy it there and repair the model")
    path, camera = home / IMAGES / name, cameras[image.camera]
    pixels = read_picture(path, f"{path}, named in {listed},")
    mask = _mask(home, name)
    if mask is not None:
        alpha = read_mask(mask, str(mask))
        if alpha.shape != pixels.shape[:2]:
            raise UsageError(f"{where}: its mask {mask} has another size: bring it to the size of the image")
        pixels = with_alpha(pixels, alpha)
    return Frame(
        name=f"{IMAGES}/{name}",
        pixels=pixels,
        pose=image.pose,
        intrinsics=read_lens(camera, {}, (pixels.shape[0], pixels.shape[1]), where),
        distortion=read_distortion(camera, where),
        is_turned=is_turned(path),
    )


def _mask(home: Path, name: PurePosixPath) -> Path | None:
    """The file of an image's mask; None where there is none."""
    names = (name.with_suffix(".png"), name.with_name(f"{name.name}.png"), name)
    return next((home / MASKS / one for one in names if (home / MASKS / one).is_file()), None)
