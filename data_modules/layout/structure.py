"""Whether the datasets of an HDF5 file, whoever wrote it, are what they should be, found without reading values."""

from collections.abc import Iterator

import h5py
import numpy as np

GZIP_RATIO = 1100  # deflate packs at most 1032 bytes into one


def link_faults(file: h5py.File) -> Iterator[str]:
    """Names at the top and in the group ``scene`` that lead somewhere else, perhaps out of the file."""
    outside = [name for name in file if _is_link(file, name)]
    if "scene" not in outside and isinstance(scene := file.get("scene"), h5py.Group):
        outside += [f"scene/{name}" for name in scene if _is_link(scene, name)]
    if outside:
        yield f"{', '.join(outside[:3])} is no dataset of the file but a link to something else"


def _is_link(group: h5py.Group, name: str) -> bool:
    return bool(group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD)


def dataset_faults(
    file: h5py.File, name: str, dtype: str, shape: tuple[int | None, ...], asked_by: str
) -> Iterator[str]:
    """What is wrong with a dataset before a value of it is read.

    Args:
        file: whose links were looked at.
        name: of the dataset.
        dtype: its type; ``S`` stands for strings of fixed length.
        shape: its shape; None is any length.
        asked_by: where the shape comes from, for the message.
    """
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        yield f"has no dataset {name}"
        return
    actual_type, size = dataset.dtype, dataset.shape
    plan = dataset.id.get_create_plist()  # once: h5py asks for it anew for every property
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        yield f"its dataset {name} keeps its values in other files"
    elif (actual_type.kind if dtype == "S" else actual_type) != dtype:
        yield f"its dataset {name} is of type {actual_type} instead of {'fixed-length text' if dtype == 'S' else dtype}"
    elif size is None or len(size) != len(shape) or any(b not in (None, a) for a, b in zip(size, shape, strict=True)):
        expected = str(shape).replace("None", "any")
        yield f"its dataset {name} has shape {size} instead of {expected}, which {asked_by} asks for"


def claim_faults(file: h5py.File, name: str, file_bytes: int) -> Iterator[str]:
    """Whether a dataset that was found to be one claims more than a file of so many bytes can hold."""
    dataset = file[name]
    size, chunk = dataset.size * dataset.dtype.itemsize, dataset.chunks or ()
    if size > file_bytes * GZIP_RATIO or np.prod(chunk, dtype=float) > max(1, dataset.size):
        yield f"its dataset {name} claims {size:,} bytes, more than a file of {file_bytes:,} bytes can hold"
