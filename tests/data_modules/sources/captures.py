"""Three balls seen by known cameras, written in every posed format, and where they must come to lie in an image."""

import json
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from data_modules.sources.colmap_model import MODELS
from scaled_ig.cameras import Cameras, look_at_origin
from tests.conftest import see_balls

CENTRES = np.array([[0.28, 0.05, 0.1], [-0.2, 0.2, -0.12], [-0.05, -0.28, 0.05]])
COLOURS = np.eye(3)  # red, green, blue: told apart in any light
RADIUS = 0.07
AZIMUTHS = np.radians([10, 75, 100, 165, 210, 255, 300, 345])
ELEVATIONS = np.radians([20, 50, 35, 60, 25, 70, 40, 55])


@dataclass(frozen=True)
class Seen:
    """uint8 [V, H, W, 3], OpenCV camera-to-world float64 [V, 4, 4], fx / W, fy / H, cx / W, cy / H float64 [V, 4]."""

    images: np.ndarray
    poses: np.ndarray
    intrinsics: np.ndarray


def see(resolution: int = 64, views: int = 8, background: tuple[float, float, float] | None = None) -> Seen:
    """The balls from all sides, none before another; on a backdrop of another colour than white, if it is given."""
    azimuth, elevation = AZIMUTHS[:views], ELEVATIONS[:views]
    flat = np.cos(elevation)
    places = 1.3 * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    cameras = look_at_origin(torch.from_numpy(places))
    images = see_balls(cameras, resolution, CENTRES, [RADIUS] * 3, COLOURS)
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy().copy()
    if background is not None:
        pixels = np.where((pixels == 255).all(axis=-1, keepdims=True), np.uint8(np.array(background) * 255), pixels)
    return Seen(pixels, cameras.camera_to_world.numpy(), cameras.intrinsics.numpy())


def crop(seen: Seen, rows: slice, columns: slice) -> Seen:
    """A part of the images, as a photograph whose principal point is not in its middle."""
    images = seen.images[:, rows, columns]
    height, width = images.shape[1:3]
    side = seen.images.shape[1]
    pixels = seen.intrinsics * side - [0, 0, columns.start or 0, rows.start or 0]
    return replace(seen, images=images, intrinsics=pixels / [width, height, width, height])


def distances(images, camera_to_world, intrinsics, centres=CENTRES) -> np.ndarray:
    """Pixels [V, 3] between each ball's middle in the image and the projection of its centre."""
    assert (np.array(images.shape[1:3]) > 0).all()
    size = np.array(images.shape[2:0:-1])
    cameras = Cameras(torch.as_tensor(camera_to_world).double(), torch.as_tensor(intrinsics).double())
    expected = cameras.project(torch.as_tensor(centres))[..., :2].numpy() * size
    middles = np.array([[middle(image, channel) for channel in range(3)] for image in images])
    return np.linalg.norm(middles - expected, axis=-1)


def middle(image, channel: int) -> np.ndarray:
    """Mean x, y of the pixels whose colour is above all that channel's; pixel centres at +0.5."""
    values = image.astype(float)
    others = values[..., [other for other in range(3) if other != channel]].max(axis=-1)
    rows, columns = np.nonzero(values[..., channel] - others > 60)
    assert len(rows) > 8, "a ball is not to be seen"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def as_convention(poses: np.ndarray, convention: str) -> np.ndarray:
    """OpenCV camera-to-world matrices as a file of another convention has them."""
    raw = poses @ np.diag([1.0, -1.0, -1.0, 1.0]) if convention.startswith("opengl") else poses
    return np.linalg.inv(raw) if convention.endswith("w2c") else raw


def lens_keys(intrinsics, height: int, width: int) -> dict[str, float]:
    fx, fy, cx, cy = (float(value) for value in intrinsics * [width, height, width, height])
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": width, "h": height}


def write_transforms(folder: Path, seen: Seen, convention: str, name: str = "transforms.json", **keys) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for row, pose in enumerate(as_convention(seen.poses, convention)):
        file = f"images/{Path(name).stem}_{row:03d}.png"
        Image.fromarray(seen.images[row]).save(folder / file)
        lens = lens_keys(seen.intrinsics[row], *seen.images.shape[1:3])
        frames.append({"file_path": file, "transform_matrix": pose.tolist(), **lens})
    (folder / name).write_text(json.dumps({"frames": frames, **keys}))
    return folder


def write_colmap(
    folder: Path,
    seen: Seen,
    ending: str = "bin",
    model: str = "PINHOLE",
    bend: tuple[float, ...] = (),
    model_folder: str = "sparse/0",
) -> Path:
    """Images and a model with one camera, number 9; poses as quaternions, every second with points."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / model_folder).mkdir(parents=True)
    height, width = seen.images.shape[1:3]
    lens = lens_keys(seen.intrinsics[0], height, width)
    number, (_, keys) = next((number, pair) for number, pair in enumerate(MODELS) if pair[0] == model)
    names = keys.split()
    bent = dict(zip(names[3 if "fl_y" not in names else 4 :], bend, strict=False))
    values = [bent.get(key, lens.get(key, 0.0)) for key in names]
    rows = []
    for row, (image, pose) in enumerate(zip(seen.images, as_convention(seen.poses, "opencv_w2c"), strict=True)):
        Image.fromarray(image).save(folder / "images" / f"view_{row:03d}.png")
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        rows.append((row + 1, [w, x, y, z, *pose[:3, 3]], f"view_{row:03d}.png", row % 2))
    if ending == "txt":
        cameras = f"# cameras\n9 {model} {width} {height} {' '.join(map(repr, values))}\n"
        lines = [
            f"{i} {' '.join(repr(float(n)) for n in pose)} 9 {name}\n{'1 2 -1' * p}\n" for i, pose, name, p in rows
        ]
        (folder / model_folder / "cameras.txt").write_text(cameras)
        (folder / model_folder / "images.txt").write_text("# images\n" + "".join(lines))
        return folder
    camera = struct.pack("<QIiQQ", 1, 9, number, width, height) + struct.pack(f"<{len(values)}d", *values)
    (folder / model_folder / "cameras.bin").write_bytes(camera)
    parts = [struct.pack("<Q", len(rows))]
    for i, pose, name, points in rows:
        parts += [
            struct.pack("<I7dI", i, *pose, 9),
            name.encode() + b"\0",
            struct.pack("<Q", points),
            bytes(24 * points),
        ]
    (folder / model_folder / "images.bin").write_bytes(b"".join(parts))
    return folder


def write_srn(folder: Path, seen: Seen, convention: str, flag: str = "") -> Path:
    for name in ("pose", "rgb"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    height, width = seen.images.shape[1:3]
    lens = lens_keys(seen.intrinsics[0], height, width)
    assert lens["fl_x"] == lens["fl_y"]
    text = f"{lens['fl_x']!r} {lens['cx']!r} {lens['cy']!r} 0.\n0. 0. 0.\n1.\n{height} {width}\n{flag}"
    (folder / "intrinsics.txt").write_text(text)
    for row, pose in enumerate(as_convention(seen.poses, convention)):
        Image.fromarray(seen.images[row]).save(folder / "rgb" / f"{row:06d}.png")
        lines = "\n" if row % 2 else " "
        (folder / "pose" / f"{row:06d}.txt").write_text(lines.join(" ".join(map(repr, map(float, r))) for r in pose))
    return folder


def labels_of(seen: Seen, convention: str, names: list[str]) -> list:
    rows = []
    for name, pose, (fx, fy, cx, cy) in zip(
        names, as_convention(seen.poses, convention), seen.intrinsics.tolist(), strict=True
    ):
        rows.append([name, [*pose.reshape(-1).tolist(), fx, 0, cx, 0, fy, cy, 0, 0, 1]])
    return rows


def write_eg3d(folder: Path, seen: Seen, convention: str, names: list[str] | None = None) -> Path:
    names = names or [f"balls/rgb/{row:06d}.png" for row in range(len(seen.images))]
    for name, image in zip(names, seen.images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels_of(seen, convention, names)}))
    return folder


def zipped(folder: Path, top: str = "") -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, top + path.relative_to(folder).as_posix())
    return archive
