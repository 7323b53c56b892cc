"""Faces drawn from a Basel Face Model file (2009, 2017, 2019, or any model of the same layout)."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from data_modules.raycast import scene_generator
from data_modules.sources.base import (
    FRONTAL,
    Material,
    Mesh,
    SceneEntry,
    SceneSource,
    SourceRecord,
    Viewpoints,
    file_sha256,
    normalize,
    srgb_to_linear,
)
from scaled_ig.errors import UsageError


@dataclass(frozen=True)
class LinearModel:
    """``mean + basis @ (sqrt(variance) * a)``, with a ~ N(0, 1) for every mode.

    Attributes:
        mean: float32 [3 V], x, y, z (or r, g, b) interleaved.
        basis: [3 V, K], float16 or float32.
        deviation: float32 [K], square roots of the variances.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.floating]
    deviation: NDArray[np.float32]

    def instance(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """[V, 3] for coefficients [K]."""
        scaled = (self.deviation * coefficients).astype(np.float32)
        # Row blocks keep the float32 copy of a float16 basis small; einsum sums in one order on any number of threads.
        blocks = np.array_split(self.basis, 16)
        offset = np.concatenate([np.einsum("vk,k->v", block.astype(np.float32), scaled) for block in blocks])
        return (self.mean + offset).astype(np.float64).reshape(-1, 3)


@dataclass(frozen=True)
class FaceModel:
    """Shape and colour of faces: ``faces`` int64 [F, 3]; colours in 0 .. ``color_range``."""

    shape: LinearModel
    color: LinearModel
    faces: NDArray[np.int64]
    color_range: float
    sha256: str

    def mesh(self, shape: NDArray[np.float64], color: NDArray[np.float64]) -> Mesh:
        """A face in the file's own axes for coefficients [K shape] and [K colour]."""
        vertices = self.shape.instance(shape)
        display = np.clip(self.color.instance(color) / self.color_range, 0.0, 1.0)
        count = len(self.faces)
        return Mesh(
            vertices=vertices,
            faces=self.faces,
            normals=_vertex_normals(vertices, self.faces)[self.faces].astype(np.float32),
            uv=np.zeros((count, 3, 2), np.float32),
            material_index=np.zeros(count, np.int64),
            materials=(Material(),),
            vertex_colors=srgb_to_linear(display).astype(np.float32),
        )


class BaselSource(SceneSource):
    """Identities drawn from the model: coefficients ~ N(0, 1), neutral expression, one normalization for all faces.

    Args:
        path: the model's HDF5 file.
        count: number of identities.
        seed: identity ``face-00007`` depends on the seed and its id alone.

    Raises:
        UsageError: the file is missing or not of the layout.
    """

    viewpoints: ClassVar[Viewpoints | None] = FRONTAL

    def __init__(self, path: Path, count: int, seed: int = 0) -> None:
        if count < 1:
            raise UsageError(f"--scenes {count} asks for no face: give a positive number")
        self.path = path
        self.count = count
        self.seed = seed
        read_face_model(path)

    def scenes(self) -> list[SceneEntry]:
        """``face-00000``, ``face-00001``, ..."""
        return [SceneEntry(f"face-{index:05d}", "face") for index in range(self.count)]

    def load(self, scene_id: str) -> tuple[Mesh, SourceRecord]:
        """Draws one face."""
        model = read_face_model(self.path)
        generator = scene_generator(self.seed, f"{scene_id}/identity")
        shape = generator.standard_normal(len(model.shape.deviation))
        color = generator.standard_normal(len(model.color.deviation))
        mean = model.mesh(np.zeros_like(shape), np.zeros_like(color))
        mesh, normalization = normalize(model.mesh(shape, color), up="y", box_of=mean)
        return mesh, {
            "file": self.path.name,
            "sha256": model.sha256,
            "license": None,
            "shape": scene_id,
            "normalization": normalization,
            "seed": self.seed,
        }


@lru_cache(maxsize=1)
def read_face_model(path: Path) -> FaceModel:
    """Reads a model file; numbers of vertices, triangles and modes come from its datasets.

    Raises:
        UsageError: the file is missing or not of the layout.
    """
    try:
        with h5py.File(path, "r") as file:
            shape, color = (_linear_model(file[name]["model"]) for name in ("shape", "color"))
            if "expression" in file:
                shape = replace(shape, mean=shape.mean + file["expression/model/mean"][:].astype(np.float32))
            cells = file["shape/representer/cells"][:]
    except (OSError, KeyError) as error:
        raise UsageError(f"{path} is no Basel Face Model in HDF5 ({error}): name e.g. model2019_bfm.h5") from None
    vertices = len(shape.mean) // 3
    if cells.shape[0] != 3 or cells.min() < 0 or cells.max() >= vertices or shape.mean.shape != color.mean.shape:
        raise UsageError(f"{path}: its triangles do not fit its {vertices} vertices; fetch the file again")
    # The model of 2009 keeps colours in 0..255.
    color_range = 255.0 if color.mean.max() > 1.0 else 1.0
    return FaceModel(shape, color, cells.T.astype(np.int64), color_range, file_sha256(path))


def _linear_model(group: h5py.Group) -> LinearModel:
    mean = group["mean"][:].astype(np.float32).reshape(-1)
    return LinearModel(mean, group["pcaBasis"][:], np.sqrt(group["pcaVariance"][:]).astype(np.float32))


def _vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Normals [V, 3] averaged over the faces around a vertex, weighted by area."""
    edges = vertices[faces[:, 1:]] - vertices[faces[:, :1]]
    area = np.cross(edges[:, 0], edges[:, 1])
    summed = [np.bincount(faces.reshape(-1), np.repeat(area[:, axis], 3), len(vertices)) for axis in range(3)]
    normals = np.stack(summed, axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
