"""Procedural cars, written as a ShapeNetCore v2 tree."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from data_modules.synthesize import LICENCE
from data_modules.synthesize.car_body import CarBody, build_body, shell_parts
from data_modules.synthesize.car_design import body_style, draw_design
from data_modules.synthesize.car_pictures import paint_body, paint_wheel
from data_modules.synthesize.mesh_builder import Array, Material, Part, lathe, normalise, rounded_box, write_wavefront
from data_modules.synthesize.paint import DARK, WHITE, Colour, Livery, draw_livery
from scaled_ig.progress import Progress

CAR_SYNSET = "02958343"
# (radius, offset along the axle) from the outer hub over rim and tread to the inner hub, in radii and widths.
TYRE = np.array([
    (0.0, 0.36), (0.16, 0.38), (0.60, 0.30), (0.68, 0.46), (0.90, 0.50),
    (1.0, 0.36), (1.0, -0.36), (0.90, -0.50), (0.0, -0.50),
])  # fmt: skip


def draw_car(seed: int, index: int) -> tuple[list[Part], list[Material], str]:
    """Draw one car.

    Args:
        seed: Names a set of cars.
        index: Number of the car in the set; the car depends on nothing else.

    Returns:
        Its parts in ShapeNetCore v2 axes (x right, y up, front -z), centred, with a bounding box of diagonal 1; the
        materials that they name; and the body style.
    """
    generator = np.random.default_rng([seed, index])
    design = draw_design(body_style(seed, index), generator)
    livery = draw_livery(design.style, generator)
    body = build_body(design)
    parts = shell_parts(body) + wheels(body) + fittings(body, livery)
    pictures = paint_body(body, livery)
    pictures["wheel"] = paint_wheel(livery)
    materials = [Material(name, texture=picture) for name, picture in pictures.items()]
    colours: dict[str, Colour] = {
        "underside": (20, 20, 21), "paint": livery.paint, "trim": livery.trim, "dark": DARK, "chrome": livery.grille,
        "sign": WHITE, "red": (206, 30, 34), "blue": (36, 74, 196),
    }  # fmt: skip
    materials += [Material(name, (red / 255, green / 255, blue / 255)) for name, (red, green, blue) in colours.items()]
    names = {part.material for part in parts}
    return normalise(parts), [material for material in materials if material.name in names], design.style


def place(x: float, y: float, z: float) -> Array:
    """A point (x back, y up, z right) in the file's axes."""
    return np.array([z, y, x])


def wheels(body: CarBody) -> list[Part]:
    """Four wheels in their arches, and a fifth on the tail of a jeep."""
    design = body.design
    width = 0.62 * design.wheel_radius
    profile = TYRE * (design.wheel_radius, width)
    parts = []
    for axle in design.axles:
        offset = body.side_width(axle, 1.7 * design.wheel_radius) - 0.5 * width - 0.015
        for side in (-1, 1):
            parts.append(lathe(profile, place(axle, design.wheel_radius, side * offset), "wheel", side))
    if design.style == "jeep":
        spare = lathe(profile * (0.95, 0.8), np.zeros(3), "wheel", 1)
        back = spare.vertices[:, [2, 1, 0]] + place(design.length + design.bow + 0.06, 0.58 * design.height, 0.0)
        parts.append(Part(back, spare.texture_coordinates, spare.triangles[:, ::-1], "wheel"))
    return parts


def fittings(body: CarBody, livery: Livery) -> list[Part]:
    """What stands off the shell: mirrors, bumpers, rails, a spoiler, signs on the roof."""
    design = body.design
    parts = []
    mirror_x = design.cowl[0] + 0.4 * (design.roof_start[0] - design.cowl[0]) + 0.05
    mirror_y = float(np.interp(mirror_x, body.x, body.belt)) + 0.10
    for side in (-1, 1):
        reach = body.side_width(mirror_x, mirror_y - 0.1)
        mirror = place(mirror_x, mirror_y, side * (reach + 0.07))
        parts.append(rounded_box(mirror, place(0.12, 0.14, 0.22), "paint" if livery.trim != DARK else "dark"))
    parts += roof_fittings(body, livery)
    if design.style in ("jeep", "pickup", "suv") and livery.trim == DARK:
        for x, end in ((-design.bow + 0.02, 0), (design.length + design.bow - 0.02, -1)):
            half = float(body.side[end, 4, 2])
            bumper = place(0.16, 0.17, 1.5 * half)
            parts.append(rounded_box(place(x, design.clearance + 0.22, 0.0), bumper, "dark", 0.25))
    if design.style == "coupe" and livery.style_code[3] < 0.4:
        top, half = float(body.top[-1]) + 0.16, 0.75 * float(body.edge[-1])
        parts.append(rounded_box(place(design.length - 0.1, top, 0.0), place(0.26, 0.04, 2.3 * half), "paint"))
        for side in (-1, 1):
            foot = place(design.length - 0.1, top - 0.1, side * half)
            parts.append(rounded_box(foot, place(0.1, 0.22, 0.04), "paint"))
    return parts


def roof_fittings(body: CarBody, livery: Livery) -> list[Part]:
    """A taxi's sign, a police car's lights, or rails."""
    design = body.design
    middle = 0.5 * (design.roof_start[0] + design.roof_end[0])
    roof = float(np.interp(middle, body.x, body.top)) + 0.03
    if livery.kind == "taxi":
        return [rounded_box(place(middle - 0.2, roof + 0.08, 0.0), place(0.22, 0.16, 0.55), "sign")]
    if livery.kind == "police":
        return [
            rounded_box(place(middle - 0.2, roof + 0.06, side * 0.27), place(0.24, 0.14, 0.54), colour)
            for side, colour in ((-1, "red"), (1, "blue"))
        ]
    if design.style in ("estate", "suv") and livery.style_code[0] < 0.6:
        length = 0.8 * (design.roof_end[0] - design.roof_start[0])
        half = float(np.interp(middle, body.x, body.edge)) - 0.01
        ends = float(np.interp([middle - 0.5 * length, middle + 0.5 * length], body.x, body.top).min())
        height = roof + 0.03 - ends
        rail = place(length, height, 0.05)
        return [rounded_box(place(middle, ends + 0.5 * height, side * half), rail, "chrome") for side in (-1, 1)]
    return []


def write_cars(root: Path, scenes: int, seed: int) -> int:
    """Write cars 0..scenes-1 of a set below `<root>/02958343`; models that are there already are kept.

    Returns:
        How many were written now.
    """
    folder = root / CAR_SYNSET
    folder.mkdir(parents=True, exist_ok=True)
    num_written = 0
    for index in Progress(range(scenes), desc="cars", unit="car"):
        model = f"car_{seed:03d}_{index:05d}"
        if not (folder / model).exists():
            write_car(folder, model, seed, index)
            num_written += 1
    return num_written


def write_car(folder: Path, model: str, seed: int, index: int) -> None:
    """Write one model under a temporary name and rename it, so that a folder with its final name is complete."""
    parts, materials, style = draw_car(seed, index)
    draft = folder / f".{model}.{os.getpid()}.part"
    shutil.rmtree(draft, ignore_errors=True)
    for name in ("models", "images"):
        (draft / name).mkdir(parents=True)
    write_wavefront(draft / "models", "model_normalized", parts, materials, draft / "images")
    vertices = np.concatenate([part.vertices for part in parts])
    record = {
        "id": model,
        "min": vertices.min(0).tolist(),
        "max": vertices.max(0).tolist(),
        "centroid": vertices.mean(0).tolist(),
        "numVertices": len(vertices),
        "style": style,
        "seed": seed,
        "index": index,
        "license": LICENCE,
    }
    (draft / "models" / "model_normalized.json").write_text(json.dumps(record, indent=1) + "\n")
    draft.rename(folder / model)
