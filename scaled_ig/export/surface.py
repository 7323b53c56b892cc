"""The surface of a scene: marching cubes (Lorensen and Cline 1987, Lewiner et al. 2003) over its density.

Letters: G cells along a side of the cube [-0.5, 0.5]³, V vertices, F faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.bank.scene import BankScene
from scaled_ig.errors import UsageError
from scaled_ig.export.sight import Sight
from scaled_ig.rendering.sampling import SCENE_RADIUS

POINTS_AT_ONCE = 2**19
HALVINGS = 6
LEAST_PART = 0.01
"""Volume of the smallest part that is kept, of that of the largest."""


@dataclass(frozen=True)
class Surface:
    """Triangles with colours, in world axes and units; fronts are counterclockwise seen from outside.

    Args:
        vertices: float32 [V, 3].
        faces: int32 [F, 3].
        normals: float32 [V, 3] unit vectors that point outwards.
        colours: float32 [V, 3] in [0, 1], sRGB, as they are seen from outside.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32]
    colours: NDArray[np.float32]


def surface_of(scene: BankScene, resolution: int) -> Surface:
    """The outer surface of a scene, closed.

    What no camera around the scene can see is taken to be full, so that it has no inner surfaces; parts of less than
    1 % of the volume of the largest one are left out.

    Args:
        scene: The scene.
        resolution: G.

    Raises:
        UsageError: There is nothing as dense as a surface.
    """
    from skimage import measure

    sight = Sight.of(scene)
    level = sight.surface_density(scene)
    opacity = _opacities(scene, resolution, sight, level)
    solid = _large_parts(opacity >= 0.5)
    if not solid.any():
        raise UsageError(f"scene {scene.id!r} has no surface: it is empty or mist, learn it longer")
    # Where parts have been removed or filled, no surface must be left.
    opacity = np.where(solid, np.maximum(opacity, _ABOVE), np.minimum(opacity, _BELOW))
    corner = np.argwhere(solid).min(0) - 1
    box = tuple(slice(low, high) for low, high in zip(corner, np.argwhere(solid).max(0) + 2, strict=True))
    places, faces, _, _ = measure.marching_cubes(opacity[box], 0.5, gradient_direction="ascent")
    vertices = _moved(scene, torch.from_numpy(places + corner), resolution, level)
    normals = _normals(vertices, torch.from_numpy(faces.astype(np.int64)))
    colours = sight.colours(vertices, normals).numpy()
    return Surface(vertices.numpy(), faces.astype(np.int32), normals.numpy(), _spread(colours, faces))


_ABOVE, _BELOW = np.float32(0.501), np.float32(0.499)


def _opacities(scene: BankScene, resolution: int, sight: Sight, level: float) -> NDArray[np.float32]:
    """What the surface is where it is 0.5, at the centres of all cells with a border of 0: [G + 2, G + 2, G + 2].

    It is the opacity of a step that the density of the surface makes half opaque, and 1 where no camera sees it.
    """
    centres = (torch.arange(resolution) + 0.5) / resolution - SCENE_RADIUS
    slabs = []
    for slab in centres.split(max(1, POINTS_AT_ONCE // resolution**2)):
        points = torch.cartesian_prod(slab, centres, centres)
        density = scene.densities(points) * (points.norm(dim=1) < SCENE_RADIUS)
        opacity = 1 - torch.exp2(-density / level)
        clear = ((opacity < 0.5) & (density > 0)).nonzero()[:, 0]  # where rays read nothing, nothing can be hidden
        opacity[clear[sight.hides(points[clear])]] = 1
        slabs.append(opacity)
    return np.pad(torch.cat(slabs).view(resolution, resolution, resolution).numpy(), 1)


def _moved(scene: BankScene, places: Tensor, resolution: int, level: float) -> Tensor:
    """World positions [V, 3] of places [V, 3] of the grid, moved along its edges to where the density is ``level``.

    Marching cubes interpolate, which makes steps where density rises within less than a cell.
    """
    low, high = places.floor(), places.ceil()
    ends = torch.stack([low, high, places]).sub(0.5).div(resolution).sub(SCENE_RADIUS).float()
    is_dense = scene.densities(ends.flatten(0, 1)).view(3, -1) >= level
    # Other places are not on an edge, or on one where a hollow was filled.
    is_crossed = (is_dense[0] != is_dense[1]) & ((high - low).sum(1) == 1)
    inside, outside = torch.where(is_dense[0, :, None], ends[:2], ends[:2].flip(0))[:, is_crossed]
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        middle_is_dense = (scene.densities(middle) >= level)[:, None]
        inside, outside = torch.where(middle_is_dense, middle, inside), torch.where(middle_is_dense, outside, middle)
    ends[2, is_crossed] = (inside + outside) / 2
    return ends[2]


def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [V, 3]: the mean of those of the faces around, by area."""
    first, second, third = vertices[faces].unbind(1)
    of_faces = torch.linalg.cross(second - first, third - first)
    total = torch.zeros_like(vertices)
    for corner in faces.T:
        total.index_add_(0, corner, of_faces)
    return F.normalize(total, dim=1)


def _large_parts(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without small parts, and without hollows that cannot be reached from outside."""
    from skimage import measure

    part = measure.label(solid, connectivity=1)
    volume = np.bincount(part.ravel())
    volume[0] = 0
    is_kept = volume >= LEAST_PART * volume.max()
    is_kept[0] = False
    empty = measure.label(~is_kept[part], connectivity=1)
    return empty != empty[0, 0, 0]


def _spread(colours: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Colours of all vertices: those that nobody sees (NaN) take that of their neighbours, step by step."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    colours = colours.copy()
    while (unseen := np.isnan(colours[:, 0])).any():
        to_fill = edges[unseen[edges[:, 0]] & ~unseen[edges[:, 1]]]
        if not len(to_fill):
            colours[unseen] = 0.5
            break
        total = np.zeros((len(colours), 4), np.float32)
        np.add.at(total, to_fill[:, 0], np.pad(colours[to_fill[:, 1]], ((0, 0), (0, 1)), constant_values=1))
        filled = total[:, 3] > 0
        colours[filled] = total[filled, :3] / total[filled, 3:]
    return colours
