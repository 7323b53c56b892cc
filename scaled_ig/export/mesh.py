"""Surfaces of scenes as files: meshes, and points on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.export.gltf import glb
from scaled_ig.export.ply import ply
from scaled_ig.export.scenes import write_scenes
from scaled_ig.export.surface import Surface, surface_of
from scaled_ig.files import write_whole

AXES = "units and axes of scaled-ig: +Z up, front -Y, within a ball of radius 0.5"


def write_mesh(
    bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object], resolution: int = 128
) -> str:
    """Write the surface of each scene twice: ``<id>.glb``, with +Y up, and ``<id>.ply``, with +Z up.

    Args:
        bank, ids, out, progress: See :mod:`scaled_ig.export`.
        resolution: Cells of the surface along the side of a scene's cube.
    """

    def write(scene: BankScene, path: Path) -> None:
        surface = surface_of(scene, resolution)
        content = ply(surface.vertices, surface.normals, surface.colours, surface.faces, _comments(scene))
        write_whole(path.with_name(f"{path.name.removesuffix('.glb')}.ply"), content)
        write_whole(path, glb(surface, scene.id, scene.licence))  # last: where it is, both are

    return write_scenes(bank, ids, out, (".glb", ".ply"), write, progress, {"format": "mesh", "resolution": resolution})


def write_pointcloud(
    bank: SceneBank,
    ids: list[str],
    out: Path,
    progress: Callable[[int], object],
    resolution: int = 128,
    points: int = 20_000,
) -> str:
    """Write ``<id>.ply`` of each scene: as many points, drawn evenly by area from its surface.

    Args:
        bank, ids, out, progress: See :mod:`scaled_ig.export`.
        resolution: Cells of the surface along the side of a scene's cube.
        points: Of each scene.
    """

    def write(scene: BankScene, path: Path) -> None:
        drawn = draw_points(surface_of(scene, resolution), points)
        write_whole(path, ply(drawn.vertices, drawn.normals, drawn.colours, comments=_comments(scene)))

    options = {"format": "pointcloud", "resolution": resolution, "points": points}
    return write_scenes(bank, ids, out, (".ply",), write, progress, options)


def draw_points(surface: Surface, count: int) -> Surface:
    """Points drawn from a surface, evenly by area, the same each time; without faces."""
    generator = np.random.default_rng(0)
    corners = surface.vertices[surface.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = surface.faces[generator.choice(len(area), count, p=area / area.sum())]
    # Of two numbers in order, the three lengths between 0, them, and 1 are even over the triangle.
    cuts = np.sort(generator.random((count, 2)), axis=1)
    weights = np.diff(cuts, axis=1, prepend=0, append=1)[..., None]
    vertices, normals, colours = (
        (values[face] * weights).sum(1).astype(np.float32)
        for values in (surface.vertices, surface.normals, surface.colours)
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return Surface(vertices, surface.faces[:0], normals / np.maximum(length, 1e-9), colours)


def _comments(scene: BankScene) -> tuple[str, ...]:
    licence = " ".join(scene.licence.split())
    return (AXES, f"licence {licence}") if licence else (AXES,)
