"""Draws a sheet of views with the world's axes, on which a wrong axis or camera convention is seen at once."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_modules.checking.check import CheckResult
from data_modules.checking.scene import SHOWN_VIEWS
from scaled_ig.errors import UsageError

AXES = (("X", (214, 39, 40)), ("Y", (44, 160, 44)), ("Z", (31, 79, 214)))
CAPTION_HEIGHT = 16
CELL = 160
FRONT = np.array([0.6, -0.7, 0.4])
"""Towards a camera that shows the front, a side and the top."""
BEYOND_MASK = (214, 226, 245)  # what white becomes outside of the mask
STRIPS = 24
"""Most scenes that get a line of views; of more, each gets one view."""
WARNING = (178, 96, 0)


def spread_scenes(num_scenes: int, most: int = STRIPS) -> list[int]:
    """Scenes for the sheet, spread evenly over a pack."""
    return np.unique(np.linspace(0, num_scenes - 1, min(most, num_scenes)).astype(int)).tolist()


def draw_contact_sheet(result: CheckResult, path: Path, scenes: Sequence[int] | None = None) -> None:
    """Draws the scenes that the check was asked to show, a line each: X red, Y green, Z blue, as long as the radius.

    What lies outside of the mask is tinted. Where there are more than ``STRIPS`` of them, each gets one view, as nearly
    from the front as it has one, without axes and tint: how much scenes differ is what is looked for.

    Args:
        result: a damaged scene has no views there, and gets its name and what is wrong.
        path: the PNG file to write.
        scenes: which; spread over the pack where it is None.

    Raises:
        UsageError: the file cannot be written.
    """
    scenes = spread_scenes(result.index.num_scenes) if scenes is None else scenes
    if len(scenes) > STRIPS:
        sheet = _many(result, scenes)
    else:
        columns = 2 if len(scenes) > 8 else 1
        rows = -(-len(scenes) // columns)
        gap = CELL // 8
        strip_width, strip_height = SHOWN_VIEWS * CELL, CELL + CAPTION_HEIGHT
        sheet = Image.new("RGB", (columns * strip_width + (columns - 1) * gap, rows * strip_height), "white")
        for place, scene in enumerate(scenes):
            strip = _scene_strip(result, scene)
            sheet.paste(strip, ((place // rows) * (strip_width + gap), (place % rows) * strip_height))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be written ({error}): name another PNG file with --sheet") from None


def _many(result: CheckResult, scenes: Sequence[int]) -> Image.Image:
    """One view a scene, in a square."""
    columns = math.isqrt(len(scenes) - 1) + 1
    sheet = Image.new("RGB", (columns * CELL, -(-len(scenes) // columns) * (CELL + CAPTION_HEIGHT)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, scene in enumerate(scenes):
        left, top = (place % columns) * CELL, (place // columns) * (CELL + CAPTION_HEIGHT)
        report = result.reports.get(scene)
        color = AXES[0][1] if scene in result.reasons else "black"
        draw.text((left + 3, top + 2), result.index.scene_ids[scene][:26], fill=color, font=ImageFont.load_default(10))
        if report is not None and report.shown is not None:
            shown = report.shown
            image = Image.fromarray(shown.images[int((shown.camera_to_world[:, :3, 3] @ FRONT).argmax())])
            sheet.paste(_fitted(image), (left, top + CAPTION_HEIGHT))
    return sheet


def _scene_strip(result: CheckResult, scene: int) -> Image.Image:
    index, report = result.index, result.reports.get(scene)
    strip = Image.new("RGB", (SHOWN_VIEWS * CELL, CELL + CAPTION_HEIGHT), "white")
    notes = [index.categories[scene], f"{index.num_views[scene]} views"]
    if report is not None and "camera_convention" in report.record:
        notes.append(f"cameras read as {report.record['camera_convention']}")
    caption = f"{index.scene_ids[scene]}  ({', '.join(notes)})"
    draw = ImageDraw.Draw(strip)
    draw.text((3, 2), caption, fill="black", font=ImageFont.load_default(11))
    remark = result.reasons.get(scene) or "; ".join(index.warnings[scene])
    if remark:
        left = 12 + draw.textlength(caption, font=ImageFont.load_default(11))
        color = AXES[0][1] if scene in result.reasons else WARNING
        draw.text((left, 2), remark[:140], fill=color, font=ImageFont.load_default(11))
    if report is None or report.shown is None:
        return strip
    shown = report.shown
    for column, pixels in enumerate(shown.images):
        cell = Image.new("RGB", (CELL, CELL), "white")
        image = Image.fromarray(pixels if shown.masks is None else _tinted(pixels, shown.masks[column]))
        image = _fitted(image)
        _draw_axes(image, shown.camera_to_world[column], shown.intrinsics[column], index.scene_radius)
        cell.paste(image)
        strip.paste(cell, (column * CELL, CAPTION_HEIGHT))
    return strip


def _fitted(image: Image.Image) -> Image.Image:
    """A view in the size of a cell."""
    factor = CELL / max(image.size)
    return image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.LANCZOS)


def _tinted(pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A view [H, W, 3] through a pane of blue glass that is open where the mask is."""
    beyond = 1 - mask[..., None] / 255
    return (pixels * (1 - beyond * (1 - np.array(BEYOND_MASK) / 255))).round().astype(np.uint8)


def _draw_axes(
    image: Image.Image, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], length: float
) -> None:
    """Draws the axes over an image, the nearest last; axes behind the camera are left out."""
    tips = np.concatenate([np.zeros((1, 3)), length * np.eye(3)])
    camera = (tips - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]
    if not (camera[:, 2] > 1e-3 * length).all():  # nor are poses that are not finite
        return
    places = (camera[:, :2] / camera[:, 2:] * intrinsics[:2] + intrinsics[2:]) * image.size
    if not (np.abs(places) < 1e5).all():
        return
    draw = ImageDraw.Draw(image)
    for axis in np.argsort(-camera[1:, 2]):
        letter, color = AXES[axis]
        origin, tip = tuple(places[0]), tuple(places[1 + axis])
        draw.line([origin, tip], fill=color, width=2)
        draw.text(
            tip, letter, fill=color, font=ImageFont.load_default(14), anchor="mm", stroke_width=2, stroke_fill="white"
        )
