"""Numbers of a glTF file: accessors, normalised, sparse or compressed."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.gltf_extensions import DRACO, require_draco
from data_modules.sources.mesh_claims import COLUMNS, FAN, TRIANGLES, Gltf, ImpossibleError, count_of, pick

# How many numbers a vertex has of each.
ATTRIBUTES = {"POSITION": (3,), "NORMAL": (3,), "COLOR": (3, 4), "TEXCOORD": (2,), "JOINTS": (4,), "WEIGHTS": (4,)}
TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}


class Accessors:
    """Reads accessors of a file, each once, and attributes of its primitives, whichever way they are stored."""

    def __init__(self, file: Gltf) -> None:
        self.file = file
        self.accessors, self.views = file.rows("accessors"), file.rows("bufferViews")
        self.read = cache(self._read)

    def attribute(self, primitive: dict[str, Any], name: str) -> NDArray[Any] | None:
        """The values [V, columns] of an attribute such as ``COLOR_0``; None where the primitive has none.

        Raises:
            ImpossibleError: they are not as many as there are vertices, or are not there.
        """
        if name not in primitive["attributes"]:
            return None
        number = primitive["attributes"][name]
        if self._is_compressed(primitive) and name in primitive["extensions"][DRACO]["attributes"]:
            values = self._decompressed(primitive)[name]
            if pick(self.accessors, number, "accessor").get("normalized", False):
                values = _normalised(values)
        else:
            values = self.read(number)
        count = pick(self.accessors, primitive["attributes"]["POSITION"], "accessor")["count"]
        if len(values) != count or values.shape[1] not in ATTRIBUTES[name.partition("_")[0]]:
            raise ImpossibleError(f"its {name} has {len(values):,} x {values.shape[1]} numbers for {count:,} vertices")
        if name.startswith("COLOR") and values.dtype.kind != "f":  # integers can mean nothing else
            return _normalised(values)
        return values

    def faces(self, primitive: dict[str, Any], num_vertices: int) -> NDArray[np.int64]:
        """The triangles [F, 3] of a primitive, rows of its vertices.

        Raises:
            ImpossibleError: one of the vertices is not there.
        """
        mode = primitive.get("mode", TRIANGLES)
        if self._is_compressed(primitive):
            indices, mode = self._decompressed(primitive)["faces"].ravel(), TRIANGLES
        elif "indices" in primitive:
            indices = self.read(primitive["indices"]).ravel().astype(np.int64)
        else:
            indices = np.arange(num_vertices)
        if len(indices) and not 0 <= indices.min() <= indices.max() < num_vertices:
            raise ImpossibleError(f"a face names vertex {indices.max():,}, and there are {num_vertices:,}")
        if mode == TRIANGLES:
            return indices[: len(indices) // 3 * 3].reshape(-1, 3)
        corner = np.arange(max(len(indices) - 2, 0))
        if mode == FAN:
            return indices[np.stack([corner + 1, corner + 2, np.zeros_like(corner)], axis=1)]
        # Every second triangle of a strip is wound the other way.
        return indices[np.stack([corner, corner + 1 + corner % 2, corner + 2 - corner % 2], axis=1)]

    def _read(self, number: int) -> NDArray[Any]:
        """[count, columns]; floats where it is normalised, else of its own type; zeros where no byte is given."""
        accessor = pick(self.accessors, number, "accessor")
        count, columns, kind = accessor["count"], COLUMNS[accessor["type"]], accessor["componentType"]
        if "bufferView" in accessor:
            values = self._items(accessor, count, columns, kind)
        else:
            values = np.zeros((count, columns), TYPES[kind])
        if "sparse" in accessor:
            few, indices = accessor["sparse"]["count"], accessor["sparse"]["indices"]
            rows = self._items(indices, few, 1, indices["componentType"]).ravel()
            if few and rows.max() >= count:
                raise ImpossibleError(f"a sparse accessor of {count:,} items names item {rows.max():,}")
            values = values.copy()
            values[rows] = self._items(accessor["sparse"]["values"], few, columns, kind)
        return _normalised(values) if accessor.get("normalized", False) else values

    def _items(self, place: dict[str, Any], count: int, columns: int, kind: int) -> NDArray[Any]:
        """Items in a bufferView, which ``mesh_claims`` knows to hold them."""
        dtype = np.dtype(TYPES[kind])
        stride = count_of(self.views[place["bufferView"]], "byteStride", dtype.itemsize * columns)
        size = (count - 1) * stride + dtype.itemsize * columns if count else 0
        content = self.file.read_view(place["bufferView"], count_of(place, "byteOffset", 0), size)
        return np.ndarray((count, columns), dtype, content, strides=(stride, dtype.itemsize))

    def _is_compressed(self, primitive: dict[str, Any]) -> bool:
        """Whether the geometry is there in no other form."""
        position = pick(self.accessors, primitive["attributes"]["POSITION"], "accessor")
        return DRACO in primitive.get("extensions", {}) and "bufferView" not in position

    def _decompressed(self, primitive: dict[str, Any]) -> dict[str, NDArray[Any]]:
        extension = primitive["extensions"][DRACO]
        names = tuple(sorted(extension["attributes"].items()))
        count = pick(self.accessors, primitive["attributes"]["POSITION"], "accessor")["count"]
        return self._decode(extension["bufferView"], names, count)

    def _decode(self, view: int, names: tuple[tuple[str, int], ...], count: int) -> dict[str, NDArray[Any]]:
        require_draco(self.file.path)
        import DracoPy

        try:
            mesh = DracoPy.decode(self.file.read_view(view))
            values = {name: mesh.get_attribute_by_unique_id(number)["data"] for name, number in names}
            values["faces"] = np.asarray(mesh.faces, np.int64)
        except Exception as error:  # the library raises its own, and whatever its parser raises
            raise ImpossibleError(f"its {DRACO} data cannot be read ({error})") from None
        if any(len(array) != count for name, array in values.items() if name != "faces"):
            raise ImpossibleError(f"its {DRACO} data hold not the {count:,} vertices that are claimed")
        return values


def _normalised(values: NDArray[Any]) -> NDArray[Any]:
    """Integers as shares of the largest of their type."""
    if values.dtype.kind == "f":
        return values
    return np.maximum(values / np.iinfo(values.dtype).max, -1.0)
