"""Image files of posed views: as stored, eight bits, on white."""

import io
import struct
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from scaled_ig.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
READABLE = ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "I;16", "I;16B", "I")
# Pillow would run other programs for some formats, such as EPS.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TGA", "TIFF", "JPEG2000", "DDS", "PPM", "PCX", "SGI")
MOST_PIXELS = 8192 * 8192  # of an image; decoding takes up to 14 bytes a pixel
# Pillow's parsers raise all of these on broken files.
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)
MOST_TEXTURE_PIXELS = 1 << 27  # of all textures of a mesh
PIXELS_A_BYTE = 64  # a picture has fewer of them; what has more is one colour


def find_picture(path: Path) -> Path:
    """``path``, or where no such file is there the one with a suffix added; Blender's files leave it out."""
    if path.is_file():
        return path
    endings = [ending for suffix in SUFFIXES for ending in (suffix, suffix.upper())]
    candidates = (path.with_name(path.name + ending) for ending in endings if path.name)
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Opens an image; no pixel of it is decoded.

    Raises:
        OSError, or others of ``BROKEN``: the image is missing, broken, of another format, or claims too many pixels.
    """
    if isinstance(file, Path) and not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError("it is not there")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            # Of an open file Pillow asks for as many bytes as a broken one claims, and Python makes room for them.
            image = Image.open(io.BytesIO(file.read_bytes()) if isinstance(file, Path) else file, formats=FORMATS)
        except UnidentifiedImageError:
            raise OSError("it is no image of a known format") from None
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it claims {image.width}x{image.height} pixels, and {MOST_PIXELS:,} are the most")
    return image


class TexturePixels:
    """Counts the pixels of a mesh's textures before they are decoded: small files may claim more than memory holds."""

    def __init__(self) -> None:
        self.pixels, self.bytes = 0, 0

    def add(self, image: Image.Image, num_bytes: int) -> None:
        """One more image, and how many bytes its file has.

        Raises:
            ValueError: they are too many.
        """
        self.pixels += image.width * image.height
        self.bytes += num_bytes
        if self.pixels > max(MOST_TEXTURE_PIXELS, PIXELS_A_BYTE * self.bytes):
            raise ValueError(f"the textures claim {self.pixels:,} pixels together, more than their files can hold")


def read_picture(file: Path | IO[bytes], where: str) -> NDArray[np.uint8]:
    """Reads an image as it is stored: an EXIF orientation is ignored, since cameras belong to the stored pixels.

    Grey and palette images become RGB; of 16 bits the upper eight are kept.

    Args:
        file: image file or open stream.
        where: the file for the message.

    Returns:
        uint8 [h, w, 3], or [h, w, 4] where the image has an alpha channel or a transparent colour.

    Raises:
        UsageError: the image is missing, broken, or of another colour space such as CMYK.
    """
    try:
        with open_picture(file) as image:
            if image.mode not in READABLE:
                raise UsageError(f"the image {where} has the colour space {image.mode}: save it as RGB of 8 bits")
            return decode_picture(image)
    except UsageError:
        raise
    except BROKEN as error:
        raise UsageError(f"the image {where} cannot be read ({error}): restore it") from None


def is_turned(file: Path | IO[bytes]) -> bool:
    """Whether a readable image has an EXIF orientation that is not applied; Pillow applies that of TIFF files."""
    with open_picture(file) as image:
        try:
            return image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        except (*BROKEN, LookupError, TypeError, EOFError, struct.error):  # broken metadata tell nothing
            return False


def decode_picture(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an open image: uint8 [h, w, 3], or [h, w, 4] where it has an alpha channel or a transparent colour.

    Grey and palettes become RGB; of 16 bits the upper eight are kept; fractions are shares of white.

    Raises:
        OSError, or others of ``BROKEN``: the image is broken, or its values are beyond 16 bits, or 1.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        white = 1.0 if image.mode == "F" else 65535
        if not (values >= 0).all() or not (values <= white).all():
            raise ValueError(f"it has values below 0 or above {white}")
        grey = np.round(values * 255).astype(np.uint8) if image.mode == "F" else (values >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def read_mask(file: Path, where: str, is_coverage: bool = False) -> NDArray[np.uint8]:
    """A mask as alpha, uint8 [h, w]: 0 (black) is background.

    A mask of zeros and ones is scaled to 255, unless it ``is_coverage``, shares of 255 of each pixel, that must stay.

    Raises:
        UsageError: as ``read_picture``.
    """
    mask = read_picture(file, where)[..., 0]
    return mask * np.uint8(255) if mask.max() == 1 and not is_coverage else mask


def with_alpha(pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA, uint8 [h, w, 4], whose alpha is a mask [h, w]; of a mask and an alpha the lesser."""
    alpha = mask if pixels.shape[2] == 3 else np.minimum(mask, pixels[..., 3])
    return np.dstack([pixels[..., :3], alpha])


def split_alpha(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Blends RGBA on white; RGB is left as it is.

    Args:
        pixels: uint8 [h, w, 3 or 4].

    Returns:
        uint8 [h, w, 3], and alpha uint8 [h, w] or None.
    """
    if pixels.shape[2] == 3:
        return pixels, None
    alpha = pixels[..., 3:].astype(np.uint16)
    # The sum is at most 255 * 255 + 127; half of 255 is added, so that the division rounds to nearest.
    blended = (pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8), pixels[..., 3]
