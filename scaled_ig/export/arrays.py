"""Planes of scenes, and all that reads them, in one file of arrays: NPZ for numpy, or safetensors."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.export.contents import Contents, Part
from scaled_ig.files import replacing

_DTYPES = {"<f4": "F32", "|u1": "U8"}  # as safetensors names them


def write_npz(bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object]) -> str:
    """Write one file for ``numpy.load``. A scene at a time is in memory; reading it takes all planes at once.

    Raises:
        UsageError: The name of the file ends otherwise, or the scenes have no planes.
    """
    _require_ending(out, ".npz")
    contents = Contents(bank, ids, progress)
    parts = contents.parts() + [_texts(name, values) for name, values in _names(contents).items()]
    parts.append(_texts("about", json.dumps(contents.about())))
    with replacing(out) as draft, zipfile.ZipFile(draft, "w") as file:
        for part in parts:
            entry = zipfile.ZipInfo(f"{part.name}.npy")  # without a time: the same scenes are the same bytes
            with file.open(entry, "w", force_zip64=True) as stream:
                header = {"descr": part.dtype, "fortran_order": False, "shape": part.shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for piece in part.pieces():
                    stream.write(piece.tobytes())
    return f"{out}: {_described(contents)}"


def write_safetensors(bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object]) -> str:
    """Write one safetensors file, of which scenes can be read one by one. A scene at a time is in memory.

    Raises:
        UsageError: The name of the file ends otherwise, or the scenes have no planes.
    """
    _require_ending(out, ".safetensors")
    contents = Contents(bank, ids, progress)
    parts, end = contents.parts(), 0
    texts = {**_names(contents), "about": contents.about()}
    header: dict[str, Any] = {"__metadata__": {name: json.dumps(value) for name, value in texts.items()}}
    for part in parts:
        begin, end = end, end + math.prod(part.shape) * np.dtype(part.dtype).itemsize
        header[part.name] = {"dtype": _DTYPES[part.dtype], "shape": part.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(out) as draft, draft.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            for piece in part.pieces():
                stream.write(piece.tobytes())
    return f"{out}: {_described(contents)}"


def _names(contents: Contents) -> dict[str, list[str]]:
    records = contents.records
    return {
        "ids": [record.id for record in records],
        "categories": [record.category for record in records],
        "licences": [record.licence for record in records],
    }


def _texts(name: str, values: list[str] | str) -> Part:
    array = np.array(values, dtype=str)
    return Part(name, array.dtype.newbyteorder("<").str, array.shape, lambda: iter([array]))


def _described(contents: Contents) -> str:
    shape = " × ".join(map(str, (len(contents.records), *contents.plane_shape)))
    return f"planes {shape} of version {contents.records[0].version}, and what reads them"


def _require_ending(out: Path, ending: str) -> None:
    if out.suffix.lower() != ending or out.is_dir():
        raise UsageError(f"--out {out} becomes one file: let its name end with {ending}")
