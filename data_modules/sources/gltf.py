"""GLB and glTF files, read by trimesh."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import Material, Mesh, srgb_to_linear
from data_modules.sources.mesh_claims import require_possible_gltf
from data_modules.sources.pictures import BROKEN
from scaled_ig.errors import UsageError

PLAIN_GREY = (0.6, 0.6, 0.6)


def read_with_trimesh(path: Path, folder: Path) -> Mesh:
    """Reads the triangles and diffuse colours of a GLB or glTF file.

    Factors are linear, textures are sRGB.

    Args:
        path: the file.
        folder: in which all that it names must lie.

    Raises:
        UsageError: the file is malformed, claims what it cannot hold, holds no triangle, or names a file that is
            missing, broken or elsewhere.
    """
    import trimesh

    require_possible_gltf(path, folder)
    # Without allow_anywhere trimesh drops every texture that lies outside the mesh's folder, without a word.
    resolver = trimesh.resolvers.FilePathResolver(str(path), allow_anywhere=True)
    try:
        scene = trimesh.load_scene(str(path), resolver=resolver, process=False)
        parts, textures = [], _Textures()
        for node in sorted(scene.graph.nodes_geometry):
            transform, name = scene.graph[node]
            if isinstance(scene.geometry[name], trimesh.Trimesh):
                parts.append(_part(scene.geometry[name], transform, textures))
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers raise
        raise UsageError(f"{path} cannot be read as a mesh ({error}): repair or remove it") from None
    if not parts:
        raise UsageError(f"{path} holds no triangle: repair or remove it")
    return _joined(parts)


class _Textures:
    """Decodes each image of a mesh once, whatever the number of materials that share it."""

    def __init__(self) -> None:
        self._textures: dict[int, tuple[Any, NDArray[np.uint8]]] = {}  # with the image, so that its id stays its own

    def decode(self, image: Any) -> NDArray[np.uint8]:
        """uint8 [h, w, 3] of an image that trimesh has opened."""
        if id(image) not in self._textures:
            try:
                self._textures[id(image)] = image, np.asarray(image.convert("RGB"))
            except BROKEN as error:
                raise ValueError(f"a texture cannot be decoded: {error}") from None
        return self._textures[id(image)][1]


def _part(part: Any, transform: NDArray[np.float64], textures: _Textures) -> Mesh:
    faces = np.asarray(part.faces, dtype=np.int64)
    linear = transform[:3, :3]
    # Normals go by the inverse transpose; the cofactors are the same up to scale and exist for any matrix.
    cofactor = np.linalg.det(linear) * np.linalg.pinv(linear).T
    normals = np.array(part.vertex_normals)
    # Around a doubled, flipped face trimesh's mean is zero but for rounding: no normal, rather than any.
    normals[np.linalg.norm(normals, axis=1) < 0.5] = 0.0
    normals = normals @ cofactor.T
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    visual = part.visual
    uv, material, colors = None, Material(color=PLAIN_GREY), None
    if visual.kind == "texture":
        uv, material = visual.uv, _material(visual.material, textures)
    elif visual.kind in ("vertex", "face"):
        material = Material()
        colors = srgb_to_linear(np.asarray(visual.vertex_colors)[:, :3] / 255).astype(np.float32)
    return Mesh(
        vertices=np.asarray(part.vertices) @ linear.T + transform[:3, 3],
        faces=faces,
        normals=normals[faces].astype(np.float32),
        uv=(np.zeros((len(part.vertices), 2)) if uv is None else np.asarray(uv))[faces].astype(np.float32),
        material_index=np.zeros(len(faces), dtype=np.int64),
        materials=(material,),
        vertex_colors=colors,
    )


def _material(source: Any, textures: _Textures) -> Material:
    image = getattr(source, "baseColorTexture", None)
    factor = getattr(source, "baseColorFactor", None)
    red, green, blue = (1.0, 1.0, 1.0) if factor is None else (np.asarray(factor)[:3] / 255).tolist()
    return Material((red, green, blue), None if image is None else textures.decode(image))


def _joined(parts: list[Mesh]) -> Mesh:
    vertices = np.cumsum([0, *(len(part.vertices) for part in parts)])
    colors = [np.ones((len(p.vertices), 3), np.float32) if p.vertex_colors is None else p.vertex_colors for p in parts]
    return Mesh(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + first for part, first in zip(parts, vertices[:-1], strict=True)]),
        normals=np.concatenate([part.normals for part in parts]),
        uv=np.concatenate([part.uv for part in parts]),
        material_index=np.concatenate([part.material_index + row for row, part in enumerate(parts)]),
        materials=tuple(part.materials[0] for part in parts),
        vertex_colors=np.concatenate(colors) if any(part.vertex_colors is not None for part in parts) else None,
    )
