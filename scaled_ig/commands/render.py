"""``scaled-ig render``: scenes of a bank from a circle of viewpoints."""

import re
from typing import TYPE_CHECKING, Annotated

from scaled_ig.commands import counted
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Angle, Count, Distance, Range, checked

if TYPE_CHECKING:
    from scaled_ig.bank.scene_bank import SceneBank

KINDS = (".mp4", ".gif", ".png")
MOST_SCENES = 24


@checked
def render(
    bank: str,
    *,
    scene: str | None = None,
    out: str = "orbit.mp4",
    views: Count | None = None,
    elevation_degrees: Annotated[float, Range(-90, 90, without_low=True, without_high=True)] = 27.0,
    azimuth_degrees: tuple[Angle, Angle] = (0.0, 360.0),
    distance: Distance = 1.3,
    frames_per_second: Annotated[int, Range(1, 1000)] = 20,
) -> int:
    """Renders a scene, or many side by side, while the camera goes round.

    Examples:
        scaled-ig render runs/mine --scene car_1 --out orbit.mp4
        scaled-ig render runs/mine --elevation_degrees 10 --out grid.png

    Args:
        bank: Folder of a bank, or of the run that wrote it.
        scene: Id of a scene; up to 24 scenes of the newest version, spread over the bank, side by side where it is
            not given.
        out: File to write: .mp4 or .gif for a film, .png for the views in a grid (one row a scene).
        views: Viewpoints; 60 for a film, 8 for a grid where it is not given.
        elevation_degrees: Height of the camera over the horizon, between -90 and 90, not included.
        azimuth_degrees: First and last angle around the vertical axis; less than a full turn swings there and back.
        distance: Of the camera from the scene's centre, world units; scenes have a radius of 0.5.
        frames_per_second: Of a film.

    Returns:
        Exit code 0.

    Raises:
        UsageError: No bank, no such scene, or an option that cannot be.
    """
    from pathlib import Path

    from scaled_ig.bank.scene_bank import SceneBank, find_bank, spread
    from scaled_ig.cameras import focal_of
    from scaled_ig.files import write_whole
    from scaled_ig.progress import Progress
    from scaled_ig.report import pictures
    from scaled_ig.report.orbits import orbit_cameras

    path = Path(out)
    is_grid = path.suffix.lower() == ".png"
    count = (8 if is_grid else 60) if views is None else views
    _check(path, distance)
    opened = SceneBank.open(find_bank(bank))
    ids = spread(_newest(opened), MOST_SCENES) if scene is None else [scene]
    focal = focal_of(opened[ids[0]].model.image_size)
    cameras = orbit_cameras(count, elevation_degrees, azimuth_degrees, distance, focal)
    orbits = list(Progress(pictures.render_orbits(opened, ids, cameras), "scenes", len(ids), unit="scene", leave=False))
    if is_grid:
        columns = pictures.columns_of(count) if len(ids) == 1 else count
        grid = pictures.mosaic([view for orbit in orbits for view in orbit], columns)
        write_whole(path, pictures.encode(grid))
    else:
        pictures.write_film(path, pictures.film_frames(orbits), frames_per_second)
    print(f"{path}: {ids[0] if len(ids) == 1 else f'{len(ids)} scenes'}, {counted(count, 'view')}")
    return 0


def _check(path, distance: float) -> None:
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"--out {path} is no film and no picture: let it end with {', '.join(KINDS)}")
    if distance <= 0.5:
        raise UsageError(f"--distance {distance} stands inside the scene: give more than its radius, 0.5")


def _newest(bank: "SceneBank") -> list[str]:
    """Ids of the scenes of the version that was written last, or of all waves where it is one of them."""
    records = bank.scenes()
    if not records:
        raise UsageError("the bank holds no scenes: finish a phase of training first")
    newest = _without_wave(records[-1].version)
    return [record.id for record in records if _without_wave(record.version) == newest]


def _without_wave(version: str) -> str:
    return re.sub(r"-\d{4,}$", "", version)
