"""Polygons to triangles, whatever their shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-9  # of a polygon's area, by which a triangle of it may point backwards


def triangulate(
    vertices: NDArray[np.float64], corners: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts polygons into triangles: a fan from the first corner where that covers the polygon, else by clipping ears.

    Polygons that are not flat are judged in the plane of their mean normal.

    Args:
        vertices: [V, 3].
        corners: [C], rows of ``vertices``, the corners of all polygons one after another.
        lengths: [P], corners of each polygon; those with fewer than three give no triangle.

    Returns:
        [T, 3], places in ``corners``, in the order of the polygons; and [T], the polygon of each triangle.
    """
    firsts = np.cumsum(lengths) - lengths
    triangles, polygons = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for length in np.unique(lengths[lengths >= 3]).tolist():
        number = np.flatnonzero(lengths == length)
        places = firsts[number, None] + np.arange(length)
        if length > 3:
            points = vertices[corners[places]]
            bent = _bent(points)
            if length == 4:  # the other diagonal
                places[bent] = np.roll(places[bent], -1, axis=1)
            else:
                for row in np.flatnonzero(bent):
                    ears = places[row][_clip_ears(points[row])]
                    triangles.append(ears)
                    polygons.append(np.full(len(ears), number[row]))
                number, places = number[~bent], places[~bent]
        fan = np.stack([np.zeros(length - 2, np.int64), np.arange(1, length - 1), np.arange(2, length)], axis=1)
        triangles.append(places[:, fan].reshape(-1, 3))
        polygons.append(np.repeat(number, length - 2))
    polygon = np.concatenate(polygons)
    order = np.argsort(polygon, kind="stable")
    return np.concatenate(triangles)[order], polygon[order]


def _areas(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the area of each triangle of fans [P, n, 3] as vectors, [P, n - 2, 3]; their sum is the mean normal."""
    spokes = points[:, 1:] - points[:, :1]
    return np.cross(spokes[:, :-1], spokes[:, 1:])


def _bent(points: NDArray[np.float64]) -> NDArray[Any]:
    """Which of the polygons [P, n, 3] a fan from the first corner would leave, bool [P]."""
    with np.errstate(over="ignore", invalid="ignore"):
        areas = _areas(points)
        normal = areas.sum(axis=1)
        along = np.einsum("ptc,pc->pt", areas, normal)
        bent = np.asarray((along < -SLACK * (normal**2).sum(axis=1, keepdims=True)).any(axis=1))
    return bent & np.isfinite(points).all(axis=(1, 2))


def _clip_ears(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Triangles [t, 3] of a polygon [n, 3], seen along its mean normal."""
    from mapbox_earcut import triangulate_float64

    normal = _areas(points[None]).sum(axis=1)[0]
    flat = np.delete(points - points[0], np.abs(normal).argmax(), axis=1)
    ears = triangulate_float64(np.ascontiguousarray(flat), np.array([len(points)], np.uint32))
    return ears.reshape(-1, 3).astype(np.int64)
