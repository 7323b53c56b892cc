"""Surfaces built from grids, and Wavefront files made of them.

Letters: V vertices, T triangles, R rows and C columns of a grid, P points of a profile.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """What a part is made of.

    Args:
        name: Name in the MTL file.
        colour: sRGB display colour, each in 0..1 (`Kd`).
        texture: Picture that replaces the colour (`map_Kd`).
    """

    name: str
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: Image.Image | None = None


@dataclass(frozen=True)
class Part:
    """A piece of surface of one material.

    Args:
        vertices: [V, 3].
        texture_coordinates: [V, 2], origin at the lower left of the picture.
        triangles: [T, 3] int, counter-clockwise seen from outside.
        material: Name of a `Material`.
    """

    vertices: Array
    texture_coordinates: Array
    triangles: NDArray[np.int64]
    material: str

    def normals(self) -> Array:
        """[V, 3] unit normals: the mean of the triangles round a vertex, weighted by area."""
        corners = self.vertices[self.triangles]
        facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total = np.zeros_like(self.vertices)
        np.add.at(total, self.triangles, facing[:, None])
        return total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)


def grid(points: Array, material: str, texture_coordinates: Array | None = None, flip: bool = False) -> Part:
    """Triangulate a grid of points; triangles without area (poles, collapsed edges) are dropped.

    Args:
        points: [R, C, 3]; outside is where rows x columns (right-hand rule) points to.
        material: Name of the material.
        texture_coordinates: [R, C, 2]; zeros by default.
        flip: Turn the outside over.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    if flip:
        triangles = triangles[:, ::-1]
    vertices = points.reshape(-1, 3)
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    if texture_coordinates is None:
        texture_coordinates = np.zeros((rows, columns, 2))
    return Part(vertices, texture_coordinates.reshape(-1, 2), triangles[area > 1e-8], material)


def lathe(profile: Array, centre: Array, material: str, side: int, segments: int = 24) -> Part:
    """Turn a profile about the x axis; the picture is projected along the axis and fills the largest circle.

    Args:
        profile: [P, 2] radius and offset along the axis, from the outer hub round to the inner hub.
        centre: [3] point on the axis.
        material: Name of the material.
        side: +1 or -1, the direction along x in which the outer face looks.
        segments: Number of steps round the axis.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    radial = profile[:, None, :1] * circle[None]
    axial = np.broadcast_to(side * profile[:, None, 1:], (*radial.shape[:2], 1))
    points = np.concatenate([axial, radial], -1) + centre
    return grid(points, material, 0.5 + 0.5 * radial / profile[:, 0].max(), flip=side < 0)


def rounded_box(centre: Array, size: Array, material: str, roundness: float = 0.35) -> Part:
    """A box with soft edges: a superellipsoid of exponent `roundness` (1 is an ellipsoid, 0 a sharp box)."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, 9)[:, None]
    longitude = np.linspace(0.0, 2.0 * np.pi, 17)[None]

    def soften(value: Array) -> Array:
        return np.sign(value) * np.abs(value) ** roundness

    ring = soften(np.cos(latitude))
    ring[[0, -1]] = 0.0
    unit = np.stack(
        np.broadcast_arrays(
            ring * soften(np.cos(longitude)), ring * soften(np.sin(longitude)), soften(np.sin(latitude))
        ),
        -1,
    )
    return grid(centre + 0.5 * size * unit, material, flip=True)


def normalise(parts: list[Part]) -> list[Part]:
    """Centre the bounding box on the origin and scale its diagonal to 1."""
    vertices = np.concatenate([part.vertices[np.unique(part.triangles)] for part in parts])
    low, high = vertices.min(0), vertices.max(0)
    scale = 1.0 / np.linalg.norm(high - low)
    centre = 0.5 * (low + high)
    return [
        Part((part.vertices - centre) * scale, part.texture_coordinates, part.triangles, part.material)
        for part in parts
    ]


def write_wavefront(folder: Path, name: str, parts: list[Part], materials: list[Material], pictures: Path) -> None:
    """Write `<name>.obj`, `<name>.mtl` and the pictures `texture<k>.png`.

    Args:
        folder: Where the OBJ and MTL files go; exists.
        name: Their stem.
        parts: Pieces of surface.
        materials: Every material that the parts name.
        pictures: Folder of the pictures, a sibling of `folder`; exists.
    """
    mtl = []
    number = itertools.count()
    for material in materials:
        mtl.append(f"newmtl {material.name}\nKd {' '.join(f'{value:.4f}' for value in material.colour)}")
        if material.texture is not None:
            file = f"texture{next(number)}.png"
            material.texture.save(pictures / file)
            mtl.append(f"map_Kd ../{pictures.name}/{file}")
    (folder / f"{name}.mtl").write_text("\n".join(mtl) + "\n")

    lines = [f"mtllib {name}.mtl"]
    offset = 1
    for part in parts:
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in part.vertices.tolist()]
        lines += [f"vt {u:.5f} {v:.5f}" for u, v in part.texture_coordinates.tolist()]
        lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in part.normals().tolist()]
        lines.append(f"usemtl {part.material}")
        lines += [f"f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}" for a, b, c in (part.triangles + offset).tolist()]
        offset += len(part.vertices)
    (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
