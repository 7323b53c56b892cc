"""``scaled-ig export``: a pack to files that other programs read."""

from typing import Literal

from scaled_ig.commands import counted, listed
from scaled_ig.errors import UsageError


def export(
    pack: str,
    *,
    out: str,
    format: Literal["transforms", "nerfstudio"] = "transforms",
    scenes: list[str] | str | None = None,
) -> int:
    """Writes the scenes of a pack as folders of lossless images, each with a transforms.json.

    Examples:
        scaled-ig export data/mine --out files
        scaled-ig export data/mine --format nerfstudio --scenes car_1,car_2 --out files

    Args:
        pack: folder of the pack.
        out: folder to write, which must not be there or be empty; a scene's id is its path below it.
        format: transforms: cameras with OpenCV axes, as the key camera_convention says, and masks; packed again it is
            the same to the bit. nerfstudio: cameras with OpenGL axes, as nerfstudio, instant-ngp and Blender's readers
            take them, and lists of the images to train and to test on; no masks. Where pack --normalize had moved the
            cameras of photographs, they are where they were.
        scenes: ids of scenes with commas between, a JSON list, or a .txt file with one a line; all unless given.

    Returns:
        Exit code 0.
    """
    from pathlib import Path

    from data_modules.layout import PackIndex
    from data_modules.packing.export import export_transforms

    index = PackIndex.open(pack)
    try:
        count = export_transforms(
            index, Path(out), None if scenes is None else listed(scenes), nerfstudio=format == "nerfstudio"
        )
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--out {out} cannot be written ({reason}): name another folder, or make room") from None
    if format == "nerfstudio":
        without = ", without their masks" if index.masked.any() else ""
        print(f"{out}: {counted(count, 'scene')} with OpenGL axes{without}; a scene is a folder below it")
    else:
        print(f"{out}: {counted(count, 'scene')}; to pack them again: scaled-ig pack transforms {out} --out PACK")
    return 0
