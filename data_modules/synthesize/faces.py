"""A procedural morphable head, written in the layout of the Basel Face Model.

Letters: V vertices, K modes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from data_modules.synthesize import LICENCE
from data_modules.synthesize.head import Array, neutral_head, triangles
from data_modules.synthesize.head_colours import blob, colour_modes, face_masks, mean_colours
from scaled_ig.files import replacing

Triple = tuple[float, float, float]
EVERYWHERE = (1e4, 1e4, 1e4)


class Edit(NamedTuple):
    """A change of shape around a place and its mirror image, at one standard deviation.

    Args:
        centre, reach: Gaussian region in millimetres, x >= 0.
        shift: Millimetres; +x is outwards.
        stretch: Logarithm of the scale about the centre, an axis each.
    """

    centre: Triple
    reach: Triple
    shift: Triple = (0, 0, 0)
    stretch: Triple = (0, 0, 0)


SHAPE_EDITS = {
    "width": [Edit((0, -10, 0), EVERYWHERE, stretch=(0.045, 0, 0))],
    "length": [Edit((0, -10, 0), EVERYWHERE, stretch=(0, 0.045, 0))],
    "depth": [Edit((0, -10, 0), EVERYWHERE, stretch=(0, 0, 0.035))],
    "lower face length": [Edit((0, -100, 50), (90, 45, 90), (0, -4, 0))],
    "jaw width": [Edit((52, -75, 20), (36, 34, 60), (5, 0, 0))],
    "jaw angle": [Edit((48, -72, 0), (25, 22, 35), (1.5, -5, 0))],
    "chin forward": [Edit((0, -102, 82), (28, 18, 30), (0, -1, 4.5))],
    "chin width": [Edit((0, -104, 75), (36, 18, 30), stretch=(0.16, 0, 0))],
    "cheekbones": [Edit((48, -26, 58), (20, 18, 30), (3.5, 0, 2.5))],
    "cheek fullness": [Edit((40, -58, 55), (22, 24, 30), (4, 0, 3))],
    "brow ridge": [Edit((24, 18, 82), (34, 9, 20), (0, -0.7, 3))],
    "forehead": [Edit((0, 60, 75), (60, 32, 40), (0, 0, 5))],
    "crown": [Edit((0, 115, -15), (80, 40, 90), (0, 6, 0))],
    "eye distance": [Edit((31, 0, 80), (17, 14, 30), (2, 0, 0))],
    "eye size": [Edit((31, -1, 82), (16, 9, 25), stretch=(0.06, 0.14, 0))],
    "eye depth": [Edit((31, -1, 80), (17, 12, 30), (0, 0, 2))],
    "eye slant": [Edit((46, -1, 72), (9, 9, 25), (0, 1.8, 0))],
    "brow height": [Edit((28, 16, 82), (26, 8, 25), (0, 2.2, 0))],
    "nose length": [Edit((0, -47, 100), (20, 15, 35), (0, -3.2, 0))],
    "nose forward": [Edit((0, -43, 108), (13, 20, 22), (0, 0, 4))],
    "nose width": [Edit((0, -47, 95), (22, 12, 22), stretch=(0.17, 0, 0))],
    "nose bridge": [Edit((0, -14, 92), (10, 17, 20), (0, 0, 3.5))],
    "mouth width": [Edit((0, -73, 90), (36, 13, 30), stretch=(0.10, 0, 0))],
    "lips": [Edit((0, -73, 95), (26, 10, 15), (0, 0, 1.4), (0, 0.20, 0))],
    "mouth height": [Edit((0, -73, 90), (36, 14, 30), (0, 2.2, 0))],
    "ears": [Edit((80, -16, -14), (14, 34, 24), (4, 0, 0), (0, 0.08, 0))],
    "neck": [Edit((0, -150, -25), (90, 45, 90), stretch=(0.08, 0, 0.06))],
}
EXPRESSION_EDITS = {
    "smile": [
        Edit((25, -73, 84), (12, 9, 25), (4, 4, -2)),
        Edit((36, -48, 70), (15, 13, 25), (1.5, 2.5, 2.5)),
    ],
    "jaw": [Edit((0, -100, 75), (55, 21, 70), (0, -4, -1))],
    "pucker": [Edit((0, -73, 92), (28, 12, 25), (0, 0, 3), (-0.14, 0.05, 0))],
    "brows": [Edit((26, 18, 80), (28, 10, 30), (0, 3, 0.5))],
}


def apply_edits(points: Array, edits: list[Edit], amount: float) -> Array:
    """Points [V, 3] after `amount` standard deviations of a feature, left and right alike."""
    moved = points.copy()
    for centre, reach, shift, stretch in edits:
        side = np.tanh(moved[:, :1] / 4.0)  # without it a shift in x would tear the head open at its middle
        folded = np.concatenate([np.abs(moved[:, :1]), moved[:, 1:]], -1)
        offset = amount * np.array(shift) + np.expm1(amount * np.array(stretch)) * (folded - centre)
        offset *= blob(moved, centre, reach)[:, None]
        offset[:, :1] *= side
        moved += offset
    return moved


def shape_modes(points: Array, features: dict[str, list[Edit]]) -> Array:
    """[K, V, 3] changes of the head along its features, by central differences at one standard deviation."""
    pairs = [(apply_edits(points, edits, 1.0), apply_edits(points, edits, -1.0)) for edits in features.values()]
    return np.stack([0.5 * (more - less) for more, less in pairs])


def principal_components(modes: Array) -> tuple[Array, Array]:
    """Turn independent modes into PCA form; the distribution of sums with N(0, 1) coefficients stays the same.

    Args:
        modes: [K, V, 3], one standard deviation each.

    Returns:
        Orthonormal basis [3V, K] and variances [K], falling.
    """
    basis, deviation, _ = np.linalg.svd(modes.reshape(len(modes), -1).T, full_matrices=False)
    # The SVD leaves signs open: make the largest entry of each column positive.
    basis *= np.sign(basis[np.abs(basis).argmax(0), np.arange(len(modes))])
    return basis, deviation**2


def write_face_model(path: Path) -> tuple[int, int]:
    """Write the model; an interruption leaves no file of this name.

    Returns:
        Number of vertices and of triangles.
    """
    points, cells = neutral_head(), triangles()
    masks = face_masks(points)
    parts = {
        "shape": (points, shape_modes(points, SHAPE_EDITS)),
        "color": (mean_colours(points, masks), colour_modes(masks)),
        "expression": (np.zeros_like(points), shape_modes(points, EXPRESSION_EDITS)),
    }
    with replacing(path) as draft, h5py.File(draft, "w") as file:
        for name, (mean, modes) in parts.items():
            basis, variance = principal_components(modes)
            model = file.create_group(f"{name}/model")
            model["mean"] = mean.reshape(-1).astype(np.float32)
            model["pcaBasis"] = basis.astype(np.float32)
            model["pcaVariance"] = variance.astype(np.float32)
            model["noiseVariance"] = np.float32(0.0)
            representer = file.create_group(f"{name}/representer")
            representer["points"] = points.T.astype(np.float32)
            representer["cells"] = cells.T.astype(np.int32)
        file.attrs["license"] = LICENCE
        file["version/majorVersion"], file["version/minorVersion"] = np.int32(0), np.int32(9)
    return len(points), len(cells)
