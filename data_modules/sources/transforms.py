"""Posed photographs or renderings: ``transforms.json`` of nerfstudio, Blender and instant-ngp, and the authors' own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.sources.base import SceneEntry
from data_modules.sources.files import read_json_object, short
from data_modules.sources.lens import read_distortion, read_lens, read_limits
from data_modules.sources.pictures import find_picture, is_turned, read_mask, read_picture, with_alpha
from data_modules.sources.posed import Capture, Frame, PosedSource, find_scenes
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

WHOLE_FILES = ("transforms_opencv.json", "transforms.json")
PARTS = ("test", "val", "train")
SPLIT_FILES = tuple(f"transforms_{part}.json" for part in PARTS)
MAP_FILE = "dataset_map.json"


@dataclass(eq=False)
class TransformsSource(PosedSource):
    """Folders that hold a transforms file; each is one scene, its id is its path below ``path``.

    Blender's ``transforms_{test,val,train}.json`` of one folder are one scene; an image that several of them name is
    taken once. A folder that has a ``transforms.json`` as well is read from that alone. Views that these files, or
    nerfstudio's ``{test,val,train}_filenames``, keep for tests come first, then those to watch, then those to train
    on; the record counts the former two as ``test_views`` and ``val_views``.

    Where ``path``, or the folder above a subset, holds ``dataset_map.json`` (``{"car": [scene, ...], ...}``), its lists
    give the scenes that are taken and their categories. The keys ``license`` and ``shape`` (scenes of one shape are
    variants of it) go into the record. ``applied_transform``, ``scale`` and ``offset`` are ignored on purpose: they
    tell how the poses came to be what they are, or how a program should go on from there.

    The rule of the format is ``opencv`` for files named ``transforms_opencv.json``, else ``opengl``; the files' own key
    is ``camera_convention``.

    Args:
        path: folder of scenes, or one scene.

    Raises:
        UsageError: no transforms file is found, or the map names a scene that is not there.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.files = find_scenes(self.path, _transforms_files, ", ".join((*WHOLE_FILES, *SPLIT_FILES)))
        self.categories = dict.fromkeys(self.files, self.category)
        maps = [folder / MAP_FILE for folder in (self.path, self.path.resolve().parent)]
        file = next((file for file in maps if file.is_file()), None)
        if file is not None and self.path not in [files[0].parent for files in self.files.values()]:
            self.categories = self._mapped(file)

    def _mapped(self, file: Path) -> dict[str, str]:
        categories: dict[str, str] = {}
        for category, names in read_json_object(file).items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise UsageError(f'{file}: {category} has no list of scene ids: write {{"{category}": ["a scene"]}}')
            for name in names:
                within = [scene for scene in self.files if scene.endswith(f"/{name}")]
                matches = [name] if name in self.files else within
                if len(matches) != 1:
                    raise UsageError(
                        f"{file} names {name}, found {len(matches)} times below {self.path}: "
                        "name the folder of one subset that holds every scene once"
                    )
                categories[matches[0]] = category
        return categories

    def scenes(self) -> list[SceneEntry]:
        """The folders by name, or the map's order."""
        return [SceneEntry(scene, category) for scene, category in self.categories.items()]

    def capture(self, scene_id: str) -> Capture:
        """Reads the files of one scene, and its images as they are asked for."""
        files = self.files[scene_id]
        documents = [read_json_object(file) for file in files]
        named = [document.get("camera_convention") for document in documents]
        keys = {None if key is None else str(key) for key in named}
        if len(keys) > 1:
            raise UsageError(f"{files[0].parent}: its transforms files differ in camera_convention: give them one")
        shape = str(documents[0].get("shape") or scene_id)
        record = self.record(files[0], scene_id) | {"license": documents[0].get("license"), "shape": shape}
        if len(files) > 1:
            record["files"] = {file.relative_to(self.path).as_posix(): file_sha256(file) for file in files}
        rule = "opencv" if "_opencv" in files[0].stem else "opengl"
        listed, counts, warnings = _in_parts(_listed(files, documents))
        frames = (_frame(frame) for frame in listed)
        return Capture(files[0], frames, record | counts, rule, keys.pop(), tuple(warnings))


def _transforms_files(below: list[str], names: list[str]) -> list[str]:
    """The file of a whole scene, or those of its splits."""
    whole = [name for name in WHOLE_FILES if name in names][:1]
    return whole or [name for name in SPLIT_FILES if name in names]


@dataclass(frozen=True)
class Listed:
    """A frame of a file before its image is read.

    Attributes:
        file: that lists it.
        document: content of the file.
        keys: of the frame.
        path: of its image.
        part: of ``PARTS``; None where the file keeps it for nothing.
    """

    file: Path
    document: dict[str, Any]
    keys: dict[str, Any]
    path: Path
    part: str | None


def _listed(files: list[Path], documents: list[dict[str, Any]]) -> Iterator[Listed]:
    """The frames of all files; an image that a second file names again is left out."""
    used_paths: set[Path] = set()
    for file, document in zip(files, documents, strict=True):
        frames = document.get("frames")
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise UsageError(f"{file} has no list of frames: complete or remove it")
        part_of = _parts_of_images(file, document)
        part_of_file = next((part for part in PARTS if file.name == f"transforms_{part}.json"), None)
        named_frames = [(_named(file, frame, "file_path"), frame) for frame in frames]
        for path, frame in named_frames:
            if path not in used_paths:
                yield Listed(file, document, frame, path, part_of.pop(path, part_of_file))
        used_paths |= {path for path, _ in named_frames}
        if absent := [path for path in part_of if path not in used_paths]:
            raise UsageError(
                f"{file}: {part_of[absent[0]]}_filenames names {absent[0]}, which is no frame of it: complete the "
                "frames, or remove the name"
            )


def _parts_of_images(file: Path, document: dict[str, Any]) -> dict[Path, str]:
    """Image -> the part that nerfstudio's lists keep it for; one that is tested on is not for watching, too."""
    part_of: dict[Path, str] = {}
    for part in PARTS:
        key = f"{part}_filenames"
        names = document.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise UsageError(f"{file}: {key} is no list of images: repair or remove it")
        for name in names:
            path = find_picture(file.parent / name.replace("\\", "/"))
            if part == "train" and part_of.get(path) == "test":
                raise UsageError(f"{file}: {short(name)} is in train_filenames and in test_filenames: remove one")
            part_of.setdefault(path, part)
    return part_of


def _in_parts(frames: Iterable[Listed]) -> tuple[list[Listed], dict[str, int], list[str]]:
    """Frames in the order of their parts, the numbers of those held out, and what there is to say of it.

    Where no view is kept for tests, those to watch are tested on, or else those that are not trained on.
    """
    parts: dict[str | None, list[Listed]] = {part: [] for part in (*PARTS, None)}
    for frame in frames:
        parts[frame.part].append(frame)
    test, val, train, others = parts.values()
    if not test:
        test, val = val, []
    if not test and train:
        test, others = others, []
    elif not train:
        train, others = others, []
    if not test or not train:  # nothing is held out, or nothing left
        return [*test, *val, *train, *others], {}, []
    warnings = []
    if others:
        name, count = short(str(others[0].keys["file_path"])), len(others)
        warnings = [f"{count} of its images, e.g. {name}, are in no list of filenames: they are left out"]
    counts = {"test_views": len(test), "val_views": len(val)}
    return [*test, *val, *train], {key: count for key, count in counts.items() if count}, warnings


def _named(file: Path, frame: dict[str, Any], key: str) -> Path:
    name = frame.get(key)
    if not isinstance(name, str) or not name:
        raise UsageError(f"{file}: a frame has no {key}: complete it")
    return find_picture(file.parent / name.replace("\\", "/"))


def _frame(listed: Listed) -> Frame:
    """Reads the image of a frame."""
    file, document, frame, path = listed.file, listed.document, listed.keys, listed.path
    where = f"{file}, {frame['file_path']}"
    pixels, mask = read_picture(path, f"{path}, named in {file},"), None
    if frame.get("mask_path"):
        mask_file, on_white = _named(file, frame, "mask_path"), bool(document.get("images_on_white"))
        mask = read_mask(mask_file, f"{mask_file}, named in {file},", is_coverage=on_white)
        if mask.shape != pixels.shape[:2]:
            raise UsageError(f"{where}: its mask {mask_file} has another size: bring it to the size of the image")
        if on_white and pixels.shape[2] == 4:
            raise UsageError(f"{where}: its image has alpha, and images_on_white says that it needs none: remove one")
        if not on_white:
            pixels, mask = with_alpha(pixels, mask), None
    return Frame(
        name=str(frame["file_path"]),
        pixels=pixels,
        pose=frame.get("transform_matrix"),
        intrinsics=read_lens(frame, document, (pixels.shape[0], pixels.shape[1]), where),
        near_far=read_limits(document | frame, where),
        mask=mask,
        distortion=read_distortion(document | frame, where),
        is_turned=is_turned(path),
    )
