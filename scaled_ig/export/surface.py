"""The surface of a scene: marching cubes (Lorensen and Cline 1987, Lewiner et al. 2003) over its density.

Letters: G cells along a side of the cube [-0.5, 0.5]³, V vertices, F faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scaled_ig.bank.scene import BankScene
from scaled_ig.errors import UsageError
from scaled_ig.export.sight import Sight
from scaled_ig.rendering.sampling import SCENE_RADIUS

POINTS_AT_ONCE = 2**19
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
    opacity = _opacities(scene, resolution, sight)
    solid = _large_parts(opacity >= 0.5)
    if not solid.any():
        raise UsageError(f"scene {scene.record.id!r} has no surface, it is empty or mist: leave it out by --scenes")
    # Where parts have been removed or filled, no surface must be left.
    opacity = np.where(solid, np.maximum(opacity, _ABOVE), np.minimum(opacity, _BELOW))
    corner = np.argwhere(solid).min(0) - 1
    box = tuple(slice(low, high) for low, high in zip(corner, np.argwhere(solid).max(0) + 2, strict=True))
    vertices, faces, normals, _ = measure.marching_cubes(opacity[box], 0.5, gradient_direction="ascent")
    vertices = ((vertices + corner - 0.5) / resolution - SCENE_RADIUS).astype(np.float32)
    vertices, normals, faces = vertices.copy(), normals.copy(), faces.astype(np.int32)
    colours = sight.colours(torch.from_numpy(vertices), torch.from_numpy(normals)).numpy()
    return Surface(vertices, faces, normals, _spread(colours, faces))


_ABOVE, _BELOW = np.float32(0.501), np.float32(0.499)


def _opacities(scene: BankScene, resolution: int, sight: Sight) -> NDArray[np.float32]:
    """What the surface is where it is 0.5, at the centres of all cells with a border of 0: [G + 2, G + 2, G + 2].

    It is the opacity of a step that the density of the surface makes half opaque, and 1 where no camera sees it.
    """
    level = sight.surface_density(scene)
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
