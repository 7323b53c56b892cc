"""The three coloured balls as meshes, and the check that they land where the cameras see them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh

from data_modules.raycast import RayCaster
from data_modules.sources.base import Mesh
from tests.data_modules.sources.captures import CENTRES, COLOURS, RADIUS, distances, see

# In a file's own axes and units; with +Y up they come to lie as in ``captures``, but for centre and scale.
IN_FILE = 3 * CENTRES[:, [0, 2, 1]] * [1, 1, -1] + [1, 2, 3]


def coloured_balls(as_material: bool = False) -> list[trimesh.Trimesh]:
    balls = []
    for centre, colour in zip(IN_FILE, COLOURS, strict=True):
        ball = trimesh.creation.icosphere(3, 3 * RADIUS).apply_translation(centre)
        rgba = [*(int(value * 255) for value in colour), 255]
        if as_material:
            material = trimesh.visual.material.PBRMaterial(baseColorFactor=rgba)
            ball.visual = trimesh.visual.TextureVisuals(material=material)
        else:
            ball.visual.vertex_colors = np.tile(rgba, (len(ball.vertices), 1))
        balls.append(ball)
    return balls


def write_obj(path: Path) -> Path:
    """OBJ and MTL; no normals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, first = [f"mtllib {path.stem}.mtl"], 1
    for number, ball in enumerate(coloured_balls()):
        lines += [f"g ball{number}", f"usemtl paint{number}"]
        lines += ["v {!r} {!r} {!r}".format(*map(float, vertex)) for vertex in ball.vertices]
        lines += ["f {} {} {}".format(*(face + first)) for face in ball.faces]
        first += len(ball.vertices)
    path.write_text("\n".join(lines))
    paints = ["newmtl paint{}\nKd {} {} {}\n".format(number, *colour) for number, colour in enumerate(COLOURS)]
    path.with_suffix(".mtl").write_text("".join(paints))
    return path


def assert_balls_land(loaded: tuple[Mesh, dict], to_world: Callable) -> None:
    """Ray-casts the mesh; ``to_world`` takes x, y, z of the file to the world's axes, before centring and scale."""
    mesh, _ = loaded
    centres = np.array([to_world(*centre) for centre in IN_FILE])
    low, high = centres.min(axis=0) - 3 * RADIUS, centres.max(axis=0) + 3 * RADIUS
    centres = (centres - (low + high) / 2) / np.linalg.norm(high - low)
    seen = see(64)
    caster = RayCaster(mesh, 4)
    poses, intrinsics = seen.poses.astype(np.float32), seen.intrinsics.astype(np.float32)
    images = np.stack([caster.render(*camera, (64, 64))[0] for camera in zip(poses, intrinsics, strict=True)])
    assert distances(images, poses, intrinsics, centres).max() < 0.5
