"""Surfaces and points as binary PLY files, which MeshLab, CloudCompare, Open3D and Blender open.

Letters: V vertices, F faces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLACES, NORMALS, COLOURS = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")


def ply(
    vertices: NDArray[np.float32],
    normals: NDArray[np.float32],
    colours: NDArray[np.float32],
    faces: NDArray[np.int32] | None = None,
    comments: tuple[str, ...] = (),
) -> bytes:
    """Content of a ``.ply`` file, in the axes of what is given.

    Args:
        vertices: [V, 3].
        normals: [V, 3].
        colours: [V, 3] in [0, 1], sRGB, kept as bytes.
        faces: [F, 3], or None for points alone.
        comments: Lines of the header.
    """
    floats = [(name, "<f4") for name in (*PLACES, *NORMALS)]
    rows = np.zeros(len(vertices), [*floats, *((name, "u1") for name in COLOURS)])
    for names, values in ((PLACES, vertices), (NORMALS, normals), (COLOURS, np.round(colours * 255))):
        for name, column in zip(names, values.T, strict=True):
            rows[name] = column
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    header += [f"element vertex {len(rows)}", *(f"property float {name}" for name, _ in floats)]
    header += [f"property uchar {name}" for name in COLOURS]
    corners = b""
    if faces is not None:
        triangles = np.zeros(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
        triangles["count"], triangles["corners"] = 3, faces
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        corners = triangles.tobytes()
    return ("\n".join([*header, "end_header"]) + "\n").encode("ascii", "replace") + rows.tobytes() + corners
