"""GLB and glTF 2.0 files: geometry and diffuse colours of the default scene, as the specification says.

Skins and morph targets are drawn in the pose that the nodes of the file are in, and with its weights.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import Material, Mesh, bounded_uv
from data_modules.sources.gltf_accessors import Accessors
from data_modules.sources.gltf_extensions import INSTANCING, VISIBILITY, extension_warnings
from data_modules.sources.gltf_materials import Looks, TexturePlace
from data_modules.sources.mesh_claims import (
    FAN,
    STRIP,
    TRIANGLES,
    Gltf,
    ImpossibleError,
    numbers_of,
    open_gltf,
    pick,
    said_of,
)
from data_modules.sources.named_files import NamedFiles
from scaled_ig.errors import UsageError

MOST_INFLUENCES = 8  # sets of four joints a vertex


def read_gltf(path: Path, files: NamedFiles | None = None) -> Mesh:
    """Reads the triangles and diffuse colours of a GLB or glTF file; factors and vertex colours are linear.

    Args:
        path: the file.
        files: the folder in which all that it names must lie, and whether textures may be missing; that of the file
            unless given.

    Raises:
        UsageError: the file is malformed, claims what it cannot hold, holds no triangle, requires an extension that is
            not read, or names a file that is missing, broken or elsewhere.
    """
    files = files or NamedFiles(path.parent)
    file = open_gltf(path, files)
    # Numbers may go beyond all bounds here: normalize refuses such vertices, as those of all formats.
    with said_of(path), np.errstate(all="ignore"):
        return _Reader(file, files).read()


class _Reader:
    def __init__(self, file: Gltf, files: NamedFiles) -> None:
        self.file = file
        self.nodes, self.meshes = file.rows("nodes"), file.rows("meshes")
        self.accessors, self.looks = Accessors(file), Looks(file, files)
        self.places = _global_matrices(self.nodes)
        self.materials: dict[int | None, int] = {}
        self.warnings = extension_warnings(file.document)
        self.joint_matrices = cache(self._joint_matrices)

    def read(self) -> Mesh:
        parts = []
        for number in self._drawn_nodes():
            node = self.nodes[number]
            if "mesh" not in node:
                continue
            mesh = pick(self.meshes, node["mesh"], "mesh")
            weights = node.get("weights", mesh.get("weights", []))
            matrices = self._matrices(number)
            for primitive in mesh["primitives"]:
                shape = self._primitive(primitive, weights)
                if shape is not None and "skin" in node:
                    parts.append(self._skinned(shape, primitive, node["skin"]))
                elif shape is not None:
                    parts += [_moved(shape, matrix[None]) for matrix in matrices]
        if not any(len(part.faces) for part in parts):
            raise UsageError(f"{self.file.path} holds no triangle: repair or remove it")
        materials = tuple(self.looks.read(number).material for number in self.materials)
        return _joined(parts, materials, tuple(self.warnings))

    def _drawn_nodes(self) -> Iterator[int]:
        """Nodes of the default scene, or of the first, or all where there is no scene; what is hidden is not."""
        scenes = self.file.rows("scenes")
        if scenes:
            if "scene" not in self.file.document and len(scenes) > 1:
                self.warnings.append(f"it has {len(scenes)} scenes and says not which to show: the first is drawn")
            waiting = list(pick(scenes, self.file.document.get("scene", 0), "scene").get("nodes", []))
        else:
            below = {child for node in self.nodes for child in node.get("children", [])}
            waiting = [number for number in range(len(self.nodes)) if number not in below]
        waiting.reverse()
        seen = set()
        while waiting:
            number = waiting.pop()
            node = pick(self.nodes, number, "node")
            if number in seen:
                raise ImpossibleError(f"its scene names node {number} twice")
            seen.add(number)
            if node.get("extensions", {}).get(VISIBILITY, {}).get("visible", True):
                yield number
                waiting += reversed(node.get("children", []))

    def _matrices(self, number: int) -> NDArray[np.float64]:
        """Where the mesh of a node stands, [N, 4, 4], N times."""
        node, place = self.nodes[number], self.places[number]
        attributes = node.get("extensions", {}).get(INSTANCING, {}).get("attributes", {})
        values = {key: self.accessors.read(accessor).astype(np.float64) for key, accessor in attributes.items()}
        counts = {len(array) for array in values.values()}
        if not counts:
            return place[None]
        if len(counts) > 1:
            raise ImpossibleError(f"its {INSTANCING} has attributes of {sorted(counts)} items")
        count = counts.pop()
        instances = _transforms(
            values.get("TRANSLATION", np.zeros((count, 3))),
            values.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))),
            values.get("SCALE", np.ones((count, 3))),
        )
        return place @ instances

    def _primitive(self, primitive: dict[str, Any], weights: list[float]) -> Mesh | None:
        """The triangles of a primitive in its own axes."""
        mode = primitive.get("mode", TRIANGLES)
        if "POSITION" not in primitive["attributes"]:
            self.warnings.append("a part of it has no positions, and is not drawn")
            return None
        if mode not in (TRIANGLES, STRIP, FAN):
            self.warnings.append("points and lines are not drawn")
            return None
        vertices = self._morphed(primitive, "POSITION", weights)
        assert vertices is not None
        faces = self.accessors.faces(primitive, len(vertices))
        normals, colors = (self._morphed(primitive, name, weights) for name in ("NORMAL", "COLOR_0"))
        number = primitive.get("material")
        look = self.looks.read(number)
        if colors is not None:
            colors = np.clip(colors, 0, 1)
            alpha = np.ones(len(colors)) if look.is_opaque or colors.shape[1] == 3 else colors[:, 3]
            colors = np.column_stack([colors[:, :3], alpha])
        return Mesh(
            vertices=vertices,
            faces=faces,
            normals=np.zeros((*faces.shape, 3), np.float32) if normals is None else normals[faces].astype(np.float32),
            uv=self._uv(primitive, look.color, weights, len(vertices))[faces],
            material_index=np.full(len(faces), self.materials.setdefault(number, len(self.materials))),
            materials=(),
            vertex_colors=None if colors is None else colors.astype(np.float32),
            emission_uv=self._uv(primitive, look.emission, weights, len(vertices))[faces],
        )

    def _morphed(self, primitive: dict[str, Any], name: str, weights: list[float]) -> NDArray[np.float64] | None:
        """An attribute, moved towards the targets by their weights."""
        values = self.accessors.attribute(primitive, name)
        if values is None:
            return None
        values = values.astype(np.float64)
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            if weight and name in target:
                moved = self.accessors.read(target[name])
                values[:, : moved.shape[1]] += weight * moved
        if name != "POSITION" and not np.isfinite(values).all():
            self.warnings.append(f"{name} holds numbers that are not finite: 0 is taken for them")
            values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        return values

    def _uv(
        self, primitive: dict[str, Any], place: TexturePlace | None, weights: list[float], num_vertices: int
    ) -> NDArray[np.float32]:
        """Texture coordinates [V, 2] of a texture, v upwards."""
        name = f"TEXCOORD_{place.coordinates}" if place is not None else ""
        uv = self._morphed(primitive, name, weights) if place is not None else None
        if uv is None or place is None:
            if place is not None:
                self.warnings.append(f"a texture lies on {name}, which is not there: one colour of it is drawn")
            return np.zeros((num_vertices, 2), np.float32)
        u, v = (np.column_stack([uv, np.ones(len(uv))]) @ place.matrix.T).T
        uv = np.column_stack([u, 1 - v])
        return bounded_uv(uv)

    def _joint_matrices(self, skin: int) -> NDArray[np.float64]:
        """From the axes of a skinned mesh to those of the scene, for every joint [J, 4, 4]."""
        row = pick(self.file.rows("skins"), skin, "skin")
        for joint in row["joints"]:
            pick(self.nodes, joint, "node")
        joints = self.places[row["joints"]]
        if "inverseBindMatrices" not in row:
            return joints
        inverse = self.accessors.read(row["inverseBindMatrices"]).astype(np.float64).reshape(-1, 4, 4)
        return joints @ inverse[: len(joints)].transpose(0, 2, 1)

    def _skinned(self, shape: Mesh, primitive: dict[str, Any], skin: int) -> Mesh:
        """A shape where the joints of its skin hold it; the place of its node does not count."""
        matrices = self.joint_matrices(skin)
        influences: list[list[NDArray[Any] | None]] = []
        while f"JOINTS_{len(influences)}" in primitive["attributes"]:
            if len(influences) == MOST_INFLUENCES:
                raise ImpossibleError(f"its vertices have more than {MOST_INFLUENCES} sets of joints")
            names = (f"JOINTS_{len(influences)}", f"WEIGHTS_{len(influences)}")
            influences.append([self.accessors.attribute(primitive, name) for name in names])
        if not influences:
            raise ImpossibleError("a mesh of a skin has no JOINTS_0")
        joints, weights = (np.column_stack(values) for values in zip(*influences, strict=True))
        if joints.max(initial=0) >= len(matrices):
            raise ImpossibleError(f"a vertex names joint {joints.max()}, and its skin has {len(matrices)}")
        total = weights.sum(axis=1, keepdims=True)
        weights = np.where(total > 0, weights / np.where(total > 0, total, 1), np.eye(1, weights.shape[1]))
        moves = np.zeros((len(joints), 4, 4))
        for joint, weight in zip(joints.T, weights.T, strict=True):
            moves += weight[:, None, None] * matrices[joint]
        return _moved(shape, moves)


def _global_matrices(nodes: list[dict[str, Any]]) -> NDArray[np.float64]:
    """From the axes of every node to those of the scene, [N, 4, 4]; ``mesh_claims`` knows that they form trees."""
    places = np.array([_local_matrix(node) for node in nodes]).reshape(-1, 4, 4)
    below = {child for node in nodes for child in node.get("children", [])}
    waiting = [number for number in range(len(nodes)) if number not in below]
    while waiting:
        number = waiting.pop()
        for child in nodes[number].get("children", []):
            places[child] = places[number] @ places[child]
            waiting.append(child)
    return places


def _local_matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    if "matrix" in node:
        return np.array(numbers_of(node["matrix"], (0.0,) * 16)).reshape(4, 4).T
    parts = (("translation", (0.0, 0.0, 0.0)), ("rotation", (0.0, 0.0, 0.0, 1.0)), ("scale", (1.0, 1.0, 1.0)))
    translation, rotation, scale = (np.array([numbers_of(node.get(key), default)]) for key, default in parts)
    return _transforms(translation, rotation, scale)[0]


def _transforms(
    translation: NDArray[np.float64], rotation: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Matrices [N, 4, 4] that scale, then turn by quaternions (x, y, z, w), then move."""
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    x, y, z, w = (rotation / np.where(length > 0, length, 1)).T
    turns = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]).transpose(2, 0, 1)  # fmt: skip
    matrices = np.tile(np.eye(4), (len(translation), 1, 1))
    matrices[:, :3, :3] = turns * scale[:, None, :]
    matrices[:, :3, 3] = translation
    return matrices


def _moved(shape: Mesh, matrices: NDArray[np.float64]) -> Mesh:
    """A shape by one matrix [1, 4, 4], or by one for every vertex [V, 4, 4]."""
    linear = matrices[:, :3, :3]
    # Normals go by the inverse transpose; the cofactors are the same up to scale and exist for any matrix.
    first, second, third = linear[:, 0], linear[:, 1], linear[:, 2]
    cofactors = np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)], axis=1)
    corners = cofactors[shape.faces] if len(matrices) > 1 else cofactors[None]
    normals = np.einsum("fcij,fcj->fci", corners, shape.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-300)
    vertices = np.einsum("vij,vj->vi", linear, shape.vertices) + matrices[:, :3, 3]
    return replace(shape, vertices=vertices, normals=np.nan_to_num(normals).astype(np.float32))


def _joined(parts: list[Mesh], materials: tuple[Material, ...], warnings: tuple[str, ...]) -> Mesh:
    firsts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    colors = None
    if any(part.vertex_colors is not None for part in parts):
        painted = (part.vertex_colors for part in parts)
        colors = np.concatenate([
            np.ones((len(part.vertices), 4), np.float32) if color is None else color
            for part, color in zip(parts, painted, strict=True)
        ])  # fmt: skip
    return Mesh(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + first for part, first in zip(parts, firsts[:-1], strict=True)]),
        normals=np.concatenate([part.normals for part in parts]),
        uv=np.concatenate([part.uv for part in parts]),
        material_index=np.concatenate([part.material_index for part in parts]),
        materials=materials,
        vertex_colors=colors,
        emission_uv=np.concatenate([part.emission_uv for part in parts if part.emission_uv is not None]),
        warnings=warnings,
    )
