"""``scaled-ig pack``: meshes or posed images to a pack."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from scaled_ig.commands import counted, say_next
from scaled_ig.distributed.cores import usable_cpus
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Angle, Count, Distance, Elevation, Range, Seed, checked

if TYPE_CHECKING:
    from data_modules.layout import PackIndex
    from data_modules.packing.scene_writer import RenderSettings
    from data_modules.packing.trial import Estimate
    from data_modules.sources.base import SceneSource


@dataclass(frozen=True)
class Format:
    """A format of scenes: its reader, ``module:class`` within ``data_modules.sources``, and the options of its own."""

    reader: str
    options: tuple[str, ...]
    is_rendered: bool


Side = Annotated[int, Range(1, 8192)]
"""Pixels along a side of views."""
POSED = ("camera_convention", "resolution", "normalize", "yaw", "masks", "category")
FORMATS = {
    "meshes": Format("meshes:MeshSource", ("category", "up", "yaw", "missing_files"), True),
    "shapenet": Format("shapenet:ShapeNetSource", ("synset", "up", "yaw", "missing_files"), True),
    "basel": Format("basel:BaselSource", ("scenes", "seed", "expression"), True),
    "colmap": Format("colmap:ColmapSource", POSED, False),
    "transforms": Format("transforms:TransformsSource", POSED, False),
    "srn": Format("srn:SrnSource", POSED, False),
    "eg3d": Format("eg3d:Eg3dSource", (*POSED, "views_per_scene"), False),
}
RENDER_OPTIONS = ("views", "resolution", "samples_per_pixel", "camera_distance", "azimuth", "elevation", "seed")
FACES = 2000
DECIDED_BY = {
    "option": "as --camera_convention says",
    "key": "as their files say",
    "format": "as {file} files are unless they say otherwise",
}
MASKS_FROM = {"alpha": "from alpha or mask files", "from_white": "from white", None: "none"}


@checked
def pack(
    source: Literal["meshes", "shapenet", "basel", "colmap", "transforms", "srn", "eg3d"],
    path: str,
    *,
    out: str,
    views: Count | None = None,
    resolution: Side | tuple[Side, Side] | None = None,
    samples_per_pixel: Annotated[int, Range(1, 4096)] | None = None,
    camera_distance: Distance | None = None,
    azimuth: tuple[Angle, Angle] | None = None,
    elevation: tuple[Elevation, Elevation] | None = None,
    seed: Seed | None = None,
    up: Literal["y", "z"] | None = None,
    yaw: Angle | None = None,
    missing_files: Literal["leave_out", "grey", "kd"] | None = None,
    synset: str | None = None,
    scenes: Count | None = None,
    expression: Annotated[float, Range(0, 1000)] | None = None,
    camera_convention: Literal["opencv", "opengl", "opencv_w2c", "opengl_w2c"] | None = None,
    normalize: bool = False,
    masks: Literal["auto", "none", "from_white"] | None = None,
    views_per_scene: Count | None = None,
    category: str | None = None,
    split: Literal["first", "every_tenth"] = "first",
    append: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    processes: Annotated[int, Range(1, 1024)] | None = None,
    memory_per_process: Annotated[float, Range(0, 1e6, without_low=True)] = 4.0,
    scene_timeout: Annotated[float, Range(0, 1e7, without_low=True)] = 300.0,
) -> int:
    """Turns meshes or posed images into a pack, the files that training reads.

    Examples:
        scaled-ig pack meshes MODELS --out data/mine --views 40
        scaled-ig pack colmap CAPTURES --resolution 128 --normalize --split every_tenth --out data/mine
        scaled-ig pack shapenet SHAPENET --out data/cars --dry-run

    Args:
        source: format of the scenes. meshes: OBJ, GLB, glTF or PLY files; shapenet: a ShapeNetCore tree; basel: a Basel
            Face Model file; colmap: folders with images/ and a model of COLMAP, binary or text; transforms: folders of
            images with a transforms.json; srn: folders with intrinsics.txt, pose/ and rgb/; eg3d: a folder or zip
            archive with dataset.json. The last four are posed images.
        path: folder of the scenes; for meshes also a JSON manifest, for basel the HDF5 file.
        out: folder of the pack. Repeating an interrupted call goes on where it stopped.
        views: views a scene; 160 unless given, faces 50.
        resolution: height and width of the views in pixels; 128 unless given. Posed images are cropped in their middle
            and resized, also to rows and columns that differ ('[96, 128]'), or copied as they are where it is not
            given.
        samples_per_pixel: rays a pixel, a square number; 16 unless given.
        camera_distance: distance of the cameras from the centre; the objects fill a ball of radius 0.5; 1.3 unless
            given.
        azimuth: lowest and highest azimuth in degrees, 0 is the front; all around unless given, faces -45
            to 45.
        elevation: lowest and highest elevation in degrees; 0 to 85 unless given, faces -20 to 30.
        seed: seed of the cameras, and of the faces drawn from the model; 0 unless given.
        up: meshes and shapenet only: axis of the files that points up; y unless given, or unless a manifest says.
        yaw: degrees about the vertical that bring the front to -Y; for meshes 0 unless given (the front is +Z in files
            with +Y up), for shapenet 180 (the front is -Z); for posed images only together with normalize.
        missing_files: meshes and shapenet only: what becomes of a mesh whose material or texture is missing. leave_out,
            the default, leaves it out; grey draws grey what misses its material or texture; kd, the default of
            shapenet, draws what misses its texture in the plain colour of its material.
        synset: shapenet only: WordNet id of the category; 02958343, cars, unless given.
        scenes: basel only: number of faces to draw; 2000 unless given.
        expression: basel only: scale of the expressions drawn; 0, neutral, unless given.
        camera_convention: posed images only: axes of all cameras, with _w2c for world-to-camera matrices; what their
            files say unless given.
        normalize: posed images only: turn, move and scale their world, so that up is +Z and the object fills the ball
            of radius 0.5 around the origin.
        masks: posed images only: which pixels the object covers. auto, the default, takes alpha and mask files where
            all images of a scene have them; from_white makes masks of scenes without them from what is not white, and
            leaves scenes without masks whose object is as white as its background; none leaves all without.
        views_per_scene: eg3d only: this many consecutive images are a scene; a folder is one unless given.
        category: meshes and posed images only: category of scenes whose files name none; car for srn, object for the
            others unless given.
        split: which tenth of a scene's views is held out for tests: the first, for views drawn at random, or every
            tenth, for captures whose neighbours are alike.
        append: add the scenes to the finished pack in out; those that are there already, of the same file, are passed
            over.
        strict: stop at the first scene that cannot be packed, instead of leaving it out.
        dry_run: try a few scenes and say how large the pack will be and how long it will take; write nothing.
        processes: worker processes; one a core unless given.
        memory_per_process: most memory of a worker process in GiB; a scene that needs more is left out. On Linux only.
        scene_timeout: most seconds that a worker process takes for a scene; a scene that takes longer is left out.

    Returns:
        Exit code 0.
    """
    from pathlib import Path

    from data_modules.packing.pack import write_pack
    from data_modules.packing.trial import try_scenes
    from data_modules.packing.workers import Workers

    chosen = {
        "views": views, "resolution": resolution, "samples_per_pixel": samples_per_pixel,
        "camera_distance": camera_distance, "azimuth": azimuth, "elevation": elevation, "seed": seed,
        "up": up, "yaw": yaw, "missing_files": missing_files, "synset": synset, "category": category, "scenes": scenes,
        "expression": expression,
        "camera_convention": camera_convention, "normalize": normalize or None, "masks": masks,
        "views_per_scene": views_per_scene,
    }  # fmt: skip
    chosen = {name: value for name, value in chosen.items() if value is not None}
    _refuse_idle_options(source, chosen)
    if processes is not None and processes < 1:
        raise UsageError(f"--processes {processes} must be positive")
    workers = Workers(processes or usable_cpus(), memory_per_process, scene_timeout)
    if not Path(path).exists():
        raise UsageError(f"{path} is not there: name the folder or file of the scenes")
    reader = _reader(source, Path(path).resolve(), chosen)
    render = _render_settings(reader, chosen)
    if dry_run:
        _say_estimate(try_scenes(reader, render, workers), workers.processes)
        return 0
    try:
        index = write_pack(reader, Path(out), render, split, workers, append=append, strict=strict)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--out {out} cannot be written ({reason}): name another folder, or make room") from None
    _say_summary(out, index)
    _say_held_out(index)
    _say_warnings(index)
    if render is None:
        records = list(_records(index, {scene.id for scene in reader.scenes()}))
        _say_masks(records)
        _say_cameras([record for _, record in records])
    say_next("check", out)
    return 0


def _refuse_idle_options(source: str, chosen: dict[str, Any]) -> None:
    form = FORMATS[source]
    for name in chosen:
        if name not in form.options + (RENDER_OPTIONS if form.is_rendered else ()):
            raise UsageError(f"--{name} has no effect on {source}: leave it out")
    if form.is_rendered and isinstance(chosen.get("resolution"), tuple):
        raise UsageError(
            f"--resolution {list(chosen['resolution'])}: {source} are rendered as squares: give one number"
        )


def _reader(source: str, path: Any, chosen: dict[str, Any]) -> SceneSource:
    module, _, name = FORMATS[source].reader.partition(":")
    reader = getattr(importlib.import_module(f"data_modules.sources.{module}"), name)
    arguments = {option: chosen[option] for option in FORMATS[source].options if option in chosen}
    if source == "basel":
        arguments["count"] = arguments.pop("scenes", FACES)
    return reader(path, **arguments)


def _render_settings(reader: SceneSource, chosen: dict[str, Any]) -> RenderSettings | None:
    from data_modules.packing.scene_writer import RenderSettings

    if reader.viewpoints is None:
        return None
    settings = {name: chosen[name] for name in RENDER_OPTIONS if name in chosen}
    return RenderSettings(**(asdict(reader.viewpoints) | settings))


def _say_estimate(estimate: Estimate, processes: int) -> None:
    for record in estimate.left_out:
        print(f"left out: {record['id']}: {record['reason']}")
    height, width = estimate.image_size
    print(
        f"{counted(estimate.scenes, 'scene')} × {counted(round(estimate.views), 'view')} of {height}×{width}: about "
        f"{_size(estimate.bytes)} and {_duration(estimate.seconds)} with {counted(processes, 'process', 'processes')} "
        f"({counted(estimate.tried, 'scene')} tried)"
    )


def _say_summary(out: str, index: PackIndex) -> None:
    size = _size(sum(shard.bytes for shard in index.shards))
    lost = f"; {len(index.left_out)} left out, see pack.json" if index.left_out else ""
    scenes, views = counted(index.num_scenes, "scene"), counted(index.offsets[-1], "view")
    print(f"{out}: {scenes}, {views}, {size} in {counted(len(index.shards), 'file')}{lost}")


def _say_held_out(index: PackIndex) -> None:
    held_out = [test for test, _ in index.held_out if test]
    if held_out:
        whose = f"the files of {counted(len(held_out), 'scene')} say"
        print(
            f"held out for tests: {counted(sum(held_out), 'view')}, as {whose}; --split is for scenes that do not say"
        )


def _say_warnings(index: PackIndex) -> None:
    """Each warning once, since one exporter makes thousands of files; the index says which scenes have it."""
    scenes: dict[str, list[str]] = {}
    for name, warnings in zip(index.scene_ids, index.warnings, strict=True):
        for warning in warnings:
            scenes.setdefault(warning, []).append(name)
    for warning, names in scenes.items():
        whose = names[0] if len(names) == 1 else f"{counted(len(names), 'scene')}, e.g. {names[0]}"
        print(f"warning: {whose}: {warning}")


def _records(index: PackIndex, scene_ids: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where scenes of a pack came from."""
    from data_modules.layout import read_source_records

    for shard in index.shards:
        ids = index.scene_ids[shard.first_scene : shard.last_scene]
        yield from (pair for pair in zip(ids, read_source_records(shard), strict=True) if pair[0] in scene_ids)


def _say_masks(records: list[tuple[str, dict[str, Any]]]) -> None:
    for name, record in records:
        if record.get("masks_refused"):
            print(f"no masks: {name}: {record['masks_refused']}")
    print(f"masks: {_listed(Counter(MASKS_FROM[record.get('masks')] for _, record in records))}; --masks overrides")


def _say_cameras(records: list[dict[str, Any]]) -> None:
    """Which axes the cameras were taken to have, and why: the one thing about images that no program can check."""
    said: Counter[str] = Counter()
    for record in records:
        reason = DECIDED_BY[record["camera_convention_from"]].format(file=record["file"].rpartition("/")[2])
        said[f"{record['camera_convention']} axes, {reason}"] += 1
    print(f"cameras: {_listed(said)}; --camera_convention overrides; look at the sheet that scaled-ig check draws")


def _listed(said: Counter[str]) -> str:
    parts = [text if len(said) == 1 else f"{text} ({counted(count, 'scene')})" for text, count in said.most_common()]
    return "; ".join(parts)


def _size(count: float) -> str:
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return counted(max(1, round(seconds)), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.0f} hours"
