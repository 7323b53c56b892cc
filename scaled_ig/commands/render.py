"""``scaled-ig render``: scenes of a bank from a circle of viewpoints, or from those of a file."""

from typing import TYPE_CHECKING, Annotated, Any

from scaled_ig.commands import counted, listed, say_next
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Angle, Count, Distance, Range, Width, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scaled_ig.bank.scene_bank import SceneBank
    from scaled_ig.cameras import Cameras

FILMS = (".mp4", ".gif")
KINDS = (*FILMS, ".png", ".npz")
MOST_SCENES = 24
AT_ONCE = 16  # views that a bar moves by


@checked
def render(
    bank: str,
    *,
    scenes: list[str] | str | None = None,
    out: str = "orbit.mp4",
    outputs: list[str] | str = "image",
    resolution: Width | tuple[Width, Width] | None = None,
    cameras: str | None = None,
    views: Count | None = None,
    elevation_degrees: Annotated[float, Range(-90, 90, without_low=True, without_high=True)] | None = None,
    azimuth_degrees: tuple[Angle, Angle] | None = None,
    distance: Distance | None = None,
    frames_per_second: Annotated[int, Range(1, 1000)] | None = None,
) -> int:
    """Renders scenes side by side while the camera goes round or along a path.

    Examples:
        scaled-ig render runs/mine --scenes car_1 --out orbit.mp4
        scaled-ig render runs/mine --scenes car_1,car_2 --elevation_degrees 10 --out grid.png
        scaled-ig render runs/mine --scenes car_1 --cameras path.json --resolution 256 --outputs image,depth,normals

    Args:
        bank: Folder of a bank, or of the run that wrote it.
        scenes: Ids of up to 24 scenes with commas between, a JSON list, or a .txt file with one a line; scenes of the
            newest version, spread over the bank, unless given.
        out: File to write: .mp4 or .gif for a film, .png for the views in a grid (one row a scene), .npz for arrays
            [scenes, views, rows, columns, channels] with the cameras.
        outputs: What to show, with commas between: image, depth (near is bright), opacity, normals (as colours). Each
            but the image goes into a file beside it, such as orbit-depth.mp4.
        resolution: Pixels of the shorter side, or [rows, columns]; as the scenes were trained unless given.
        cameras: A transforms.json, or a camera path of nerfstudio, with OpenGL axes; cameras go round unless given.
        views: Viewpoints of the circle; 60 for a film, 8 for a grid and for arrays unless given.
        elevation_degrees: Height of the circle over the horizon, between -90 and 90, not included; 27 unless given.
        azimuth_degrees: First and last angle around the vertical axis; less than a full turn swings there and back; 0
            and 360 unless given.
        distance: Of the circle from the scene's centre, world units; scenes have a radius of 0.5; 1.3 unless given.
        frames_per_second: Of a film; 20, or what the camera path says, unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: No bank, no such scene, or an option that cannot be.
    """
    from pathlib import Path

    from scaled_ig.bank.scene_bank import SceneBank, spread
    from scaled_ig.cameras import focal_of
    from scaled_ig.report.camera_files import CameraFile
    from scaled_ig.report.orbits import orbit_cameras

    path, names, is_film = Path(out), _names(outputs), Path(out).suffix.lower() in FILMS
    circle = {"views": views, "elevation_degrees": elevation_degrees, "azimuth_degrees": azimuth_degrees}
    _check(path, circle | {"distance": distance}, cameras, frames_per_second)
    file = None if cameras is None else CameraFile.read(Path(cameras))
    opened = SceneBank.open(bank)
    ids = spread(opened.newest(), MOST_SCENES) if scenes is None else _chosen(listed(scenes), bank)
    model = opened[ids[0]].model
    like = model.image_size if file is None else file.size
    size = _size(resolution, like, min(model.image_size), model.autoencoder.downsampling)
    model.at(size)  # which says what is wrong with it
    if file is None:
        count, around = views or (60 if is_film else 8), azimuth_degrees or (0.0, 360.0)
        elevation = 27.0 if elevation_degrees is None else elevation_degrees
        path_of_camera = orbit_cameras(count, elevation, around, distance or 1.3, focal_of(size))
    else:
        path_of_camera = file.cameras
    rate = frames_per_second or (file and file.frames_per_second) or 20
    rendered = _render(opened, ids, path_of_camera, size, names)
    for name, target in _write(path, names, rendered, path_of_camera, ids, rate):
        what = "" if name == "image" else f"{name} of "
        shown = ids[0] if len(ids) == 1 else counted(len(ids), "scene")
        print(f"{target}: {what}{shown}, {counted(len(path_of_camera), 'view')}")
    say_next("bank", "export", bank, "--format", "mesh", "--out", "MESHES")
    return 0


def _chosen(ids: list[str], bank: str) -> list[str]:
    """Each once; none, or more than fit side by side, are a mistake."""
    ids = list(dict.fromkeys(ids))
    if not 0 < len(ids) <= MOST_SCENES:
        raise UsageError(
            f"--scenes names {counted(len(ids), 'scene')}, and 1 to {MOST_SCENES} fit side by side: name fewer, or "
            f"scaled-ig bank export {bank} --format video writes a file of each"
        )
    return ids


def _names(outputs: list[str] | str) -> list[str]:
    """Names of outputs, each once; commas between, or a list."""
    names = outputs.strip("[]").split(",") if isinstance(outputs, str) else outputs
    return list(dict.fromkeys(name.strip() for name in names))


def _size(
    resolution: int | tuple[int, int] | None, like: tuple[int, int], shorter: int, factor: int
) -> tuple[int, int]:
    """Rows and columns: what is asked for, or the shape of ``like``, the longer side a multiple of ``factor``."""
    if isinstance(resolution, list | tuple):
        return resolution[0], resolution[1]
    side = shorter if resolution is None else resolution
    rows, columns = (
        side if length == min(like) else max(1, round(length * side / min(like) / factor)) * factor for length in like
    )
    return rows, columns


def _check(path: "Path", circle: dict[str, Any], cameras: str | None, frames_per_second: int | None) -> None:
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"--out {path} is no film and no picture: let it end with {', '.join(KINDS)}")
    idle = [f"--{name}" for name, value in circle.items() if value is not None]
    if cameras is not None and idle:
        raise UsageError(
            f"{', '.join(idle)} have no effect beside --cameras, which says where views are: leave them out"
        )
    if frames_per_second is not None and path.suffix.lower() not in FILMS:
        raise UsageError(f"--frames_per_second has no effect on {path}, which is no film: leave it out")
    if circle["distance"] is not None and circle["distance"] <= 0.5:
        raise UsageError(f"--distance {circle['distance']} stands inside the scene: give more than its radius, 0.5")


def _render(
    bank: "SceneBank", ids: list[str], cameras: "Cameras", size: tuple[int, int], names: list[str]
) -> dict[str, list[Any]]:
    """Of each output [views, channels, rows, columns], one scene after the other."""
    import torch

    from scaled_ig.progress import Progress

    rendered: dict[str, list[Any]] = {name: [] for name in names}
    with Progress(desc="views", total=len(ids) * len(cameras), unit="view", leave=False) as bar:
        for scene in map(bank.__getitem__, ids):
            parts = []
            for start in range(0, len(cameras), AT_ONCE):
                parts.append(scene.render(cameras[start : start + AT_ONCE], size, outputs=names))
                bar.update(len(cameras[start : start + AT_ONCE]))
            for name in names:
                rendered[name].append(torch.cat([part[name] for part in parts]))
    return rendered


def _write(
    path: "Path", names: list[str], rendered: dict[str, list[Any]], cameras: "Cameras", ids: list[str], rate: int
) -> "Iterator[tuple[str, Path]]":
    """Writes the files; says what each shows."""
    from scaled_ig.files import write_whole
    from scaled_ig.report import pictures

    if path.suffix.lower() == ".npz":
        write_whole(path, pictures.arrays(rendered, cameras, ids))
        yield "image" if names == ["image"] else ", ".join(names), path
        return
    for name in names:
        target = path if name == "image" else path.with_stem(f"{path.stem}-{name}")
        shown = [pictures.show(name, values, cameras) for values in rendered[name]]
        if path.suffix.lower() == ".png":
            columns = pictures.columns_of(len(cameras)) if len(ids) == 1 else len(cameras)
            write_whole(target, pictures.encode(pictures.mosaic([view for orbit in shown for view in orbit], columns)))
        else:
            pictures.write_film(target, pictures.film_frames(shown), rate)
        yield name, target
