"""A pack's page in plain strings: cameras as SVG, frusta in space and histograms, and the HTML around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape as _escape
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


STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --faint: #8a929b; --rule: #e4e8ec; --wash: #f6f8fa; --accent: #0072b2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 38px; line-height: 1.15; letter-spacing: -0.022em; font-weight: 680; margin: 0 0 14px; }
h2 { font-size: 23px; letter-spacing: -0.012em; font-weight: 650; margin: 72px 0 8px; }
h3 { font-size: 15px; font-weight: 650; margin: 32px 0 8px; }
p { margin: 0 0 12px; max-width: 780px; }
.lead { font-size: 18px; color: var(--soft); }
.eyebrow { font-size: 13px; color: var(--faint); margin: 0 0 10px; letter-spacing: 0.02em; }
.note, figcaption, caption { font-size: 13.5px; line-height: 1.5; color: var(--soft); }
figure { margin: 18px 0 0; }
figcaption { margin-top: 10px; max-width: 780px; }
figure img.chart, video { display: block; width: 100%; height: auto; }
video { border: 1px solid var(--rule); border-radius: 8px; }
pre { background: var(--wash); border-radius: 8px; padding: 12px 16px; margin: 18px 0 0; overflow-x: auto;
  font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin: 32px 0 0; }
.tile { border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px 14px; }
.tile b { display: block; font-size: 30px; font-weight: 660; letter-spacing: -0.02em; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.tile b small { font-size: 16px; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.tile span { display: block; font-size: 13.5px; line-height: 1.4; color: var(--soft); margin-top: 4px; }
.scroll { overflow-x: auto; margin-top: 16px; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; }
caption { caption-side: bottom; text-align: left; padding-top: 10px; }
caption span { display: block; max-width: 780px; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th.word, td.word { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 550; font-size: 13px; color: var(--soft); vertical-align: bottom; white-space: normal;
  border-bottom-color: #c8cdd2; }
tbody td { font-variant-numeric: tabular-nums; }
tr.strong td { font-weight: 640; }
td.none { color: var(--faint); }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 0 56px; align-items: start; }
.views { display: grid; gap: 6px 6px; margin-top: 14px; }
.views .head { font-size: 13px; color: var(--soft); padding-bottom: 2px; }
.views .name { grid-column: 1 / -1; font-size: 13px; color: var(--soft); margin: 2px 0 8px; display: flex; gap: 14px;
  font-variant-numeric: tabular-nums; }
.views .name b { color: var(--ink); font-weight: 620; }
.views img { display: block; width: 100%; aspect-ratio: 1; border-radius: 4px; outline: 1px solid #eef1f4; }
img.pixels { image-rendering: pixelated; }
@media (max-width: 760px) { .tiles, .columns { grid-template-columns: 1fr 1fr; } h1 { font-size: 30px; } }
"""


DASH, MINUS, TIMES, APOSTROPHE = (
    "\N{EN DASH}",
    "\N{MINUS SIGN}",
    "\N{MULTIPLICATION SIGN}",
    "\N{RIGHT SINGLE QUOTATION MARK}",
)


def escape(text: str) -> str:
    """Text for the page, with the apostrophe of print."""
    return _escape(text.replace("'", APOSTROPHE))


def html_page(title: str, parts: Iterable[str]) -> str:
    """The whole page."""
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A titled part of the page; nothing where it has no content."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; nothing where there is no text."""
    return f"<p{_kind(kind)}>{escape(text)}</p>" if text else ""


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Large numbers: (number, unit, what it is)."""
    cells = "".join(
        f'<div class="tile"><b>{escape(number)} <small>{escape(unit)}</small></b><span>{escape(text)}</span></div>'
        for number, unit, text in items
    )
    return f'<div class="tiles">{cells}</div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", strong: Iterable[int] = (), words: int = 1
) -> str:
    """A table of numbers.

    Args:
        head: Titles of the columns.
        rows: Cells.
        caption: What one sees.
        strong: Rows that stand out.
        words: So many columns hold words, which are aligned on the left.
    """
    strong = set(strong)
    header = "".join(_cell(cell, "th", column < words) for column, cell in enumerate(head))
    body = "\n".join(
        f"<tr{_kind('strong' if place in strong else '')}>"
        + "".join(_cell(cell, "td", column < words) for column, cell in enumerate(row))
        + "</tr>"
        for place, row in enumerate(rows)
    )
    below = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{below}<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _cell(text: str, tag: str, is_word: bool) -> str:
    kind = "word" if is_word else "none" if text in (DASH, "not on this machine") else ""
    return f"<{tag}{_kind(kind)}>{escape(text)}</{tag}>"


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""
