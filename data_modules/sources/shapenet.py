"""ShapeNetCore, versions 1 and 2, as its archives unpack."""

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from data_modules.sources.base import (
    UPPER_HEMISPHERE,
    Mesh,
    SceneEntry,
    SceneSource,
    SourceRecord,
    Viewpoints,
    normalize,
)
from data_modules.sources.files import read_json_object
from data_modules.sources.named_files import MissingFiles, NamedFiles
from data_modules.sources.obj import read_obj
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

CATEGORIES = {"02958343": "car"}
TERMS = "ShapeNet terms of use"
MODEL_FILES = ("models/model_normalized.obj", "model.obj")  # version 2, version 1


class ShapeNetSource(SceneSource):
    """Models of one synset: ``<path>/<synset>/<model>/models/model_normalized.obj`` or ``.../<model>/model.obj``.

    The files are +Y up, front -Z, unless told otherwise; version 2 is centred by its centroid, so that the box is
    centred again here. The archives lack some textures: their materials fall back to ``Kd``, and the record lists them
    as ``missing_files``.

    Args:
        path: folder that holds the synset's folder.
        synset: WordNet id, ``02958343`` for cars.
        up: ``y`` or ``z``, the axis of the files that points up.
        yaw: degrees about the vertical that bring the front to -Y, once up is +Z.
        missing_files: what becomes of models whose materials or textures are missing, see ``NamedFiles``.

    Raises:
        UsageError: no model is found.
    """

    viewpoints: ClassVar[Viewpoints | None] = UPPER_HEMISPHERE

    def __init__(
        self,
        path: Path,
        synset: str = "02958343",
        up: str = "y",
        yaw: float = 180.0,
        missing_files: MissingFiles = "kd",
    ) -> None:
        self.path = path
        self.synset = synset
        self.up = up
        self.yaw = yaw
        self.missing_files = missing_files
        folder = path / synset
        models = sorted(folder.iterdir()) if folder.is_dir() else []
        candidates = ((model.name, model / name) for model in models for name in MODEL_FILES)
        self.files: dict[str, Path] = {}
        for model, file in candidates:
            if model not in self.files and file.is_file():
                self.files[model] = file
        if not self.files:
            expected = " or ".join(f"<model>/{name}" for name in MODEL_FILES)
            raise UsageError(f"{folder} holds no {expected}: name the folder above it, or another --synset")

    def scenes(self) -> list[SceneEntry]:
        """The models, by id."""
        category = CATEGORIES.get(self.synset, self.synset)
        return [SceneEntry(model, category) for model in self.files]

    def load(self, scene_id: str) -> tuple[Mesh, SourceRecord]:
        """Reads one model and turns it into world axes."""
        file = self.files[scene_id]
        files = NamedFiles(self.path / self.synset / scene_id, self.missing_files)
        mesh, normalization = normalize(read_obj(file, files), self.up, self.yaw)
        return mesh, {
            "file": file.relative_to(self.path).as_posix(),
            "sha256": file_sha256(file),
            "license": _licence(file.with_suffix(".json")),
            "shape": scene_id,
            "normalization": normalization,
            "missing_files": sorted(files.missing),
        }


def _licence(record: Path) -> str:
    """What the record beside a model names, as that of a synthetic car does; that of the archives does not."""
    with suppress(UsageError):
        named = read_json_object(record).get("license")
        return named if isinstance(named, str) else TERMS
    return TERMS
