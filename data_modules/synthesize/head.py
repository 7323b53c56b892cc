"""A neutral head, defined by a signed distance and sampled on a grid of directions; millimetres.

Axes: +x towards the subject's left, +y up, +z out of the face; y = 0 is the line of the eyes. Features are given once,
for x > 0, and mirrored.

Letters: N points, V vertices, T triangles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COLUMNS, ROWS = 128, 94
CENTRE = np.array([0.0, -25.0, 0.0])  # every point of the head is seen from here
NECK_CUT = -150.0
EYE = np.array([31.0, -1.0, 72.0])

# (centre, radii, blend): ellipsoids joined one after the other; `blend` is the width of the fillet.
SOLIDS: tuple[tuple[tuple[float, float, float], tuple[float, float, float], float], ...] = (
    ((0, 28, -14), (75, 84, 98), 0),  # cranium
    ((0, -34, 16), (63, 76, 70), 24),  # face
    ((0, -76, 26), (47, 36, 50), 20),  # jaw
    ((44, -66, 2), (14, 26, 26), 20),  # angle of the jaw
    ((0, -100, 71), (25, 13, 18), 18),  # chin
    ((42, -27, 53), (23, 20, 21), 22),  # cheekbone
    ((28, -58, 58), (22, 22, 22), 18),  # cheek
    ((22, 20, 70), (27, 9, 12), 16),  # brow ridge
    ((0, -70, 76), (29, 20, 17), 14),  # dental arch
    ((0, -6, 80), (8, 22, 15), 12),  # bridge of the nose
    ((0, -26, 91), (8, 22, 13), 11),
    ((0, -43, 101), (9.8, 10, 11), 8),  # tip
    ((11.5, -47.5, 91), (6.8, 6.5, 9), 8),  # wing
    ((7, -68, 89), (14, 4.6, 6), 4),  # upper lip
    ((0, -79, 88), (17, 5.6, 7), 4),  # lower lip
)
NECK_RADII = (46.0, 53.0)

# (azimuth in degrees from the front, height): hair grows above.
HAIRLINE = (
    (0, 70), (25, 69), (45, 55), (56, 26), (64, -8), (76, -16), (84, 22), (104, 22), (118, -30), (150, -58), (180, -62),
)  # fmt: skip


def ellipsoid(points: Array, centre: Array, radii: Array) -> Array:
    """Approximate signed distance [N] to an ellipsoid, exact to first order at its surface."""
    scaled = (points - centre) / radii
    length = np.linalg.norm(scaled, axis=-1)
    return length * (length - 1.0) / np.maximum(np.linalg.norm(scaled / radii, axis=-1), 1e-9)


def smooth_union(first: Array, second: Array, blend: float) -> Array:
    if blend == 0:
        return np.minimum(first, second)
    overlap = np.clip(1.0 - np.abs(first - second) / blend, 0.0, 1.0)
    return np.minimum(first, second) - 0.25 * blend * overlap**2


def eye_opening(points: Array) -> Array:
    """[N] positive between the lids, in millimetres from the nearer lid; defined on the front of the head."""
    across = np.abs(points[:, 0]) - EYE[0]
    arch = np.clip(1.0 - (across / 15.0) ** 2, 0.0, 1.0)
    height = points[:, 1] - EYE[1] - 0.06 * across
    opening = np.minimum(6.6 * arch - height, height + 5.2 * arch)
    return np.where((points[:, 2] > 30) & (np.abs(across) < 15.0), opening, -10.0)


def head_distance(points: Array) -> Array:
    """Signed distance [N] of points [N, 3] to the head without hair."""
    mirrored = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], -1)
    distance = np.full(len(points), np.inf)
    for centre, radii, blend in SOLIDS:
        distance = smooth_union(distance, ellipsoid(mirrored, np.array(centre), np.array(radii)), blend)
    # Eye sockets are carved out, then filled by the ball and, outside the opening, by the lids over it.
    socket = ellipsoid(mirrored, np.array([30.0, -1.0, 92.0]), np.array([19.0, 12.0, 17.0]))
    distance = -smooth_union(-distance, socket, 9.0)
    lid = 1.6 * np.clip(0.5 - eye_opening(points), 0.0, 1.0)
    ball = np.linalg.norm(mirrored - EYE, axis=-1) - 12.6 - lid
    distance = smooth_union(distance, ball, 2.0)

    neck = ellipsoid(mirrored[:, [0, 2]], np.array([0.0, -26.0]), np.array(NECK_RADII))
    distance = smooth_union(distance, np.maximum(neck, mirrored[:, 1] + 40.0), 22.0)
    ear = ellipsoid(mirrored, np.array([73.0, -14.0, -14.0]), np.array([11.0, 31.0, 17.0]))
    distance = smooth_union(distance, ear, 8.0)
    concha = ellipsoid(mirrored, np.array([87.0, -14.0, -10.0]), np.array([8.0, 17.0, 9.0]))
    distance = -smooth_union(-distance, concha, 4.0)
    nostril = ellipsoid(mirrored, np.array([5.5, -53.0, 97.0]), np.array([3.2, 2.6, 4.5]))
    distance = -smooth_union(-distance, nostril, 2.0)
    mouth = ellipsoid(mirrored, np.array([0.0, -73.2, 96.0]), np.array([25.0, 1.1, 9.0]))
    distance = -smooth_union(-distance, mouth, 2.5)
    return np.maximum(distance, NECK_CUT - points[:, 1])


def warped_angles(count: int, low: float, high: float, *foci: tuple[float, float, float]) -> Array:
    """[count + 1] angles from low to high; a focus (angle, spread, gain) packs them `1 + gain` times as densely."""
    fine = np.linspace(low, high, 4001)
    density = np.ones_like(fine)
    for angle, spread, gain in foci:
        density += gain * np.exp(-(((fine - angle) / spread) ** 4))
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(np.linspace(0.0, total[-1], count + 1), total, fine)


def directions() -> Array:
    """[V, 3] unit directions: the crown, ROWS rings of COLUMNS from top to bottom, the middle of the neck's cut."""
    half = warped_angles(COLUMNS // 2, 0.0, np.pi, (0.0, 0.8, 4.0), (1.72, 0.25, 1.5))
    azimuth = np.concatenate([half, -half[-2:0:-1]])
    elevation = warped_angles(ROWS + 1, -np.pi / 2, np.pi / 2, (-0.12, 0.55, 3.0))[-2:0:-1, None]
    level = np.cos(elevation)
    rings = np.stack(np.broadcast_arrays(level * np.sin(azimuth), np.sin(elevation), level * np.cos(azimuth)), -1)
    return np.concatenate([[[0.0, 1.0, 0.0]], rings.reshape(-1, 3), [[0.0, -1.0, 0.0]]])


def triangles() -> NDArray[np.int32]:
    """[T, 3] triangles of the grid of `directions`, counter-clockwise seen from outside."""
    ring = 1 + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    right = np.roll(ring, -1, axis=1)
    upper, lower, upper_right, lower_right = ring[:-1], ring[1:], right[:-1], right[1:]
    last = 1 + ROWS * COLUMNS
    faces = [
        np.stack([upper, lower, lower_right], -1),
        np.stack([upper, lower_right, upper_right], -1),
        np.stack([np.zeros_like(ring[:1]), ring[:1], right[:1]], -1),
        np.stack([np.full_like(ring[:1], last), right[-1:], ring[-1:]], -1),
    ]
    return np.concatenate([face.reshape(-1, 3) for face in faces]).astype(np.int32)


def neutral_head() -> Array:
    """[V, 3] vertices of the neutral head with cropped hair."""
    rays = directions()
    radius = np.full(len(rays), 200.0)
    for _ in range(90):
        radius -= 0.7 * head_distance(CENTRE + radius[:, None] * rays)
    skin = CENTRE + radius[:, None] * rays
    # The lowest ring above the cut goes onto its rim, which would be jagged otherwise.
    rings = skin[1:-1].reshape(ROWS, COLUMNS, 3)
    rim = (rings[..., 1] > NECK_CUT + 0.01).sum(0) - 1
    rings[rim, np.arange(COLUMNS), 1] = NECK_CUT
    return skin + 8.0 * hair_cover(skin)[:, None] * rays


def band(value: Array, width: float) -> Array:
    """A soft step: 0 below -width, 1 above width."""
    step = np.clip(0.5 + 0.5 * value / width, 0.0, 1.0)
    return step * step * (3.0 - 2.0 * step)


def hair_cover(points: Array) -> Array:
    """[N] 1 where hair grows: above the hairline, which falls from the forehead past the ears to the nape."""
    azimuth = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] + 10.0))
    line = np.interp(azimuth, *np.transpose(HAIRLINE))
    return band(points[:, 1] - line, 7.0)
