"""Faces drawn from a Basel Face Model file (2009, 2017, 2019, or any model of the same layout).

Letters: V vertices, F faces, K coefficients of shape or colour, M triangles of a file.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import (
    FRONTAL,
    Material,
    Mesh,
    SceneEntry,
    SceneSource,
    SourceRecord,
    Viewpoints,
    normalize,
    scene_generator,
    srgb_to_linear,
)
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

LARGEST_MODEL = 1 << 29  # bytes; that of 2019 with the whole head has two thirds of it
MOST_PACKED = 64  # bytes of numbers that one byte of a file holds at most, unless they are all alike
LITTLE = 1 << 24  # bytes, which may be all alike
# The layouts of 2017 and 2019, then those of older statismo files.
CELLS = tuple(
    prefix + name
    for name in ("representer/cells", "representer/reference-mesh/triangle-list")
    for prefix in ("shape/", "")
)


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
    """Shape and colour of faces.

    Attributes:
        shape: vertices, the mean expression included.
        color: colours in 0 .. ``color_range``.
        expression: offsets of vertices from the mean expression, or None.
        faces: int64 [F, 3].
        color_range: 1 or 255.
        sha256: digest of the file.
        license: that the file names; None where it names none.
    """

    shape: LinearModel
    color: LinearModel
    expression: LinearModel | None
    faces: NDArray[np.int64]
    color_range: float
    sha256: str
    license: str | None

    def mesh(
        self,
        shape: NDArray[np.float64],
        color: NDArray[np.float64],
        expression: NDArray[np.float64] | None = None,
    ) -> Mesh:
        """A face in the file's own axes for coefficients [K shape], [K colour], [K expression]; None is neutral."""
        vertices = self.shape.instance(shape)
        if expression is not None and self.expression is not None:
            vertices = vertices + self.expression.instance(expression)
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
    """Identities drawn from the model: coefficients ~ N(0, 1), one normalization for all faces.

    Args:
        path: the model's HDF5 file.
        count: number of identities.
        seed: identity ``face-00007`` depends on the seed and its id alone.
        expression: standard deviation of the coefficients of expression, which have random numbers of their own; 0 is
            the neutral face.

    Raises:
        UsageError: the file is missing or not of the layout, or has no expressions where some are asked for.
    """

    viewpoints: ClassVar[Viewpoints | None] = FRONTAL

    def __init__(self, path: Path, count: int, seed: int = 0, expression: float = 0.0) -> None:
        if count < 1:
            raise UsageError(f"--scenes {count} asks for no face: give a positive number")
        self.path = path
        self.count = count
        self.seed = seed
        self.expression = expression
        if not 0 <= expression < np.inf:
            raise UsageError(f"--expression {expression} must be 0 (neutral) or a positive scale, e.g. 1")
        if read_face_model(path).expression is None and expression > 0:
            raise UsageError(f"{path} has no term of expression, as the model of 2009: leave out --expression")

    def scenes(self) -> list[SceneEntry]:
        """``face-00000``, ``face-00001``, ..."""
        return [SceneEntry(f"face-{index:05d}", "face") for index in range(self.count)]

    def load(self, scene_id: str) -> tuple[Mesh, SourceRecord]:
        """Draws one face."""
        model = read_face_model(self.path)
        generator = scene_generator(self.seed, f"{scene_id}/identity")
        shape = generator.standard_normal(len(model.shape.deviation))
        color = generator.standard_normal(len(model.color.deviation))
        expression = None
        if model.expression is not None and self.expression > 0:
            generator = scene_generator(self.seed, f"{scene_id}/expression")
            expression = self.expression * generator.standard_normal(len(model.expression.deviation))
        mean = model.mesh(np.zeros_like(shape), np.zeros_like(color))
        mesh, normalization = normalize(model.mesh(shape, color, expression), up="y", box_of=mean)
        return mesh, {
            "file": self.path.name,
            "sha256": model.sha256,
            "license": model.license,
            "shape": scene_id,
            "normalization": normalization,
            "seed": self.seed,
            "expression": self.expression,
        }


def _require_own_values(file: h5py.File) -> None:
    """Refuses files that lead to other files, before one of them is opened."""

    def leads_out(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    name = file.visititems_links(leads_out)
    if name is not None:
        raise ValueError(f"{name} leads to another file")


class _Values:
    """Datasets of a model file, none of which is read before its claims fit what the file can hold."""

    def __init__(self, file: h5py.File) -> None:
        _require_own_values(file)
        self.file, self.bytes = file, 0

    def __getitem__(self, name: str) -> h5py.Dataset:
        dataset = self.file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"{name} is no dataset")
        plan = dataset.id.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
            raise ValueError(f"{name} keeps its values in other files")
        if dataset.dtype.kind not in "fiu" or dataset.shape is None:
            raise ValueError(f"{name} is of type {dataset.dtype}, no table of numbers")
        claimed = dataset.size * dataset.dtype.itemsize
        self.bytes += claimed
        most = max(LITTLE, MOST_PACKED * dataset.id.get_storage_size())
        if claimed > most or self.bytes > LARGEST_MODEL:
            raise ValueError(f"{name} claims {claimed:,} bytes, more than the file can hold or is read")
        if np.prod(dataset.chunks or (), dtype=float) > 2 * max(1, dataset.size):
            raise ValueError(f"{name} is stored in pieces that are larger than all of it")
        return dataset


@lru_cache(maxsize=1)
def read_face_model(path: Path) -> FaceModel:
    """Reads a model file; numbers of vertices, triangles and modes come from its datasets.

    Raises:
        UsageError: the file is missing or not of the layout.
    """
    try:
        with h5py.File(path, "r") as file:
            values = _Values(file)
            shape, color = (_linear_model(values, name) for name in ("shape", "color"))
            expression = _linear_model(values, "expression") if "expression/model" in file else None
            names = [name for name in CELLS if name in file]
            faces = _triangles(values[names[0] if names else CELLS[0]][:])
            named = file.attrs.get("license")
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:  # as h5py raises them
        raise UsageError(f"{path} is no Basel Face Model in HDF5 ({error}): name e.g. model2019_bfm.h5") from None
    terms = [shape, color] if expression is None else [shape, color, expression]
    vertices = len(shape.mean) // 3
    fit = all(
        term.basis.shape == (3 * vertices, len(term.deviation))
        and term.basis.dtype.kind == "f"
        and len(term.mean) == 3 * vertices
        for term in terms
    )
    if not fit or not len(faces) or faces.min() < 0 or faces.max() >= vertices:
        raise UsageError(f"{path}: its triangles or modes do not fit its {vertices} vertices: fetch the file again")
    if expression is not None:
        shape = replace(shape, mean=shape.mean + expression.mean)
        expression = replace(expression, mean=np.zeros_like(expression.mean))
    # The model of 2009 keeps colours in 0..255.
    color_range = 255.0 if color.mean.max() > 1.0 else 1.0
    license = named if isinstance(named, str) else None
    return FaceModel(shape, color, expression, faces, color_range, file_sha256(path), license)


def _triangles(cells: NDArray[Any]) -> NDArray[np.int64]:
    """int64 [M, 3] from [3, M], the usual way, or [M, 3]; three triangles are taken the usual way."""
    rows = cells.T if cells.shape[0] == 3 else cells
    return rows.astype(np.int64) if rows.ndim == 2 and rows.shape[1] == 3 else np.empty((0, 3), np.int64)


def _linear_model(values: _Values, name: str) -> LinearModel:
    mean, basis, variance = (values[f"{name}/model/{part}"] for part in ("mean", "pcaBasis", "pcaVariance"))
    deviation = np.sqrt(variance[:]).astype(np.float32).reshape(-1)
    return LinearModel(mean[:].astype(np.float32).reshape(-1), basis[:], deviation)


def _vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Normals [V, 3] averaged over the faces around a vertex, weighted by area."""
    edges = vertices[faces[:, 1:]] - vertices[faces[:, :1]]
    area = np.cross(edges[:, 0], edges[:, 1])
    summed = [np.bincount(faces.reshape(-1), np.repeat(area[:, axis], 3), len(vertices)) for axis in range(3)]
    normals = np.stack(summed, axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
