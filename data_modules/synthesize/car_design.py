"""Body styles and the proportions that make one car differ from the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class BodyStyle:
    """Ranges from which the proportions of one kind of car are drawn.

    Lengths are in metres; positions along the car are fractions of its length from the nose, heights are fractions of
    the roof's height.
    """

    frequency: float
    length: Range
    width: Range
    height: Range
    wheel_radius: Range
    clearance: Range
    front_axle: Range
    wheelbase: Range
    hood_height: Range
    cowl: Range
    cowl_height: Range
    windscreen_run: Range
    roof_end: Range
    rear_glass_end: Range
    deck_height: Range
    tumblehome: Range = (0.20, 0.32)
    corner: Range = (0.10, 0.16)
    pillars: tuple[float, ...] = (0.43, 0.80)


BODY_STYLES = {
    "sedan": BodyStyle(
        0.24, (4.45, 5.0), (1.74, 1.90), (1.40, 1.50), (0.31, 0.35), (0.15, 0.19), (0.175, 0.205), (0.575, 0.61),
        (0.49, 0.54), (0.25, 0.29), (0.64, 0.67), (0.14, 0.17), (0.65, 0.70), (0.82, 0.86), (0.67, 0.71),
    ),
    "hatchback": BodyStyle(
        0.16, (3.6, 4.35), (1.65, 1.82), (1.43, 1.56), (0.29, 0.34), (0.15, 0.18), (0.175, 0.205), (0.60, 0.64),
        (0.49, 0.54), (0.21, 0.26), (0.63, 0.67), (0.16, 0.19), (0.80, 0.86), (0.93, 0.97), (0.64, 0.69),
        pillars=(0.45, 0.86),
    ),
    "estate": BodyStyle(
        0.10, (4.45, 4.95), (1.74, 1.90), (1.44, 1.54), (0.31, 0.35), (0.15, 0.19), (0.175, 0.20), (0.575, 0.605),
        (0.49, 0.53), (0.24, 0.28), (0.63, 0.66), (0.14, 0.17), (0.87, 0.91), (0.95, 0.975), (0.64, 0.68),
        pillars=(0.36, 0.66, 0.95),
    ),
    "suv": BodyStyle(
        0.17, (4.3, 4.95), (1.82, 1.98), (1.62, 1.82), (0.35, 0.40), (0.20, 0.25), (0.175, 0.20), (0.57, 0.61),
        (0.54, 0.59), (0.24, 0.28), (0.65, 0.68), (0.11, 0.14), (0.83, 0.89), (0.94, 0.975), (0.63, 0.67),
        pillars=(0.38, 0.68, 0.96),
    ),
    "jeep": BodyStyle(
        0.06, (3.8, 4.5), (1.70, 1.85), (1.75, 1.92), (0.37, 0.43), (0.23, 0.28), (0.14, 0.165), (0.58, 0.63),
        (0.56, 0.60), (0.29, 0.33), (0.61, 0.64), (0.05, 0.08), (0.945, 0.96), (0.975, 0.985), (0.58, 0.61),
        tumblehome=(0.07, 0.12), corner=(0.05, 0.08), pillars=(0.36, 0.68),
    ),
    "pickup": BodyStyle(
        0.08, (5.0, 5.6), (1.85, 2.02), (1.72, 1.88), (0.36, 0.41), (0.22, 0.27), (0.16, 0.18), (0.59, 0.62),
        (0.56, 0.61), (0.24, 0.27), (0.64, 0.67), (0.09, 0.12), (0.52, 0.58), (0.55, 0.605), (0.60, 0.64),
        tumblehome=(0.16, 0.24), pillars=(0.52,),
    ),
    "van": BodyStyle(
        0.07, (4.5, 5.5), (1.80, 1.98), (1.85, 2.25), (0.32, 0.36), (0.17, 0.22), (0.17, 0.19), (0.58, 0.63),
        (0.42, 0.47), (0.11, 0.15), (0.51, 0.55), (0.12, 0.16), (0.945, 0.96), (0.975, 0.985), (0.50, 0.54),
        tumblehome=(0.10, 0.16), corner=(0.08, 0.12), pillars=(0.27, 0.60),
    ),
    "coupe": BodyStyle(
        0.09, (4.2, 4.7), (1.78, 1.95), (1.22, 1.34), (0.31, 0.35), (0.12, 0.15), (0.19, 0.215), (0.565, 0.60),
        (0.50, 0.55), (0.29, 0.36), (0.66, 0.69), (0.15, 0.19), (0.60, 0.66), (0.86, 0.93), (0.70, 0.74),
        tumblehome=(0.28, 0.40), pillars=(0.62,),
    ),
    "bus": BodyStyle(
        0.03, (6.2, 8.2), (2.10, 2.35), (2.6, 2.9), (0.42, 0.46), (0.26, 0.32), (0.19, 0.23), (0.52, 0.56),
        (0.42, 0.46), (0.008, 0.015), (0.45, 0.49), (0.025, 0.05), (0.975, 0.985), (0.99, 0.995), (0.50, 0.55),
        tumblehome=(0.03, 0.06), corner=(0.05, 0.09), pillars=(0.19, 0.38, 0.57, 0.76),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CarDesign:
    """One car's proportions in metres: `x` is measured back from the nose, `y` up from the road.

    `cowl` is the foot of the windscreen, `roof_start` its head, `roof_end` the head of the rear window and `deck_start`
    its foot, each (x, y); `belt` is the height of the window sill at the cowl and at the tail. `pillars` are fractions
    of the side glass. `bed` is the stretch of a pickup's open bed, or None.
    """

    style: str
    length: float
    width: float
    height: float
    wheel_radius: float
    clearance: float
    axles: tuple[float, float]
    hood_height: float
    cowl: tuple[float, float]
    roof_start: tuple[float, float]
    roof_end: tuple[float, float]
    deck_start: tuple[float, float]
    tail_height: float
    belt: tuple[float, float]
    tumblehome: float
    shoulder: float
    corner: float
    nose_taper: float
    tail_taper: float
    bow: float
    flare: float
    pillars: tuple[float, ...]
    bed: tuple[float, float] | None

    @property
    def arch_radius(self) -> float:
        return 1.12 * self.wheel_radius + 0.01


def body_style(seed: int, index: int) -> str:
    """The style of car `index`, so that any run of cars has nearly the styles' frequencies.

    Steps of the golden ratio from a random start fill the unit interval evenly however many there are.
    """
    position = (np.random.default_rng(seed).random() + index * 0.6180339887498949) % 1.0
    limits = np.cumsum([style.frequency for style in BODY_STYLES.values()])
    return list(BODY_STYLES)[int(np.searchsorted(limits / limits[-1], position, side="right"))]


def draw_design(name: str, generator: np.random.Generator) -> CarDesign:
    """Draw every proportion of a car uniformly from its body style's ranges."""
    style = BODY_STYLES[name]

    def draw(low_high: Range) -> float:
        return float(generator.uniform(*low_high))

    blunt = name in ("bus", "jeep")
    length, height = draw(style.length), draw(style.height)
    front_axle = draw(style.front_axle) * length
    cowl = draw(style.cowl) * length, draw(style.cowl_height) * height
    roof_start = cowl[0] + draw(style.windscreen_run) * length, draw((0.955, 0.975)) * height
    roof_end = draw(style.roof_end) * length, draw((0.94, 0.98)) * height
    deck_start = draw(style.rear_glass_end) * length, draw(style.deck_height) * height
    return CarDesign(
        style=name,
        length=length,
        width=draw(style.width),
        height=height,
        wheel_radius=draw(style.wheel_radius),
        clearance=draw(style.clearance),
        axles=(front_axle, front_axle + draw(style.wheelbase) * length),
        hood_height=draw(style.hood_height) * height,
        cowl=cowl,
        roof_start=roof_start,
        roof_end=roof_end,
        deck_start=deck_start,
        tail_height=deck_start[1] - (0.0 if name == "pickup" else draw((0.0, 0.05)) * height),
        belt=(cowl[1] - draw((0.02, 0.06)), deck_start[1] - draw((0.0, 0.05))),
        tumblehome=draw(style.tumblehome),
        shoulder=draw((0.02, 0.055)),
        corner=draw(style.corner),
        nose_taper=0.05 if blunt else draw((0.10, 0.20)),
        tail_taper=0.04 if blunt else draw((0.06, 0.14)),
        bow=0.05 if blunt else draw((0.10, 0.22)),
        flare=draw((0.005, 0.04)),
        pillars=style.pillars,
        bed=(deck_start[0] + 0.06, length - 0.12) if name == "pickup" else None,
    )
