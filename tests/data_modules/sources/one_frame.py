"""A ``transforms.json`` of one frame, in whatever dialect a test wants it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.sources.transforms import TransformsSource

POSE = np.array([[1, 0, 0, 0], [0, 0, 1, -1.3], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # OpenCV axes, before the front
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
LENS = {"fl_x": 9.0, "fl_y": 8.0, "cx": 3.0, "cy": 2.0, "w": 6, "h": 4}


def capture(folder: Path, name: str = "transforms.json", image: Image.Image | None = None, **keys) -> Path:
    """A scene of one image, ``0.png``; keys of the document, a key that is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(PIXELS) if image is None else image).save(folder / "0.png")
    frames = [{"file_path": "0.png", "transform_matrix": POSE.tolist()}]
    document = LENS | {"frames": frames} | keys
    (folder / name).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return folder


def change_frame(folder: Path, name: str = "transforms.json", **keys) -> Path:
    document = json.loads((folder / name).read_text())
    document["frames"][0] |= keys
    (folder / name).write_text(json.dumps(document))
    return folder


def load(folder: Path, **options):
    return TransformsSource(folder, **options).load(folder.name)[0]
