"""Files that a mesh names: material libraries and textures, found however their names are spelt."""

import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.files import decode_text, require_inside, short
from data_modules.sources.pictures import BROKEN, TexturePixels, decode_picture, open_picture
from scaled_ig.errors import UsageError

MissingFiles = Literal["leave_out", "grey", "kd"]


class NamedFiles:
    """Finds what a mesh names within its folder, and decodes each texture once, whatever the number of its materials.

    Args:
        folder: in which all files of the model lie.
        missing_files: ``leave_out`` refuses a mesh that names a texture or material that is not there; ``grey`` draws
            grey what has it; ``kd`` refuses missing materials, and draws what misses a texture in its plain colour.

    Attributes:
        missing: textures and materials that are not there, where that is no error.
        blended: textures that libraries make of two, by library and names, and whether one of them is missing.
    """

    def __init__(self, folder: Path, missing_files: MissingFiles = "leave_out") -> None:
        self.folder, self.missing_files = folder, missing_files
        self.missing: list[str] = []
        self.blended: dict[tuple[Path, tuple[str, ...]], tuple[NDArray[np.uint8] | None, bool]] = {}
        self._pixels = TexturePixels()
        self._textures: dict[Path, NDArray[np.uint8]] = {}

    def find(self, name: str, named_by: Path) -> Path | None:
        """The file of a name, beside the file that names it or below; None where it is not there.

        Slashes of both kinds, quotes, other case, comments behind the name, and folders of the exporter's machine are
        forgiven.

        Raises:
            UsageError: it lies outside of the folder.
        """
        whole = name.strip().strip("\"'").replace("\\", "/").strip()
        bare = whole.partition(" #")[0].rstrip()
        for candidate in dict.fromkeys((whole, bare, PurePosixPath(whole).name, PurePosixPath(bare).name)):
            place = _place(named_by.parent, candidate)
            if place is not None:
                require_inside(place, self.folder, named_by)
                return place
        return None

    def report_missing(self, name: str, sentence: str, is_texture: bool) -> None:
        """Notes that a texture or material is not there.

        Raises:
            UsageError: the ``sentence``, where such meshes are left out.
        """
        if self.missing_files == "leave_out" or (self.missing_files == "kd" and not is_texture):
            raise UsageError(f"{sentence}: restore it, or have it drawn grey with --missing_files grey")
        if name not in self.missing:
            self.missing.append(name)

    def texture(self, name: str, named_by: Path) -> NDArray[np.uint8] | None:
        """Pixels of a texture, uint8 [h, w, 3 or 4], sRGB; None where it is not there and that is no error.

        Raises:
            UsageError: it is missing, broken, elsewhere, or claims more pixels than are read.
        """
        place = self.find(name, named_by)
        if place is None:
            self.report_missing(name, f"{named_by} names {short(name)}, which is not there", True)
            return None
        if place not in self._textures:
            self._textures[place] = read_texture(place, self._pixels)
        return self._textures[place]


def read_texture(path: Path, pixels: TexturePixels) -> NDArray[np.uint8]:
    """An image file as uint8 [h, w, 3], or [h, w, 4] where it has alpha.

    Args:
        path: the file.
        pixels: those of the mesh's textures so far.

    Raises:
        UsageError: the file is no image, or claims more pixels than are read.
    """
    try:
        with open_picture(path) as image:
            pixels.add(image, path.stat().st_size)
            return decode_picture(image)
    except BROKEN as error:
        raise UsageError(f"the texture {path} cannot be read ({error}): restore the file") from None


def _place(folder: Path, name: str) -> Path | None:
    place = folder
    try:
        for part in PurePosixPath(name).parts:
            exact = place / part
            if part != ".." and not exact.exists() and place.is_dir():
                alike = sorted(entry for entry in place.iterdir() if _spelling(entry.name) == _spelling(part))
                exact = alike[0] if alike else exact
            place = exact
        return place if place.is_file() else None
    except (OSError, ValueError):  # no file can have such a name
        return None


def _spelling(name: str) -> str:
    """A name without what differs between systems: case, composed letters, and bytes of another encoding."""
    return unicodedata.normalize("NFC", decode_text(os.fsencode(name))).casefold()
