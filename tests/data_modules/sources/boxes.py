"""A box with a picture on every side, as a mesh built by hand: what files of it must look like."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources.base import GREY, Material, Mesh, srgb_to_linear
from data_modules.sources.meshes import read_mesh
from data_modules.sources.named_files import NamedFiles

CORNERS = np.array([[x, y, z] for x in (-0.3, 0.3) for y in (-0.25, 0.25) for z in (-0.2, 0.2)])
SIDES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
TEXELS = np.random.default_rng(5).integers(0, 256, (4, 6, 3), dtype=np.uint8)
SIDE_COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]])


def box(material: Material = GREY, uv: np.ndarray = UV, **changes: Any) -> Mesh:
    """The box of one material, with the same texture coordinates on every side."""
    fans = [[side[0], side[k], side[k + 1]] for side in SIDES for k in (1, 2)]
    two = np.stack([uv[[0, 1, 2]], uv[[0, 2, 3]]]).astype(np.float32)
    mesh = Mesh(
        vertices=CORNERS,
        faces=np.array(fans),
        normals=np.zeros((12, 3, 3), np.float32),
        uv=np.tile(two, (6, 1, 1)),
        material_index=np.zeros(12, np.int64),
        materials=(material,),
    )
    return replace(mesh, **changes)


def painted(**changes: Any) -> Mesh:
    return box(Material(texture=TEXELS, **changes))


def six_colors() -> Mesh:
    """Every side of another colour."""
    colors = [tuple(srgb_to_linear(color / 255).tolist()) for color in SIDE_COLORS]
    return box(material_index=np.arange(12) // 2, materials=tuple(Material(color=color) for color in colors))


def vertex_colored(display: np.ndarray) -> Mesh:
    """Vertices of display colours [8, 3]."""
    return box(Material(), vertex_colors=srgb_to_linear(display).astype(np.float32))


def pictures(mesh: Mesh, size: int = 32) -> np.ndarray:
    """Four views from all around."""
    cameras = draw_cameras(4, 1.3, (-180, 180), (-60, 60), np.random.default_rng(3))
    caster = RayCaster(mesh, 4)
    return np.stack([caster.render(*camera, (size, size))[0] for camera in zip(*cameras, strict=True)])


def assert_looks_like(path: Path, twin: Mesh, files: Callable[[Path], NamedFiles] = NamedFiles) -> Mesh:
    """Reads a file, and compares its views with those of the same shape built without a file."""
    mesh = read_mesh(path, files(path.parent))
    seen, expected = pictures(mesh).astype(int), pictures(twin).astype(int)
    assert (expected < 250).any(axis=-1).mean() > 0.05
    assert abs(seen - expected).max() <= 1, path
    return mesh
