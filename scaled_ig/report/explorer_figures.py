"""Drawings of a pack's cameras as SVG, in plain strings: frusta in space, and histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAIN, TEST, INK, SOFT, RULE = "#0072b2", "#d55e00", "#1b1f24", "#57606a", "#e4e8ec"
AXES = (("X", "#c62b2b"), ("Y", "#2a8a3a"), ("Z", "#2a55c8"))
FROM = (30.0, 24.0)  # azimuth and elevation, in degrees, from which the drawing looks at the world
SIZE = 340
CHART = (520, 190)  # width and height
FEW_CAMERAS = 200  # of a scene in a drawing


class Bar(NamedTuple):
    """A bar of a histogram: where it begins and ends, and how many training and test views it has."""

    low: float
    high: float
    train: int
    test: int


def _looking_axes() -> NDArray[np.float64]:
    """Rows: right, up and towards the reader, in the world."""
    azimuth, elevation = np.radians(FROM)
    towards = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])


def draw_frusta(
    camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], is_test: NDArray[np.bool_], radius: float
) -> str:
    """Cameras around the ball that holds the object, seen from before it, to the right and above.

    Args:
        camera_to_world: [V, 4, 4], OpenCV axes.
        intrinsics: [V, 4], divided by the image's size.
        is_test: bool [V].
        radius: of the ball.

    Returns:
        An ``svg`` element; test cameras are orange, the front is marked.
    """
    chosen = np.unique(np.linspace(0, len(is_test) - 1, min(len(is_test), FEW_CAMERAS)).astype(int))
    poses, intrinsics, is_test = camera_to_world[chosen].astype(float), intrinsics[chosen], is_test[chosen]
    reach = 1.12 * max(float(np.linalg.norm(poses[:, :3, 3], axis=1).max()), 1.8 * radius)
    view = _looking_axes() * (SIZE / 2 / reach)
    near_first = poses[:, :3, 3] @ view[2]
    frusta = [
        (depth, _frustum(pose, pinhole, view, bool(test), 0.09 * reach, depth / (SIZE / 2)))
        for depth, pose, pinhole, test in zip(near_first, poses, intrinsics, is_test, strict=True)
    ]
    frusta.sort(key=lambda item: item[0])
    behind = "".join(path for depth, path in frusta if depth < 0)
    before = "".join(path for depth, path in frusta if depth >= 0)
    lines, names = _ball(view, radius)
    half, heights = SIZE / 2, -poses[:, :3, 3] @ view[1]
    ball = 1.15 * radius * float(np.linalg.norm(view[0]))
    top, bottom = min(heights.min(), -ball) - 16, max(heights.max(), ball) + 16
    return (
        f'<svg class="frusta" viewBox="{-half:.0f} {top:.0f} {SIZE} {bottom - top:.0f}" role="img" '
        f'aria-label="cameras around the scene">{behind}{lines}{before}{names}</svg>'
    )


def _frustum(
    pose: NDArray[np.float64],
    pinhole: NDArray[np.float32],
    view: NDArray[np.float64],
    test: bool,
    size: float,
    depth: float,
) -> str:
    """A pyramid of constant height, fainter the farther it is."""
    fx, fy, cx, cy = (float(value) for value in pinhole)
    corners = np.array([[-cx / fx, -cy / fy, 1], [(1 - cx) / fx, -cy / fy, 1], [(1 - cx) / fx, (1 - cy) / fy, 1],
                        [-cx / fx, (1 - cy) / fy, 1]])  # fmt: skip
    points = np.vstack([np.zeros(3), corners * size]) @ pose[:3, :3].T + pose[:3, 3]
    apex, a, b, c, d = (f"{x:.1f} {-y:.1f}" for x, y in points @ view[:2].T)
    colour, strength = TEST if test else TRAIN, 0.62 + 0.38 * float(np.clip(depth, -1, 1))
    return (
        f'<path d="M{a}L{b}L{c}L{d}ZM{apex}L{a}M{apex}L{b}M{apex}L{c}M{apex}L{d}" stroke="{colour}" fill="{colour}" '
        f'fill-opacity="{0.16 * strength:.2f}" stroke-opacity="{strength:.2f}" stroke-width="{1.4 if test else 0.9}" '
        'stroke-linejoin="round"/>'
    )


def _ball(view: NDArray[np.float64], radius: float) -> tuple[str, str]:
    """The ball, its equator, the axes, and an arrow to the front; and their names, which nothing may cover."""
    angles = np.linspace(0, 2 * np.pi, 73)
    ring = radius * np.stack([np.cos(angles), np.sin(angles), np.zeros(73)], axis=1) @ view[:2].T
    path = "M" + "L".join(f"{x:.1f} {-y:.1f}" for x, y in ring)
    size = radius * float(np.linalg.norm(view[0]))
    x, y = -radius * view[:2, 1]
    lines = [
        f'<circle r="{size:.1f}" fill="#eef2f6" fill-opacity="0.82" stroke="#c8cdd2"/>',
        f'<path d="{path}" fill="#dfe6ec" fill-opacity="0.6" stroke="#c8cdd2" stroke-width="0.8"/>',
        f'<line x2="{x:.1f}" y2="{-y:.1f}" stroke="{INK}" stroke-width="1.6" stroke-dasharray="1 4" '
        f'stroke-linecap="round"/><circle cx="{x:.1f}" cy="{-y:.1f}" r="3" fill="{INK}"/>',
    ]
    names = [_name(-1.26 * radius * view[:2, 1], "front \N{MINUS SIGN}Y", INK)]
    for axis, (letter, colour) in enumerate(AXES):
        x, y = radius * view[:2, axis]
        lines.append(f'<line x2="{x:.1f}" y2="{-y:.1f}" stroke="{colour}" stroke-width="1.8" stroke-linecap="round"/>')
        names.append(_name(1.2 * radius * view[:2, axis], letter, colour))
    return "".join(lines), "".join(names)


def _name(place: NDArray[np.float64], text: str, colour: str) -> str:
    return f'<text x="{place[0]:.1f}" y="{4 - place[1]:.1f}" fill="{colour}" class="axis">{text}</text>'


def bars_of(values: NDArray[Any], is_test: NDArray[np.bool_], low: float, high: float, width: float) -> list[Bar]:
    """Counts of values, split into training and test views, in bars of a width from ``low`` to ``high``."""
    edges = low + width * np.arange(max(1, round((high - low) / width)) + 1)
    inside = np.clip(values, edges[0], edges[-1])
    train, test = (np.histogram(inside[chosen], edges)[0] for chosen in (~is_test, is_test))
    return [
        Bar(*bar) for bar in zip(edges[:-1].tolist(), edges[1:].tolist(), train.tolist(), test.tolist(), strict=True)
    ]


def draw_histogram(bars: Sequence[Bar], ticks: Iterable[float], title: str, unit: str = "", notes: str = "") -> str:
    """Bars of training views (blue) under test views (orange).

    Args:
        bars: from left to right.
        ticks: values that are written below.
        title: what is counted, on the left above.
        unit: written after each tick, such as a degree sign.
        notes: on the right above.

    Returns:
        An ``svg`` element.
    """
    width, height = CHART
    left, right, top, bottom = 4, 4, 28, 24
    low, high = bars[0].low, bars[-1].high
    most = max(1, *(bar.train + bar.test for bar in bars))

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = [
        f'<text x="{left}" y="14" class="name">{title}</text>',
        f'<text x="{width - right}" y="14" class="tick" text-anchor="end">{notes}</text>',
        *_bar_parts(bars, place, top, height - bottom, most),
        f'<line x1="{left}" x2="{width - right}" y1="{height - bottom}" y2="{height - bottom}" stroke="#c8cdd2"/>',
    ]
    for tick in ticks:
        if low <= tick <= high:
            anchor = "start" if tick == low else "end" if tick == high else "middle"
            text = f"{tick:g}{unit}".replace("-", "\N{MINUS SIGN}")
            parts.append(
                f'<text x="{place(tick):.1f}" y="{height - 7}" class="tick" text-anchor="{anchor}">{text}</text>'
            )
    return f'<svg class="bars" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _bar_parts(bars: Sequence[Bar], place, top: float, base: float, most: int) -> Iterator[str]:
    for bar in bars:
        x, wide = place(bar.low) + 0.75, place(bar.high) - place(bar.low) - 1.5
        y = base
        for count, colour in ((bar.train, TRAIN), (bar.test, TEST)):
            tall = count / most * (base - top)
            if tall:
                y -= tall
                yield (
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0.5):.1f}" height="{tall:.1f}" fill="{colour}">'
                    f"<title>{bar.low:g} to {bar.high:g}: {count:,}</title></rect>"
                )
