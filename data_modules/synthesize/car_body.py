"""The painted shell of a car: sections lofted along its length, with wheel arches, closed below and at both ends.

Letters: S sections, Q points of each, J points of a side, P points of a polyline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_modules.synthesize.car_design import CarDesign
from data_modules.synthesize.mesh_builder import Array, Part, grid

LOWER_ROWS, UPPER_ROWS, CORNER_ROWS = 8, 5, 4
CROWN = 0.035  # metres by which hood, glass and roof rise towards the middle
BED_DEPTH = 0.36


def outline(design: CarDesign, samples: int = 500) -> Array:
    """The top of the car seen from the side, corners rounded: [samples, 2] (x, y), x increasing."""
    crest_x = 0.5 * (design.roof_start[0] + design.roof_end[0])
    knots = np.array([
        (0.0, design.hood_height),
        (0.5 * design.cowl[0], 0.42 * design.hood_height + 0.58 * design.cowl[1]),
        design.cowl,
        design.roof_start,
        (crest_x, design.height),
        design.roof_end,
        design.deck_start,
        (design.length, design.tail_height),
    ])  # fmt: skip
    along = arc_length(knots)
    even = np.linspace(0.0, along[-1], samples)
    curve = np.stack([np.interp(even, along, knots[:, axis]) for axis in (0, 1)], -1)
    reach = int(0.16 / even[1])
    kernel = np.hanning(2 * reach + 1)
    padded = np.concatenate([2 * curve[0] - curve[reach:0:-1], curve, 2 * curve[-1] - curve[-2 : -reach - 2 : -1]])
    return np.stack([np.convolve(padded[:, axis], kernel / kernel.sum(), "valid") for axis in (0, 1)], -1)


@dataclass(frozen=True)
class CarBody:
    """The shell's cross-sections, S of them from nose to tail; metres.

    Args:
        design: The proportions.
        x: [S] where a section cuts the outline.
        arc: [S] length of the outline up to there: what the picture of hood, glass and roof is laid along.
        top: [S] height of the outline.
        belt: [S] height of the window sill.
        side: [S, J, 3] points (x, y, z) of one side, from the sill over the belt and round the roof's edge; z > 0.
    """

    design: CarDesign
    x: Array
    arc: Array
    top: Array
    belt: Array
    side: Array

    @property
    def edge(self) -> Array:
        """[S] half the width of the hood, glass or roof between its rounded edges."""
        return self.side[:, -1, 2]

    def side_width(self, x: float, y: float) -> float:
        """Half the width of the car at a place seen from the side."""
        section = self.side[int(np.abs(self.x - x).argmin())]
        return float(np.interp(y, section[:, 1], section[:, 2]))


def arc_length(curve: Array) -> Array:
    """[P] length of a polyline [P, 2] up to each of its points."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=-1))])


def section_places(design: CarDesign, curve: Array) -> Array:
    """Where to cut: evenly along the outline, so that steep glass gets its share, and along both wheel arches."""
    arc = arc_length(curve)
    even = np.interp(np.linspace(0.0, arc[-1], 48), arc, curve[:, 0])
    arch = design.arch_radius * np.cos(np.linspace(0.0, np.pi, 13))
    near_arch = np.min([np.abs(even - axle) for axle in design.axles], axis=0) < design.arch_radius + 0.01
    near_arch &= np.gradient(np.interp(even, curve[:, 0], curve[:, 1]), even) < 2.0
    places = np.concatenate([even[~near_arch], *[axle + arch for axle in design.axles]])
    if design.bed:
        places = np.concatenate([places, [edge + step for edge in design.bed for step in (-0.01, 0.01)]])
    places = np.unique(np.clip(places, 0.0, design.length))
    return places[np.concatenate([[True], np.diff(places) > 2e-3])]


def arch_height(design: CarDesign, x: Array) -> Array:
    """Height of the shell's lower edge: the clearance, or the wheel arch above it."""
    height = np.full_like(x, design.clearance)
    for axle in design.axles:
        inside = np.clip(design.arch_radius**2 - (x - axle) ** 2, 0.0, None)
        height = np.maximum(height, np.where(inside > 0, design.wheel_radius + np.sqrt(inside), 0.0))
    return height


def fade(distance: Array, reach: float) -> Array:
    """1 at distance 0, falling smoothly to 0 at `reach`."""
    return np.clip(1.0 - distance / reach, 0.0, 1.0) ** 2


def half_width(design: CarDesign, x: Array, y: Array, belt: Array) -> Array:
    """Half the width at (x, y): plan taper x section, with shoulder, tumblehome and wheel-arch flares."""
    nose, tail = fade(x, 0.22 * design.length), fade(design.length - x, 0.2 * design.length)
    plan = 1.0 - design.nose_taper * nose - design.tail_taper * tail
    rise = np.clip((y - design.clearance) / (belt - design.clearance), 0.0, 1.0)
    section = 1.0 - 0.09 * fade(rise, 0.5) - 0.03 * fade(1.0 - rise, 0.35)
    above = np.clip(y - belt, 0.0, None)
    width = 0.5 * design.width * plan * section
    width = width - design.shoulder * (1.0 - np.exp(-above / 0.05)) - design.tumblehome * above
    for axle in design.axles:
        ring = np.hypot(x - axle, y - design.wheel_radius) - design.arch_radius
        width = width + design.flare * np.exp(-((ring / 0.09) ** 2)) * (y < belt)
    return width


def build_body(design: CarDesign) -> CarBody:
    """Cut the cross-sections of a design."""
    curve = outline(design)
    x = section_places(design, curve)
    top = np.interp(x, curve[:, 0], curve[:, 1])
    arc = np.interp(x, curve[:, 0], arc_length(curve))
    sill_line = np.interp(x, [design.cowl[0], design.length], design.belt)
    belt = np.minimum(sill_line, top - 0.09)
    corner = np.minimum(design.corner, 0.8 * (top - belt))
    bottom = np.minimum(arch_height(design, x), belt - 0.06)

    lower = np.linspace(bottom, belt, LOWER_ROWS, endpoint=False)
    upper = np.linspace(belt, top - corner, UPPER_ROWS)
    y = np.concatenate([lower, upper]).T
    z = half_width(design, x[:, None], y, belt[:, None])
    angle = np.linspace(0.0, np.pi / 2, CORNER_ROWS + 1)[1:]
    y = np.concatenate([y, (top - corner)[:, None] + corner[:, None] * np.sin(angle)], -1)
    z = np.concatenate([z, z[:, -1:] - np.minimum(corner, 0.12)[:, None] * (1.0 - np.cos(angle))], -1)

    # Bumpers stand proud of the hood's edge and of the tail's; the set-back dies out within half a metre.
    level = (y - design.clearance) / (top[:, None] - design.clearance)
    set_back = 0.10 * np.clip((level - 0.45) / 0.55, 0.0, 1.0) ** 1.5 + 0.06 * np.clip(1.0 - level / 0.3, 0.0, 1.0) ** 2
    x_side = x[:, None] + set_back * (fade(x, 0.5) - fade(design.length - x, 0.5))[:, None]
    return CarBody(design, x, arc, top, belt, np.stack([x_side, y, z], -1))


def across(body: CarBody, section: Array, fraction: Array, end: Array) -> Array:
    """Join the left and the right of the shell, bowed in plan and crowned.

    Args:
        body: The shell.
        section: [S, 3] the points on the right.
        fraction: [Q] from -1 (left) to 1 (right).
        end: [S] 1 at the nose, -1 at the tail: which way the join bows.

    Returns:
        [S, Q, 3] points (x, y, z).
    """
    arch = 1.0 - fraction**2
    x = section[:, :1] - body.design.bow * end[:, None] * arch
    y = np.broadcast_to(section[:, 1:2], x.shape)
    return np.stack([x, y, section[:, 2:] * fraction], -1)


def picture_frames(body: CarBody) -> dict[str, tuple[Array, Array]]:
    """Corners in metres of what each picture shows: side by (x, y), top by (arc, z), front and rear by (z, y)."""
    design = body.design
    reach, roof = 0.54 * design.width, design.height + 0.08
    return {
        "side": (np.array([-0.3, 0.0]), np.array([design.length + 0.3, roof])),
        "top": (np.array([-0.05, -reach]), np.array([body.arc[-1] + 0.05, reach])),
        "front": (np.array([-reach, 0.0]), np.array([reach, body.top[0] + 0.1])),
        "rear": (np.array([-reach, 0.0]), np.array([reach, body.top[-1] + 0.1])),
    }


def shell_parts(body: CarBody) -> list[Part]:
    """Triangulate the shell: two sides, top, underside, nose and tail, in the file's axes (x right, y up, z back)."""
    design, side = body.design, body.side
    half = np.array([0.0, 0.6, 0.75, 0.905, 0.92, 1.0]) if design.bed else np.linspace(0.0, 1.0, 6)
    fraction = np.concatenate([-half[:0:-1], half])
    end = fade(body.x, 0.55 * design.length) - fade(design.length - body.x, 0.55 * design.length)
    frames = picture_frames(body)

    def piece(points: Array, name: str, place: Array, flip: bool = False) -> Part:
        low, high = frames.get(name, (np.zeros(2), np.ones(2)))
        return grid(points[..., ::-1], name, (place - low) / (high - low), flip)

    # Wheel arches reach inwards as far as the wheels do; between them the floor is flat.
    under = across(body, side[:, 0], fraction, end)
    under[:, np.abs(fraction) < 0.7, 1] = design.clearance
    top = across(body, side[:, -1], fraction, end)
    top[..., 1] += CROWN * (1.0 - fraction**2)
    if design.bed:
        inside = (body.x > design.bed[0]) & (body.x < design.bed[1])
        bed = np.ix_(inside, np.abs(fraction) < 0.91)
        top[..., 1][bed] = np.maximum(top[..., 1][bed] - BED_DEPTH, under[..., 1][bed] + 0.03)
    parts = [
        piece(top, "top", np.stack(np.broadcast_arrays(body.arc[:, None], top[..., 2]), -1)),
        piece(under, "underside", np.zeros((*under.shape[:2], 2)), flip=True),
        piece(side, "side", side[..., :2], flip=True),
        piece(side * (1, 1, -1), "side", side[..., :2]),
    ]
    for name, station in (("front", 0), ("rear", -1)):
        cap = across(body, side[station], fraction, np.full(side.shape[1], end[station]))
        cap[-1, :, 1] += CROWN * (1.0 - fraction**2)
        parts.append(piece(cap, name, cap[..., :0:-1], flip=station == -1))
    return parts
