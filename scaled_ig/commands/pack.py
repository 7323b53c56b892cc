"""``scaled-ig pack``: meshes or posed images to a pack."""

import os
from typing import TYPE_CHECKING, Any, Literal

from scaled_ig.errors import UsageError

if TYPE_CHECKING:
    from data_modules.pack import RenderSettings
    from data_modules.sources.base import SceneSource

SOURCE_OPTIONS = {
    "meshes": ("category",),
    "shapenet": ("synset",),
    "basel": ("scenes",),
    "transforms": ("category", "camera_convention"),
}
RENDER_OPTIONS = ("views", "resolution", "samples_per_pixel", "camera_distance", "azimuth", "elevation", "seed")


def pack(
    source: Literal["meshes", "shapenet", "basel", "transforms"],
    path: str,
    *,
    out: str,
    views: int | None = None,
    resolution: int | None = None,
    samples_per_pixel: int | None = None,
    camera_distance: float | None = None,
    azimuth: tuple[float, float] | None = None,
    elevation: tuple[float, float] | None = None,
    seed: int | None = None,
    synset: str | None = None,
    scenes: int | None = None,
    camera_convention: Literal["opencv", "opengl"] | None = None,
    category: str | None = None,
    split: Literal["first", "every_tenth"] = "first",
    processes: int | None = None,
) -> int:
    """Turns meshes or posed images into a pack, the files that training reads.

    Args:
        source: format of the scenes. meshes: OBJ, GLB, glTF or PLY files; shapenet: a ShapeNetCore tree; basel: a Basel
            Face Model file; transforms: folders of images with a transforms.json.
        path: folder of the scenes; for meshes also a JSON manifest, for basel the HDF5 file.
        out: folder of the pack. Repeating an interrupted call goes on where it stopped.
        views: views a scene; 160 unless given, faces 50.
        resolution: height and width of the views in pixels; 128 unless given.
        samples_per_pixel: rays a pixel, a square number; 16 unless given.
        camera_distance: distance of the cameras from the centre; the objects fill a ball of radius 0.5; 1.3 unless
            given.
        azimuth: lowest and highest azimuth in degrees, 0 is the front; all around unless given, faces -45
            to 45.
        elevation: lowest and highest elevation in degrees; 0 to 85 unless given, faces -20 to 30.
        seed: seed of the cameras, and of the faces drawn from the model; 0 unless given.
        synset: shapenet only: WordNet id of the category; 02958343, cars, unless given.
        scenes: basel only: number of faces to draw; 2000 unless given.
        camera_convention: transforms only: axes of all cameras; by the files' keys and names unless given.
        category: meshes and transforms only: category of scenes whose files name none; object unless given.
        split: which tenth of a scene's views is held out for tests: the first, for views drawn at random, or every
            tenth, for captures whose neighbours are alike.
        processes: worker processes; one a core unless given.

    Returns:
        Exit code 0.
    """
    from pathlib import Path

    from data_modules.pack import write_pack

    given = {
        "views": views, "resolution": resolution, "samples_per_pixel": samples_per_pixel,
        "camera_distance": camera_distance, "azimuth": azimuth, "elevation": elevation, "seed": seed,
        "synset": synset, "scenes": scenes, "camera_convention": camera_convention, "category": category,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    _refuse_idle_options(source, given)
    if processes is not None and processes < 1:
        raise UsageError(f"--processes {processes} must be positive")
    if not Path(path).exists():
        raise UsageError(f"{path} is not there: name the folder or file of the scenes")
    reader = _reader(source, path, given)
    index = write_pack(reader, Path(out), _render_settings(reader, given), split, processes or os.cpu_count() or 1)
    size = sum(shard.bytes for shard in index.shards) / 2**20
    print(f"{out}: {index.num_scenes} scenes, {index.offsets[-1]} views, {size:.1f} MiB in {len(index.shards)} files")
    return 0


def _refuse_idle_options(source: str, given: dict[str, Any]) -> None:
    known = SOURCE_OPTIONS[source] if source == "transforms" else SOURCE_OPTIONS[source] + RENDER_OPTIONS
    for name in given:
        if name not in known:
            raise UsageError(f"--{name} has no effect on {source}: leave it out")


def _reader(source: str, path: str, given: dict[str, Any]) -> "SceneSource":
    from pathlib import Path

    from data_modules.sources.basel import BaselSource
    from data_modules.sources.meshes import MeshSource
    from data_modules.sources.shapenet import ShapeNetSource
    from data_modules.sources.transforms import TransformsSource

    own = {name: given[name] for name in SOURCE_OPTIONS[source] if name in given}
    if source == "meshes":
        return MeshSource(Path(path), **own)
    if source == "shapenet":
        return ShapeNetSource(Path(path), **own)
    if source == "transforms":
        return TransformsSource(Path(path), **own)
    return BaselSource(Path(path), given.get("scenes", 2000), given.get("seed", 0))


def _render_settings(reader: "SceneSource", given: dict[str, Any]) -> "RenderSettings | None":
    from dataclasses import asdict

    from data_modules.pack import RenderSettings

    if reader.viewpoints is None:
        return None
    chosen = {name: given[name] for name in RENDER_OPTIONS if name in given}
    return RenderSettings(**(asdict(reader.viewpoints) | chosen))
