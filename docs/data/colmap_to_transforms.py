"""Writes ``transforms.json`` beside images that COLMAP's image_undistorter made.

``python docs/data/colmap_to_transforms.py UNDISTORTED MODEL [MASKS]``: the folder that holds ``images``, the folder of
the model as text (``cameras.txt`` and ``images.txt``), and a folder of masks with the images' names, relative to
UNDISTORTED. COLMAP's poses are world-to-camera with OpenCV axes, and the file says so.
"""

import json
import sys
from pathlib import Path

import numpy as np


def rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    """The matrix [3, 3] of a unit quaternion."""
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def lines(path: Path) -> list[list[str]]:
    """Words of the lines that are no comments; lines without words count, for images.txt has two a picture."""
    return [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]


def write_transforms(undistorted: Path, model: Path, masks: str | None = None) -> int:
    """Writes the file; returns the number of its frames."""
    lenses = {}
    for identity, kind, width, height, *values in filter(None, lines(model / "cameras.txt")):
        if kind not in ("PINHOLE", "SIMPLE_PINHOLE"):
            raise SystemExit(f"camera {identity} is {kind}: undistort the images first, with colmap image_undistorter")
        fx, *rest = map(float, values)
        fy, cx, cy = rest if kind == "PINHOLE" else (fx, *rest)
        lenses[identity] = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": int(width), "h": int(height)}
    frames = []
    for words in lines(model / "images.txt")[::2]:
        pose = np.eye(4)
        pose[:3, :3] = rotation(*map(float, words[1:5]))
        pose[:3, 3] = list(map(float, words[5:8]))
        name = " ".join(words[9:])
        mask = {} if masks is None else {"mask_path": f"{masks}/{Path(name).with_suffix('.png')}"}
        frames.append({"file_path": f"images/{name}", **mask, "transform_matrix": pose.tolist(), **lenses[words[8]]})
    frames.sort(key=lambda frame: frame["file_path"])
    document = {"camera_convention": "opencv_w2c", "frames": frames}
    (undistorted / "transforms.json").write_text(json.dumps(document, indent=1) + "\n")
    return len(frames)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    count = write_transforms(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    print(f"{sys.argv[1]}/transforms.json: {count} frames")
