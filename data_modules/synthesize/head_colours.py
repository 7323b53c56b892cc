"""Where the parts of the face are, as soft masks on the neutral head, and the colours that they take.

Letters: N vertices, K modes of colour.
"""

from __future__ import annotations

import numpy as np

from data_modules.synthesize.head import EYE, Array, band, eye_opening, hair_cover

SKIN, HAIR, LIP = (0.83, 0.64, 0.53), (0.30, 0.21, 0.15), (0.70, 0.38, 0.35)
SCLERA, IRIS, PUPIL, SHADOW = (0.93, 0.92, 0.90), (0.34, 0.27, 0.20), (0.05, 0.04, 0.04), (0.26, 0.13, 0.10)


def blob(points: Array, centre: tuple[float, float, float], reach: tuple[float, float, float]) -> Array:
    """[N] a Gaussian about a place and its mirror image."""
    folded = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], -1)
    return np.exp(-(((folded - centre) / reach) ** 2).sum(-1))


def face_masks(points: Array) -> dict[str, Array]:
    """[N] masks in 0..1 of the neutral head's vertices [N, 3]."""
    x, y, front = np.abs(points[:, 0]), points[:, 1], points[:, 2] > 30
    opening = eye_opening(points)
    iris = np.hypot(x - EYE[0], y - EYE[1] - 0.3)
    eye = band(opening, 0.8)
    reach = np.clip(1.0 - (x / 25.5) ** 2, 0.0, 1.0)
    upper = -73.2 + 8.0 * reach**0.8 - 1.8 * np.exp(-((x / 4.0) ** 2))
    lower = -73.2 - 11.0 * reach
    y_lip = y - 1.6 * (x / 25.0) ** 2
    along = np.clip((x - 13.0) / 36.0, 0.0, 1.0)
    brow = 1.2 + 2.8 * (1.0 - along) ** 0.7 - np.abs(y - (16.0 + 4.5 * np.sin(2.4 * along)))
    beard = blob(points, (16, -92, 75), (34, 26, 40)) + 0.8 * blob(points, (48, -70, 30), (26, 34, 34))
    beard += 0.7 * blob(points, (8, -61, 92), (18, 5, 20))
    lips = band(np.minimum(upper - y_lip, y_lip - lower), 1.4) * (x < 25.5) * front
    return {
        "hair": hair_cover(points),
        "brow": band(brow, 1.2) * (x > 12.0) * (x < 50.0) * front,
        "lips": lips,
        "mouth": np.exp(-(((y_lip + 73.4) / 1.3) ** 2)) * (x < 26) * front,
        "eye": eye,
        "iris": eye * band(6.0 - iris, 0.9),
        "pupil": eye * band(2.6 - iris, 0.9),
        "lash": band(opening + 2.2, 0.9) * (1.0 - eye) * np.where(y > EYE[1], 1.0, 0.35) * front,
        "socket": blob(points, (29, 4, 76), (20, 9, 30)) + 0.6 * blob(points, (27, -10, 76), (14, 5, 30)),
        "blush": blob(points, (38, -35, 70), (20, 16, 40)) + 0.7 * blob(points, (0, -45, 110), (14, 10, 18)),
        "ear": blob(points, (80, -14, -10), (16, 30, 18)),
        "nostril": blob(points, (6.0, -53.5, 99), (4.5, 2.6, 12)),
        "beard": np.clip(beard, 0.0, 1.0) * (1.0 - lips) * (y < -52),
        "neck": band(-112.0 - y, 14.0),
    }


def layer(base: Array, mask: Array, colour: tuple[float, float, float]) -> Array:
    return base + mask[:, None] * (np.array(colour) - base)


def mean_colours(points: Array, masks: dict[str, Array]) -> Array:
    """[N, 3] sRGB display colours of the neutral head, 0..1."""
    colours = np.tile(np.array(SKIN), (len(points), 1))
    colours = layer(colours, 0.22 * masks["blush"], (0.82, 0.42, 0.36))
    colours = layer(colours, 0.25 * np.clip(masks["socket"], 0, 1), (0.55, 0.34, 0.28))
    colours = layer(colours, 0.25 * masks["ear"], (0.80, 0.42, 0.36))
    colours = layer(colours, 0.20 * masks["neck"], (0.55, 0.36, 0.28))
    colours = layer(colours, 0.12 * masks["beard"], (0.38, 0.33, 0.32))
    colours = layer(colours, 0.85 * masks["lips"], LIP)
    colours = layer(colours, 0.75 * masks["mouth"], SHADOW)
    colours = layer(colours, 0.85 * masks["nostril"], SHADOW)
    colours = layer(colours, 0.85 * masks["brow"], (0.22, 0.15, 0.11))
    # Strands: a fixed pattern of light and dark, so that hair does not look like a cap.
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    strands = 1.0 + 0.12 * np.sin(x / 2.2 + y / 11.0) * np.sin(z / 8.0 + y / 6.0)
    colours += masks["hair"][:, None] * (np.array(HAIR) * strands[:, None] - colours)
    colours = layer(colours, 0.85 * masks["lash"], (0.16, 0.10, 0.08))
    colours = layer(colours, masks["eye"], SCLERA)
    colours = layer(colours, masks["iris"], IRIS)
    return layer(colours, masks["pupil"], PUPIL)


def colour_modes(masks: dict[str, Array]) -> Array:
    """[K, N, 3] changes of colour at one standard deviation each, not yet orthogonal."""
    skin = 1.0 - np.maximum.reduce([masks["hair"], masks["eye"], masks["brow"], masks["mouth"]])
    hair = np.maximum(masks["hair"], 0.6 * masks["brow"])
    iris = masks["iris"] - masks["pupil"]
    modes: list[tuple[Array, tuple[float, float, float]]] = [
        (skin, (0.088, 0.108, 0.110)),  # light or dark skin
        (skin, (0.006, 0.0, -0.016)),  # warm or cool
        (skin, (0.011, -0.009, -0.006)),  # ruddy
        (np.clip(masks["blush"], 0, 1), (0.010, -0.024, -0.018)),
        (masks["lips"], (0.015, -0.05, -0.035)),  # red lips
        (masks["lips"], (-0.05, -0.04, -0.04)),  # dark lips
        (hair, (0.11, 0.085, 0.06)),  # dark or fair hair
        (hair, (0.035, 0.0, -0.014)),  # red hair
        (masks["brow"], (-0.08, -0.06, -0.05)),
        (masks["beard"], (-0.055, -0.047, -0.04)),  # beard's shadow
        (np.clip(masks["socket"], 0, 1), (-0.045, -0.04, -0.03)),
        (iris, (0.02, 0.08, 0.14)),  # brown or blue eyes
        (skin * masks["neck"], (-0.03, -0.03, -0.03)),
    ]
    return np.stack([mask[:, None] * np.array(colour) for mask, colour in modes])
