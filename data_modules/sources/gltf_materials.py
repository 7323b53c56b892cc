"""Materials of a glTF file: the diffuse colour, what shines through, and what shines by itself."""

import io
import math
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import GREY, Material, Sampler
from data_modules.sources.files import short
from data_modules.sources.gltf_extensions import READ_IMAGES
from data_modules.sources.mesh_claims import Gltf, ImpossibleError, count_of, numbers_of, pick
from data_modules.sources.named_files import NamedFiles
from data_modules.sources.pictures import BROKEN, TexturePixels, decode_picture, open_picture
from scaled_ig.errors import UsageError

WRAPS = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
NEAREST = 9728
BRIGHTEST = 1e6


@dataclass(frozen=True)
class TexturePlace:
    """Where a texture lies on a surface.

    Attributes:
        coordinates: number of the set of texture coordinates.
        matrix: float64 [2, 3], from (u, v, 1) of that set, v downwards, to those of the texture.
    """

    coordinates: int
    matrix: NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """A material, and where its textures lie; None for no texture. Alpha does not count where it ``is_opaque``."""

    material: Material
    is_opaque: bool
    color: TexturePlace | None
    emission: TexturePlace | None


class Looks:
    """Reads the materials of a file, and each image once."""

    def __init__(self, file: Gltf, files: NamedFiles) -> None:
        self.file, self.files = file, files
        self._pixels = TexturePixels()
        self.read = cache(self._read)
        self._image = cache(self._decode)
        self._opaque_image = cache(self._decode_opaque)

    def _read(self, number: int | None) -> Look:
        """A material by its number; None is that of primitives that name none, which is white."""
        row = {} if number is None else pick(self.file.rows("materials"), number, "material")
        extensions = row.get("extensions", {})
        if "KHR_materials_pbrSpecularGlossiness" in extensions:
            surface = extensions["KHR_materials_pbrSpecularGlossiness"]
            factor, texture = surface.get("diffuseFactor"), surface.get("diffuseTexture")
        else:
            surface = row.get("pbrMetallicRoughness", {})
            factor, texture = surface.get("baseColorFactor"), surface.get("baseColorTexture")
        red, green, blue, alpha = np.clip(numbers_of(factor, (1.0, 1.0, 1.0, 1.0)), 0, 1).tolist()
        mode = row.get("alphaMode", "OPAQUE")
        if mode not in ("OPAQUE", "MASK", "BLEND"):
            raise ImpossibleError(f"the alphaMode of a material is {short(mode)}")
        is_opaque = mode == "OPAQUE"
        image, sampler, place = self._texture(texture, not is_opaque)
        if texture is not None and image is None and self.files.missing_files == "grey":
            return Look(GREY, True, None, None)
        is_unlit = "KHR_materials_unlit" in extensions
        strength = extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
        lamp_factor = np.clip(numbers_of(row.get("emissiveFactor"), (0.0, 0.0, 0.0)), 0, 1)
        emission = lamp_factor * min(max(strength, 0.0), BRIGHTEST)
        emits = emission.any() and not is_unlit
        lamp, lamp_sampler, lamp_place = self._texture(row.get("emissiveTexture") if emits else None, False)
        material = Material(
            color=(red, green, blue),
            texture=image,
            sampler=sampler,
            alpha=1.0 if is_opaque else alpha,
            cutoff=float(row.get("alphaCutoff", 0.5)) if mode == "MASK" else None,
            emission=(float(emission[0]), float(emission[1]), float(emission[2])) if emits else (0.0, 0.0, 0.0),
            emission_texture=lamp,
            emission_sampler=lamp_sampler,
            is_unlit=is_unlit,
        )
        return Look(material, is_opaque, place, lamp_place)

    def _texture(
        self, info: dict[str, Any] | None, has_alpha: bool
    ) -> tuple[NDArray[np.uint8] | None, Sampler, TexturePlace | None]:
        if info is None:
            return None, Sampler(), None
        texture = pick(self.file.rows("textures"), info.get("index"), "texture")
        row = pick(self.file.rows("samplers"), texture["sampler"], "sampler") if "sampler" in texture else {}
        sampler = Sampler((_wrap(row, "wrapS"), _wrap(row, "wrapT")), row.get("magFilter") == NEAREST)
        read = self._image if has_alpha else self._opaque_image
        return read(_image_of(texture)), sampler, _place(info)

    def _decode_opaque(self, number: int) -> NDArray[np.uint8] | None:
        """One array without alpha, whoever asks for it."""
        image = self._image(number)
        return None if image is None else image[..., :3]

    def _decode(self, number: int) -> NDArray[np.uint8] | None:
        """Pixels of an image; None where its file is missing, and that is no error."""
        image = pick(self.file.rows("images"), number, "image")
        try:
            if unquote(image.get("uri", "")) in self.files.missing:
                return None
            content = self.file.read_image(image)
            with open_picture(io.BytesIO(content)) as opened:
                self._pixels.add(opened, len(content))
                return decode_picture(opened)
        except BROKEN as error:
            name = image.get("uri", "data:")
            name = f"image {number}" if name.startswith("data:") else short(name)
            raise UsageError(f"{self.file.path}: its texture {name} cannot be read ({error}): restore it") from None


def _image_of(texture: dict[str, Any]) -> int:
    """Number of the image of a texture, in a form that is read."""
    extensions = texture.get("extensions", {})
    sources = [texture.get("source"), *(extensions.get(name, {}).get("source") for name in READ_IMAGES)]
    source = next((number for number in sources if number is not None), None)
    if source is None:
        unread = ", ".join(short(name).strip("'\"") for name, entry in extensions.items() if "source" in entry)
        if unread:
            raise ImpossibleError(f"a texture of it is there as {unread} only, which is not read")
        raise ImpossibleError("a texture of it has no image")
    return source


def _wrap(row: dict[str, Any], key: str) -> str:
    if row.get(key, 10497) not in WRAPS:
        raise ImpossibleError(f"the {key} of a sampler is {short(row[key])}")
    return WRAPS[row.get(key, 10497)]


def _place(info: dict[str, Any]) -> TexturePlace:
    transform = info.get("extensions", {}).get("KHR_texture_transform", {})
    coordinates = count_of(transform if "texCoord" in transform else info, "texCoord", 0)
    x, y = numbers_of(transform.get("offset"), (0.0, 0.0))
    width, height = numbers_of(transform.get("scale"), (1.0, 1.0))
    angle = float(transform.get("rotation", 0.0))
    cosine, sine = math.cos(angle), math.sin(angle)
    # Counter-clockwise as a picture is seen, whose v points down; the listing in the text of the extension turns it the
    # other way, against its words and all programs: github.com/KhronosGroup/glTF/issues/1563.
    matrix = [[cosine * width, sine * height, x], [-sine * width, cosine * height, y]]
    return TexturePlace(coordinates, np.array(matrix))
