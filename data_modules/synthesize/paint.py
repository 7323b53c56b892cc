"""Paint: the colours of a car, and a canvas on which one draws in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from data_modules.synthesize.mesh_builder import Array

Colour = tuple[int, int, int]

PAINTS: tuple[tuple[float, Colour], ...] = (
    (0.14, (236, 237, 236)), (0.11, (30, 31, 34)), (0.11, (176, 180, 184)), (0.09, (104, 109, 115)),
    (0.07, (28, 62, 128)), (0.05, (74, 128, 186)), (0.10, (168, 26, 30)), (0.03, (108, 18, 34)),
    (0.04, (28, 78, 54)), (0.04, (122, 162, 66)), (0.06, (236, 186, 34)), (0.05, (224, 98, 28)),
    (0.04, (196, 176, 140)), (0.03, (104, 74, 50)), (0.02, (32, 136, 140)), (0.02, (110, 62, 140)),
)  # fmt: skip
GLASS, RUBBER, DARK = (34, 42, 52), (24, 24, 26), (38, 39, 42)
LAMP, TAIL_LAMP, INDICATOR = (238, 241, 244), (176, 14, 20), (240, 142, 30)
WHITE, BLACK = (240, 240, 240), (22, 22, 24)


@dataclass(frozen=True)
class Livery:
    """The colours of one car.

    Args:
        kind: plain, two_tone, stripes, band, taxi, police or delivery.
        paint: The body.
        accent: Roof, stripes or markings.
        trim: Bumpers' lower edges, sills and arches.
        grille: The grille's frame.
        rim: Wheel discs.
        spokes: Number of spokes.
        style_code: [4] numbers in 0..1 that choose the shapes of lamps, grille, side moulding and sun roof.
    """

    kind: str
    paint: Colour
    accent: Colour
    trim: Colour
    grille: Colour
    rim: Colour
    spokes: int
    style_code: tuple[float, float, float, float]


KINDS = {"plain": 0.66, "two_tone": 0.11, "stripes": 0.06, "band": 0.06, "taxi": 0.04, "police": 0.04, "delivery": 0.03}


def draw_livery(style: str, generator: np.random.Generator) -> Livery:
    """Draw colours: most cars are plain; the palette follows what is seen on roads, with more colour."""
    weights = np.array([weight for weight, _ in PAINTS])

    def draw_paint() -> Colour:
        paint = np.array(PAINTS[generator.choice(len(PAINTS), p=weights / weights.sum())][1])
        paint = paint * generator.normal(1.0, 0.07) * generator.normal(1.0, 0.02, 3)
        red, green, blue = np.clip(paint, 0, 250).astype(int).tolist()
        return red, green, blue

    kind = str(generator.choice(list(KINDS), p=list(KINDS.values())))
    roomy = style in ("van", "bus")
    if roomy and kind in ("two_tone", "stripes", "taxi", "police"):
        kind = "delivery"
    elif (kind == "delivery" and not roomy) or (kind in ("taxi", "police") and style in ("coupe", "pickup", "jeep")):
        kind = "band"
    paint, accent = draw_paint(), draw_paint()
    if kind in ("two_tone", "stripes"):
        accent = WHITE if sum(paint) < 330 else BLACK
    if kind == "taxi":
        paint, accent = (238, 188, 28), BLACK
    if kind == "police":
        paint, accent = (WHITE, (26, 54, 126)) if generator.random() < 0.6 else (BLACK, WHITE)
    rugged = style in ("suv", "jeep", "pickup") and generator.random() < 0.6
    return Livery(
        kind=kind,
        paint=paint,
        accent=accent,
        trim=DARK if rugged or generator.random() < 0.25 else paint,
        grille=(186, 189, 192) if generator.random() < 0.5 else BLACK,
        rim=((188, 192, 196), (142, 146, 150), (58, 60, 64))[generator.choice(3, p=(0.6, 0.25, 0.15))],
        spokes=int(generator.choice([5, 6, 7, 10])),
        style_code=(generator.random(), generator.random(), generator.random(), generator.random()),
    )


def shade(colour: Colour, factor: float) -> Colour:
    """The colour in more or less light."""
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


class Canvas:
    """A picture on which one draws in metres, y up; drawn at twice the resolution."""

    def __init__(self, frame: tuple[Array, Array], colour: Colour, pixels_per_metre: float) -> None:
        self.low, high = frame
        self.size = np.maximum(np.round((high - self.low) * pixels_per_metre), 8).astype(int)
        self.scale = 2 * self.size / (high - self.low)
        self.image = Image.new("RGB", tuple((2 * self.size).tolist()), colour)
        self.pen = ImageDraw.Draw(self.image)

    def pixels(self, points: Array | Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        place = (np.asarray(points, dtype=float) - self.low) * self.scale
        place[:, 1] = 2 * self.size[1] - place[:, 1]
        return [(x, y) for x, y in place.tolist()]

    def polygon(self, points: Array | Sequence[tuple[float, float]], colour: Colour) -> None:
        self.pen.polygon(self.pixels(points), fill=colour)

    def line(self, points: Array | Sequence[tuple[float, float]], colour: Colour, width: float = 0.014) -> None:
        self.pen.line(self.pixels(points), fill=colour, width=max(2, round(width * self.scale[0])), joint="curve")

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, roundness: float = 0.25) -> None:
        """A rectangle with round corners about its centre (x, y)."""
        left_bottom, right_top = self.pixels([(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)])
        radius = roundness * min(width * self.scale[0], height * self.scale[1])
        self.pen.rounded_rectangle(
            (left_bottom[0], right_top[1], right_top[0], left_bottom[1]), radius=radius, fill=colour
        )

    def finish(self, grounded: bool = False) -> Image.Image:
        """The picture at its own resolution; `grounded` darkens it towards the road, as dirt and shadow do."""
        picture = self.image.resize(tuple(self.size.tolist()), Image.Resampling.BOX)
        if not grounded:
            return picture
        height = np.linspace(1.0, 0.0, self.size[1])[:, None, None]
        return Image.fromarray((np.asarray(picture) * (0.72 + 0.28 * np.clip(height / 0.35, 0, 1))).astype(np.uint8))
