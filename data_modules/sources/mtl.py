"""MTL libraries, and the materials of them that a mesh uses."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import GREY, Material, srgb_to_linear
from data_modules.sources.files import read_lines, short
from data_modules.sources.named_files import NamedFiles
from scaled_ig.errors import UsageError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A number counts only where something follows it: the name of a texture may be one, too.
MAP_OPTION = re.compile(
    rf"\s*-(?:(?P<key>s|o|t|mm)(?P<numbers>(?:\s+{NUMBER}(?=\s)){{1,3}})"
    r"|(?P<word>blendu|blendv|bm|boost|cc|clamp|colorspace|imfchan|texres|type)\s+(?P<value>\S+))\s",
    re.IGNORECASE,
)
DEFAULTS = {"s": (1.0, 1.0, 1.0), "o": (0.0, 0.0, 0.0), "t": (0.0, 0.0, 0.0), "mm": (0.0, 1.0, 0.0)}
XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
CHANNELS = {"r": 0, "g": 1, "b": 2}
LEFTOVER = 1e-3  # most by which the channels of a grey differ
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass
class Paint:
    """A material as a library writes it: the words behind each keyword, in lower case, with their line."""

    library: Path
    lines: dict[str, tuple[int, str]] = field(default_factory=dict)

    def numbers(self, keyword: str) -> list[float] | None:
        """The numbers behind a keyword; None where the material has no such line.

        Raises:
            UsageError: they are none.
        """
        number, rest = self.lines.get(keyword, (0, ""))
        words = rest.partition("#")[0].replace("-halo", "").split()
        try:
            values = [float(word) for word in (words[1:] if words[:1] == ["xyz"] else words)]
            if not np.isfinite(values).all():
                raise ValueError("it is not finite")
        except ValueError as error:
            where = f"{self.library}, line {number}"
            raise UsageError(f"{where}: cannot read {short(f'{keyword} {rest}')} ({error}); repair it") from None
        return values or None

    def color(self, keyword: str) -> NDArray[np.float64] | None:
        """Linear RGB [3] in [0, 1]; one number is grey, numbers above 1 count to 255, ``xyz`` is CIE XYZ."""
        values = self.numbers(keyword)
        if values is None:
            return None
        three = np.array((values * 3)[:3] if len(values) == 1 else [*values, 0.0, 0.0][:3])
        if self.lines[keyword][1].split()[0] == "xyz":
            return np.clip(XYZ_TO_RGB @ three, 0.0, 1.0)
        return srgb_to_linear(to_unit(three))


@dataclass(frozen=True)
class Map:
    """A texture that a material names, and the options before the name."""

    name: str
    options: dict[str, tuple[float, ...]]
    words: dict[str, str]

    @classmethod
    def parse(cls, rest: str) -> "Map":
        options, words = dict(DEFAULTS), {}
        while match := MAP_OPTION.match(rest):
            rest = rest[match.end() :]
            if match["key"]:
                key, numbers = match["key"].lower(), tuple(map(float, match["numbers"].split()))
                options[key] = (numbers + DEFAULTS[key][len(numbers) :])[:3]
            else:
                words[match["word"].lower()] = match["value"].lower()
        return cls(rest.strip(), options, words)


def to_unit(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Display values in [0, 1] of a file whose colours count to 1, to 255 or to 65535: by the largest of them.

    Values a little above 1, with fractions, are brighter than white.
    """
    largest = colors.max(initial=0.0)
    if largest > 255:
        return np.clip(colors / 65535, 0.0, 1.0)
    if largest > 2 or (largest > 1 and (colors == np.round(colors)).all()):
        return np.clip(colors / 255, 0.0, 1.0)
    return np.clip(colors, 0.0, 1.0)


def read_library(path: Path) -> dict[str, Paint]:
    """The materials of an MTL file by name; of two with one name the first counts, as it does among libraries.

    Raises:
        UsageError: the file cannot be read.
    """
    paints: dict[str, Paint] = {}
    paint = Paint(path)
    for number, line in enumerate(read_lines(path), start=1):
        keyword, rest = [*line.strip().split(maxsplit=1), "", ""][:2]
        if keyword.lower() == "newmtl":
            paint = Paint(path)
            paints.setdefault(rest, paint)
        else:
            paint.lines[keyword.lower()] = number, rest
    return paints


def resolve(paint: Paint, files: NamedFiles) -> tuple[Material, Map]:
    """A material with its texture, and the map whose options say where the texture lies.

    A grey ``Kd`` beside a texture is an exporter's leftover and does not count; any other multiplies the texture.

    Raises:
        UsageError: a number or a texture cannot be read, or a texture is missing and may not be.
    """
    named = Map.parse(paint.lines.get("map_kd", (0, ""))[1])
    color, texture = paint.color("kd"), None
    if named.name:
        texture = files.texture(named.name, paint.library)
        if texture is None and files.missing_files == "grey":
            return GREY, named
    if color is None or (texture is not None and np.ptp(color) < LEFTOVER):
        color = np.ones(3)
    if texture is not None:
        base, gain, _ = named.options["mm"]
        texture = np.ascontiguousarray(texture[..., :3])
        if (base, gain) != (0.0, 1.0):
            texture = np.clip(np.round(base * 255 + gain * texture), 0, 255).astype(np.uint8)
    red, green, blue = color.tolist()
    return Material((red, green, blue), texture), named
