"""MTL libraries, and the materials of them that a mesh uses."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.sources.base import GREY, Material, Sampler, bounded_uv, srgb_to_linear
from data_modules.sources.colors import to_unit
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
PLAIN_OPTIONS: dict[str, tuple[float, ...]] = {
    "s": (1.0, 1.0, 1.0),
    "o": (0.0, 0.0, 0.0),
    "t": (0.0, 0.0, 0.0),
    "mm": (0.0, 1.0, 0.0),
}
XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
LUMA = np.array([0.299, 0.587, 0.114])
LEFTOVER = 1e-3  # most by which the channels of a grey differ


@dataclass(frozen=True)
class Map:
    """A texture as a material names it, with the numbers and the words of the options before the name."""

    name: str = ""
    numbers: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict(PLAIN_OPTIONS))
    words: dict[str, str] = field(default_factory=dict)

    def place(self, uv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Texture coordinates [..., 2], scaled by ``-s`` and then moved by ``-o``."""
        return bounded_uv(uv * self.numbers["s"][:2] + self.numbers["o"][:2])

    @property
    def sampler(self) -> Sampler:
        """``-clamp on`` goes on outside of the texture with the texels at its edge."""
        return Sampler(("clamp", "clamp")) if self.words.get("clamp") == "on" else Sampler()


@dataclass
class Paint:
    """A material as a library writes it: by keyword, in lower case, the number of its line and what follows it."""

    library: Path
    lines: dict[str, tuple[int, str]] = field(default_factory=dict)

    def numbers(self, keyword: str) -> list[float] | None:
        """The numbers behind a keyword; None where there are none.

        Raises:
            UsageError: something else is there.
        """
        line, rest = self.lines.get(keyword, (0, ""))
        words = [word for word in rest.partition("#")[0].split() if word not in ("-halo", "xyz")]
        try:
            numbers = [float(word) for word in words]
            if not np.isfinite(numbers).all():
                raise ValueError("it is not finite")
        except ValueError as error:
            said = short(f"{keyword} {rest}")
            raise UsageError(f"{self.library}, line {line}: cannot read {said} ({error}); repair it") from None
        return numbers or None

    def color(self, keyword: str) -> NDArray[np.float64] | None:
        """Linear RGB [3] in [0, 1], or None; one number is grey, and ``xyz`` goes before CIE XYZ."""
        numbers = self.numbers(keyword)
        if numbers is None:
            return None
        three = np.array(numbers * 3 if len(numbers) == 1 else [*numbers, 0.0])[:3]
        if self.lines[keyword][1].startswith("xyz"):
            return np.clip(XYZ_TO_RGB @ three, 0, 1)
        return srgb_to_linear(to_unit(three) if keyword == "kd" else np.clip(three, 0, 1))

    def map(self, keyword: str) -> Map:
        """The texture behind a keyword; its name is empty where there is none."""
        rest = self.lines.get(keyword, (0, ""))[1]
        numbers, words = dict(PLAIN_OPTIONS), dict[str, str]()
        while match := MAP_OPTION.match(rest):
            rest = rest[match.end() :]
            if match["key"]:
                key, values = match["key"].lower(), tuple(map(float, match["numbers"].split()))
                numbers[key] = values + PLAIN_OPTIONS[key][len(values) :]
            else:
                words[match["word"].lower()] = match["value"].lower()
        return Map(rest.strip(), numbers, words)


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
        elif keyword:
            paint.lines[keyword.lower()] = number, rest
    return paints


def resolve(paint: Paint, files: NamedFiles) -> tuple[Material, Map, Map]:
    """A material with its textures, and the maps that say where its texture and that of its emission lie.

    Some values are exporters' leftovers and do not count: a grey ``Kd`` beside ``map_Kd`` (any other multiplies it),
    ``d 0`` beside ``map_d``, ``Ke 0`` beside ``map_Ke``, and ``Tr 1`` without ``d``, which older exporters write for
    what is opaque. ``Pr``, ``Pm``, ``Ks`` and ``illum`` are ignored, since nothing shines.

    Raises:
        UsageError: a number or a texture cannot be read, or a texture is missing and may not be.
    """
    picture, mask, glow = paint.map("map_kd"), paint.map("map_d"), paint.map("map_ke")
    texture, is_missing = _texture(paint, picture, mask, files)
    if is_missing and files.missing_files == "grey":
        return GREY, picture, glow
    color, alpha, emission = paint.color("kd"), _opacity(paint), paint.color("ke")
    if color is None or (picture.name and not is_missing and np.ptp(color) < LEFTOVER):
        color = np.ones(3)
    emission_texture = files.texture(glow.name, paint.library) if glow.name else None
    if emission is None or (emission_texture is not None and not emission.any()):
        emission = np.zeros(3) if emission_texture is None else np.ones(3)
    material = Material(
        color=_three(color),
        texture=texture,
        sampler=(picture if picture.name else mask).sampler,
        alpha=1.0 if mask.name and alpha == 0 else alpha,
        emission=_three(emission),
        emission_texture=None if emission_texture is None else emission_texture[..., :3],
        emission_sampler=glow.sampler,
    )
    return material, picture if picture.name else mask, glow


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def _opacity(paint: Paint) -> float:
    dissolve, transparency = paint.numbers("d"), paint.numbers("tr")
    if dissolve is None:
        dissolve = [1.0 if transparency is None or transparency[0] >= 1 else 1.0 - transparency[0]]
    return float(np.clip(dissolve[0], 0, 1))


def _texture(paint: Paint, picture: Map, mask: Map, files: NamedFiles) -> tuple[NDArray[np.uint8] | None, bool]:
    """Pixels [h, w, 3], or [h, w, 4] with the mask as alpha, of the larger size; and whether the picture is missing."""
    key = tuple(paint.lines.get(keyword, (0, ""))[1] for keyword in ("map_kd", "map_d"))
    if (paint.library, key) in files.blended:
        return files.blended[paint.library, key]
    pixels = files.texture(picture.name, paint.library) if picture.name else None
    is_missing = bool(picture.name) and pixels is None
    alpha = files.texture(mask.name, paint.library) if mask.name else None
    if pixels is not None:
        pixels = _adjusted(np.ascontiguousarray(pixels[..., :3]), picture)
    if alpha is not None:
        if pixels is not None and picture.numbers != mask.numbers:
            raise UsageError(f"{paint.library}: map_d and map_Kd differ in -s, -o or -mm; give both the same")
        alpha = _adjusted(_channel(alpha, mask), mask)
        pixels = np.full((1, 1, 3), 255, np.uint8) if pixels is None else pixels
        height, width = np.maximum(pixels.shape[:2], alpha.shape)
        pixels = np.dstack([_resized(pixels, height, width), _resized(alpha, height, width)])
    files.blended[paint.library, key] = pixels, is_missing
    return pixels, is_missing


def _adjusted(pixels: NDArray[np.uint8], named: Map) -> NDArray[np.uint8]:
    base, gain = named.numbers["mm"][:2]
    if (base, gain) == (0.0, 1.0):
        return pixels
    return np.clip(np.round(base * 255 + gain * pixels.astype(np.float64)), 0, 255).astype(np.uint8)


def _channel(pixels: NDArray[np.uint8], mask: Map) -> NDArray[np.uint8]:
    """The mask [h, w] in a picture: its alpha where it has some, else its brightness, unless ``-imfchan`` says."""
    has_alpha = pixels.shape[2] == 4 and bool((pixels[..., 3] < 255).any())
    channel = mask.words.get("imfchan", "m" if has_alpha else "l")
    if channel in ("r", "g", "b"):
        return pixels[..., "rgb".index(channel)]
    if channel == "m":
        return pixels[..., 3] if pixels.shape[2] == 4 else np.full(pixels.shape[:2], 255, np.uint8)
    return np.round(pixels[..., :3] @ LUMA).astype(np.uint8)


def _resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((int(width), int(height)), Image.Resampling.BILINEAR))
