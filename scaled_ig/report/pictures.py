"""Pictures and films: tiles, mosaics, and data URIs.

Letters: N pictures, F frames, H rows and W columns of pixels.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import Cameras
from scaled_ig.files import replacing
from scaled_ig.rendering.sampling import SCENE_RADIUS

Picture = NDArray[np.uint8]

SMALLEST_TILE = 256
"""Tiles of films are enlarged to at least this many pixels, so that players need not."""


def to_pictures(images: Tensor) -> Picture:
    """[..., 3, H, W] in [0, 1] → uint8 [..., H, W, 3]."""
    return (images.clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()


def show(name: str, values: Tensor, cameras: Cameras) -> Picture:
    """What a scene renders, as pictures: uint8 [B, H, W, 3].

    Args:
        name: Of an output of :meth:`scaled_ig.bank.scene.BankScene.render`. Depth is bright where it is near, and black
            where nothing is; normals are (n + 1) / 2, and white where nothing is.
        values: [B, C, H, W].
        cameras: B cameras.
    """
    if name == "depth":
        nearest = cameras.camera_to_world[:, :3, 3].norm(dim=1)[:, None, None, None].to(values) - SCENE_RADIUS
        near = 1 - 0.9 * (values - nearest).clamp(0, 2 * SCENE_RADIUS) / (2 * SCENE_RADIUS)
        values = torch.where(values > 0, near, 0)
    elif name == "normals":
        values = torch.where((values != 0).any(1, keepdim=True), values * 0.5 + 0.5, 1)
    return to_pictures(values.expand(-1, 3, -1, -1))


def arrays(rendered: dict[str, list[Tensor]], cameras: Cameras, ids: Sequence[str]) -> bytes:
    """Content of an ``.npz`` file: each output [scenes, views, H, W, C], float32, ids and cameras (OpenCV axes)."""
    stream = io.BytesIO()
    content: dict[str, Any] = {name: torch.stack(values).movedim(2, -1).numpy() for name, values in rendered.items()}
    content |= {"camera_to_world": cameras.camera_to_world.numpy(), "intrinsics": cameras.intrinsics.numpy()}
    np.savez_compressed(stream, ids=np.array(ids), **content)
    return stream.getvalue()


def columns_of(count: int) -> int:
    """Columns of a mosaic of ``count`` tiles: about twice as wide as high, few empty places."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        return (columns * rows - count) + abs(math.log2(columns / rows / 2))

    return min(range(count, 0, -1), key=cost)


def mosaic(tiles: Picture | Sequence[Picture], columns: int | None = None) -> Picture:
    """Tiles [N, H, W, 3] side by side, row by row; empty places are white."""
    tiles = np.asarray(tiles)
    columns = columns or columns_of(len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = tiles.shape[1:3]
    canvas = np.full((rows * columns, height, width, 3), 255, np.uint8)
    canvas[: len(tiles)] = tiles
    grid = canvas.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width, 3))


def enlarge(picture: Picture, factor: int, smooth: bool = True) -> Picture:
    """A picture ``factor`` times as large."""
    height, width = picture.shape[:2]
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((width * factor, height * factor), method))


def enlargement(size: int) -> int:
    """How much tiles of ``size`` pixels are enlarged in films."""
    return max(1, SMALLEST_TILE // size)


def render_orbits(bank: SceneBank, ids: Iterable[str], cameras: Cameras, chunk: int = 16) -> Iterator[Picture]:
    """Each scene from all cameras: uint8 [F, H, W, 3] a scene, one scene after another."""
    for scene_id in ids:
        scene = bank[scene_id]
        parts = [scene.render(cameras[start : start + chunk]) for start in range(0, len(cameras), chunk)]
        yield np.concatenate([to_pictures(part) for part in parts])


def film_frames(orbits: Sequence[Picture]) -> Iterator[Picture]:
    """Frames of the mosaic of some orbits [F, H, W, 3], enlarged."""
    factor = enlargement(orbits[0].shape[1])
    for frame in range(len(orbits[0])):
        yield enlarge(mosaic([orbit[frame] for orbit in orbits]), factor)


def write_film(path: Path, frames: Iterable[Picture], frames_per_second: int) -> None:
    """Write frames as ``.mp4`` (H.264, yuv420p, plays everywhere) or ``.gif`` (endless)."""
    with replacing(path) as draft:  # whose name does not say the format
        if path.suffix.lower() == ".gif":
            imageio.mimwrite(draft, list(frames), ".gif", duration=1000 / frames_per_second, loop=0)
            return
        options = ["-f", "mp4", "-crf", "20", "-movflags", "+faststart"]
        writer: Any
        with imageio.get_writer(
            draft,
            ".mp4",
            fps=frames_per_second,
            codec="libx264",
            quality=None,
            pixelformat="yuv420p",
            macro_block_size=2,
            output_params=options,
        ) as writer:
            for frame in frames:
                writer.append_data(frame)


def encode(picture: Picture, kind: str = "PNG") -> bytes:
    """File content of a picture."""
    stream = io.BytesIO()
    options = {"quality": 92} if kind == "JPEG" else {"optimize": True}
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Content as an address that needs no file, e.g. of kind ``image/png``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
