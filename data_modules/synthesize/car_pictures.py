"""What is painted on a car's shell and wheels: glass, lamps, shut lines and markings."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image

from data_modules.synthesize.car_body import CarBody, picture_frames
from data_modules.synthesize.mesh_builder import Array
from data_modules.synthesize.paint import (
    BLACK,
    DARK,
    GLASS,
    INDICATOR,
    LAMP,
    RUBBER,
    TAIL_LAMP,
    WHITE,
    Canvas,
    Colour,
    Livery,
    shade,
)  # fmt: skip

PIXELS_LONG = 512
BED_LINER = (52, 53, 56)
UPRIGHT_LAMPS = ("hatchback", "estate", "suv", "jeep", "pickup", "van", "bus")


def paint_body(body: CarBody, livery: Livery) -> dict[str, Image.Image]:
    """Pictures `side`, `top`, `front` and `rear` for the shell's parts."""
    frames = picture_frames(body)
    scale = PIXELS_LONG / (frames["side"][1][0] - frames["side"][0][0])
    canvases = {name: Canvas(frame, livery.paint, scale) for name, frame in frames.items()}
    paint_side(canvases["side"], body, livery)
    paint_top(canvases["top"], body, livery)
    paint_front(canvases["front"], body, livery)
    paint_rear(canvases["rear"], body, livery)
    return {name: canvas.finish(grounded=name != "top") for name, canvas in canvases.items()}


def side_glass(body: CarBody) -> tuple[Array, Array, Array]:
    """The side windows' outline: places x [P], lower and upper heights [P], where there is room for glass."""
    design = body.design
    x = np.linspace(design.cowl[0], design.deck_start[0] - 0.05, 240)
    roof_rail = np.interp(x, body.x, body.top) - 0.6 * design.corner - 0.02
    # An A-pillar keeps its width across a steep windscreen because the roof rail is eroded along x as well.
    steps = np.arange(-0.07, 0.071, 0.02)
    upper = np.min([np.interp(x + step, x, roof_rail) for step in steps], axis=0)
    lower = np.interp(x, body.x, body.belt) + 0.025
    room = upper - lower > 0.05
    return x[room], lower[room], upper[room]


def paint_side(canvas: Canvas, body: CarBody, livery: Livery) -> None:
    design = body.design
    paint_markings(canvas, body, livery)
    nose, tail = -0.3, design.length + 0.3
    sill = design.clearance + (0.16 if livery.trim == DARK else 0.09)
    canvas.polygon([(nose, 0), (tail, 0), (tail, sill), (nose, sill)], shade(livery.trim, 0.8))
    for axle in design.axles:
        lip = 0.055 if livery.trim == DARK else 0.018
        radius = 2 * (design.arch_radius + lip)
        canvas.box(axle, design.wheel_radius, radius, radius, shade(livery.trim, 0.62), 0.5)
    if livery.style_code[2] < 0.3:
        belt_line = [(nose, 0.58 * body.belt[0]), (tail, 0.58 * body.belt[-1])]
        canvas.line(belt_line, shade(livery.trim, 0.7), 0.045)
    crease = 0.86 * np.interp([0.0, design.length], body.x, body.belt)
    canvas.line([(nose, crease[0]), (tail, crease[1])], shade(livery.paint, 0.86), 0.02)
    paint_windows(canvas, body, livery)
    low, high = lamp_heights(body)
    if not has_round_lamps(body, livery):
        canvas.polygon([(nose, low), (nose, high), (0.30, high), (0.16, low)], LAMP)
    low, high = tail_lamp_heights(body)
    canvas.polygon([(tail, low), (tail, high), (design.length - 0.16, high), (design.length - 0.10, low)], TAIL_LAMP)


def paint_markings(canvas: Canvas, body: CarBody, livery: Livery) -> None:
    """Roofs, bands, checks and signs on the flanks, under glass and lines."""
    design = body.design
    start, stop, tail, belt = design.cowl[0], design.length - 0.4, design.length + 0.3, body.belt.max()
    middle = 0.5 * (design.axles[0] + design.axles[1])
    if livery.kind == "two_tone":
        canvas.polygon([(start, belt), (tail, belt), (tail, 4), (start, 4)], livery.accent)
    elif livery.kind in ("band", "police"):
        level = (0.62 if livery.kind == "police" else 0.50 + 0.25 * livery.style_code[0]) * belt
        canvas.box(0.5 * design.length, level, design.length + 0.6, 0.17, livery.accent, 0.0)
        if livery.kind == "police":
            canvas.polygon(
                [(middle - 0.85, 0), (middle + 0.75, 0), (middle + 0.75, belt), (middle - 0.55, belt)], livery.accent
            )
            canvas.box(middle, 0.62 * belt, 0.36, 0.24, (214, 176, 60), 0.5)
    elif livery.kind == "taxi":
        for row, level in enumerate((0.66, 0.75)):
            for x in np.arange(0.5 + 0.1 * row, stop, 0.2):
                canvas.box(x, level * belt, 0.1, 0.09 * belt, livery.accent, 0.0)
    elif livery.kind == "delivery":
        centre = 0.62 * design.length
        canvas.polygon([(centre, 0), (stop, 0), (stop + 0.9, 4), (centre + 1.2, 4)], livery.accent)
        canvas.box(centre + 0.1, 0.72 * design.height, 0.9, 0.5, shade(livery.accent, 0.6), 0.5)
        canvas.box(centre + 0.1, 0.72 * design.height, 0.6, 0.16, WHITE, 0.3)


def paint_windows(canvas: Canvas, body: CarBody, livery: Livery) -> None:
    """Side windows between their pillars, with the doors' shut lines and handles below."""
    design = body.design
    x, lower, upper = side_glass(body)
    cuts = x[0] + (x[-1] - x[0]) * np.array([0.0, *design.pillars, 1.0])
    black_frames = livery.style_code[1] < 0.6
    gap = 0.025 if black_frames else 0.045
    for number, (begin, end) in enumerate(pairwise(cuts)):
        inside = (x >= begin + gap * (number > 0)) & (x <= end - gap * (number < len(cuts) - 2))
        if inside.sum() < 3 or (number > 0 and is_panel_van(body, livery)):
            continue
        pane = np.stack([x, lower, upper], -1)[inside]
        outline = np.concatenate([pane[:, [0, 1]], pane[::-1, [0, 2]]])
        canvas.line(np.concatenate([outline, outline[:1]]), BLACK if black_frames else livery.paint, 0.04)
        canvas.polygon(outline, GLASS)
        # The sky in the glass: a slanting streak, in the foremost window at its high rear end.
        height = 0.97 * (pane[:, 2].max() - pane[:, 1].min())
        start = np.array([pane[-1, 0] - 0.7 if number == 0 else pane[0, 0], pane[:, 1].min()])
        streak = start + np.array([(0.175, height), (0.29, height), (0.21, 0.0), (0.09, 0.0)])
        streak[:, 1] = np.minimum(streak[:, 1], np.interp(streak[:, 0], x, upper))
        canvas.polygon(streak, shade(GLASS, 1.7))
    paint_doors(canvas, body, livery, [float(x[0]) + 0.10, *cuts[1:-1].tolist()][:3])


def paint_doors(canvas: Canvas, body: CarBody, livery: Livery, edges: list[float]) -> None:
    """Shut lines from the window sill down at each edge, a handle before each but the first."""
    line, foot = shade(livery.paint, 0.42), body.design.clearance + 0.1
    for number, x in enumerate(edges):
        sill = float(np.interp(x, body.x, body.belt))
        canvas.line([(x, sill + 0.02), (x - 0.02, 0.6 * sill), (x + 0.02, foot)], line)
        if number > 0:
            canvas.box(x - 0.17, 0.88 * sill, 0.17, 0.035, shade(livery.grille, 0.8), 0.5)
    canvas.line([(edges[0], foot), (edges[-1], foot)], line)


def is_panel_van(body: CarBody, livery: Livery) -> bool:
    return body.design.style == "van" and livery.style_code[3] < 0.5


def filled_strip(canvas: Canvas, body: CarBody, first: float, last: float, inset: float, colour: Colour) -> None:
    """Fill the width between the top's rounded edges, less `inset`, between two arc lengths."""
    along = np.linspace(first, last, 24)
    half = np.interp(along, body.arc, body.edge) - inset
    canvas.polygon(np.concatenate([np.stack([along, half], -1), np.stack([along, -half], -1)[::-1]]), colour)


def paint_top(canvas: Canvas, body: CarBody, livery: Livery) -> None:
    design = body.design
    end = body.arc[-1] + 0.1
    places = [point[0] for point in (design.cowl, design.roof_start, design.roof_end, design.deck_start)]
    cowl, head, rear_head, rear_foot = np.interp(places, body.x, body.arc).tolist()
    if livery.kind == "two_tone":
        canvas.polygon([(cowl, -2), (cowl, 2), (rear_foot, 2), (rear_foot, -2)], livery.accent)
    if livery.kind == "police" and livery.accent == WHITE:
        filled_strip(canvas, body, head, rear_head, -0.2, WHITE)
    paint_stripes(canvas, livery, lambda z: (0.5 * end, z), (end + 1.0, 0.22))
    if design.cowl[0] > 0.3:
        paint_hood(canvas, body, livery, cowl)
    filled_strip(canvas, body, cowl + 0.03, head - 0.03, 0.01, GLASS)
    for z in (-0.55, 0.02):
        canvas.line([(cowl + 0.06, z), (cowl + 0.14, z + 0.6)], BLACK, 0.025)
    if not is_panel_van(body, livery):
        filled_strip(canvas, body, rear_head + 0.05, rear_foot - 0.04, 0.05, GLASS)
    low_roof = design.style in ("sedan", "hatchback", "suv", "coupe")
    if livery.style_code[2] > 0.7 and livery.kind == "plain" and low_roof:
        canvas.box(head + 0.5, 0.0, 0.55, 0.8, shade(GLASS, 0.8), 0.2)
    if design.bed:
        first, last = np.interp(design.bed, body.x, body.arc).tolist()
        filled_strip(canvas, body, first - 0.005, last + 0.005, 0.06, BED_LINER)
    elif design.length - design.deck_start[0] > 0.3:
        lid = [(end - 0.1, -0.62), (rear_foot + 0.03, -0.62), (rear_foot + 0.03, 0.62), (end - 0.1, 0.62)]
        canvas.line(lid, shade(livery.paint, 0.5))


def paint_stripes(
    canvas: Canvas, livery: Livery, centre: Callable[[float], tuple[float, float]], size: tuple[float, float]
) -> None:
    """Two racing stripes; `centre` gives a stripe's middle from its distance to the middle of the car."""
    if livery.kind == "stripes":
        for z in (-0.19, 0.19):
            canvas.box(*centre(z), *size, livery.accent, 0.0)


def paint_hood(canvas: Canvas, body: CarBody, livery: Livery, cowl: float) -> None:
    half = float(np.interp(0.6 * cowl, body.arc, body.edge))
    for side in (-half, half):
        canvas.line([(0.06, 0.82 * side), (cowl - 0.06, 0.96 * side)], shade(livery.paint, 0.5))
        canvas.line([(0.1, 0.40 * side), (cowl - 0.1, 0.55 * side)], shade(livery.paint, 0.85), 0.025)
    filled_strip(canvas, body, cowl - 0.06, cowl + 0.05, 0.0, DARK)


def has_round_lamps(body: CarBody, livery: Livery) -> bool:
    return body.design.style == "jeep" or livery.style_code[3] > 0.9


def lamp_heights(body: CarBody) -> tuple[float, float]:
    """Lower and upper height of the headlamps."""
    high = float(body.top[0]) - 0.07 * body.design.height**0.5
    return high - 0.13, high


def tail_lamp_heights(body: CarBody) -> tuple[float, float]:
    """Lower and upper height of the tail lamps."""
    high = float(body.top[-1]) - 0.08
    return high - (0.34 if body.design.style in UPRIGHT_LAMPS else 0.16), high


def paint_plate(canvas: Canvas, y: float, colour: Colour) -> None:
    canvas.box(0.0, y, 0.50, 0.12, BLACK, 0.1)
    canvas.box(0.0, y, 0.47, 0.095, colour, 0.1)
    for place in np.linspace(-0.17, 0.17, 6):
        canvas.box(place, y, 0.035, 0.055, BLACK, 0.1)


def paint_front(canvas: Canvas, body: CarBody, livery: Livery) -> None:
    half, top, foot = float(body.side[0, :, 2].max()), float(body.top[0]), body.design.clearance
    low, high = lamp_heights(body)
    paint_stripes(canvas, livery, lambda z: (z, top), (0.22, 2 * top))
    canvas.box(0.0, foot, 4.0, 0.5 * (low - foot), shade(livery.trim, 0.8), 0.0)
    canvas.box(0.0, foot + 0.13, 1.25 * half, 0.14, BLACK, 0.4)
    height, width = 0.14 + 0.18 * livery.style_code[0], (0.75 + 0.35 * livery.style_code[1]) * half
    canvas.box(0.0, high - 0.5 * height, width + 0.05, height + 0.05, livery.grille, 0.3)
    canvas.box(0.0, high - 0.5 * height, width, height, BLACK, 0.3)
    for y in np.arange(high - height + 0.035, high - 0.02, 0.05):
        canvas.line([(-0.5 * width + 0.02, y), (0.5 * width - 0.02, y)], shade(livery.grille, 0.75), 0.012)
    canvas.box(0.0, high - 0.5 * height, 0.13, 0.11, (196, 199, 203), 0.5)
    inner, middle = 0.60 * half, 0.5 * (low + high)
    for sign in (-1, 1):
        if has_round_lamps(body, livery):
            canvas.box(sign * 0.76 * half, middle, 0.25, 0.25, DARK, 0.5)
            canvas.box(sign * 0.76 * half, middle, 0.20, 0.20, LAMP, 0.5)
        else:
            lamp = np.array([(inner, low + 0.03), (inner - 0.03, high), (2.0, high), (2.0, low)])
            canvas.polygon(lamp * (sign, 1), LAMP)
            canvas.box(sign * (inner + 0.13), middle, 0.12, 0.09, (170, 178, 186), 0.5)
        canvas.box(sign * 0.80 * half, foot + 0.15, 0.16, 0.08, (214, 216, 210), 0.4)
    paint_plate(canvas, 0.5 * (foot + 0.2 + high - height), WHITE)


def paint_rear(canvas: Canvas, body: CarBody, livery: Livery) -> None:
    upright = body.design.style in UPRIGHT_LAMPS
    half, top, foot = float(body.side[-1, :, 2].max()), float(body.top[-1]), body.design.clearance
    low, high = tail_lamp_heights(body)
    canvas.box(0.0, foot, 4.0, 0.7 * (low - foot), shade(livery.trim, 0.8), 0.0)
    seam = foot + 0.42 * (low - foot)
    canvas.line([(-2, seam), (2, seam)], shade(livery.paint, 0.45))
    inner = half - (0.20 if upright else 0.42)
    for sign in (-1, 1):
        canvas.polygon(np.array([(inner, low), (inner, high), (2.0, high), (2.0, low)]) * (sign, 1), TAIL_LAMP)
        canvas.box(sign * (inner + 0.10), low + 0.3 * (high - low), 0.16, 0.22 * (high - low), INDICATOR, 0.2)
        canvas.box(sign * 0.55 * half, foot + 0.05, 0.14, 0.06, (120, 122, 124), 0.4)
    garnish = 0.5 * (low + high) + 0.06
    canvas.line([(-inner, garnish), (inner, garnish)], shade(livery.grille, 0.9), 0.03)
    plate = low + 0.04 if upright else 0.5 * (low + foot) + 0.06
    paint_plate(canvas, plate, WHITE if sum(livery.paint) % 2 else (232, 200, 66))
    paint_stripes(canvas, livery, lambda z: (z, top), (0.22, 0.2))


def paint_wheel(livery: Livery, pixels: int = 96) -> Image.Image:
    """Tyre and rim seen along the axle; the tyre's radius is 1."""
    canvas = Canvas((np.array([-1.02, -1.02]), np.array([1.02, 1.02])), RUBBER, pixels / 2.04)
    canvas.box(0, 0, 1.40, 1.40, shade(livery.rim, 0.9), 0.5)
    canvas.box(0, 0, 1.24, 1.24, shade(livery.rim, 0.3), 0.5)
    wide = 0.9 / livery.spokes
    spoke = np.array([(0.62, wide), (0.62, -wide), (0.0, -0.7 * wide), (0.0, 0.7 * wide)])
    for angle in np.arange(livery.spokes) * 2 * np.pi / livery.spokes + 0.3:
        turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
        canvas.polygon(spoke @ turn, livery.rim)
    canvas.box(0, 0, 0.36, 0.36, livery.rim, 0.5)
    canvas.box(0, 0, 0.18, 0.18, shade(livery.rim, 0.6), 0.5)
    return canvas.finish()
