"""``scaled-ig check``: is a pack whole, and does it look right?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from scaled_ig.commands import counted, say_next
from scaled_ig.errors import UsageError
from scaled_ig.files import write_whole
from scaled_ig.ranges import Range, checked

if TYPE_CHECKING:
    from data_modules.checking.check import CheckResult

SHOWN_LINES = 200
FAST_SCENES, FAST_SIZE = 24, (128, 128)
"""Of both stages of recipes/fast.yaml, and of its images."""


@checked
def check(
    pack: str,
    *,
    sheet: str | None = None,
    sheet_scenes: Annotated[int, Range(1, 1000)] = 24,
    fix_drop: bool = False,
    out: str | None = None,
) -> int:
    """Verifies a pack, says what is wrong with it, and draws a contact sheet with the world's axes.

    Objects shall stand with their top to Z (blue) and their back to Y (green).

    Examples:
        scaled-ig check data/mine
        scaled-ig check data/mine --fix-drop --out data/sound

    Args:
        pack: folder of the pack.
        sheet: PNG file of the contact sheet; contact_sheet.png in the pack unless given. More than 200 findings, of
            which the screen shows the first, are written to findings.txt beside it.
        sheet_scenes: most scenes on the contact sheet, spread over the pack. Up to 24 of them have six views each, more
            have one.
        fix_drop: also write a pack without the scenes that have findings, to the folder that --out names.
        out: with fix_drop, folder of that new pack; empty, or not there.

    Returns:
        Exit code: 0 for a sound pack, 1 if there are findings. A pack that cannot be opened raises ``UsageError``,
        which ends the program with code 2.
    """
    from data_modules.checking.check import check_pack
    from data_modules.checking.contact_sheet import draw_contact_sheet, spread_scenes
    from data_modules.layout import PackIndex
    from data_modules.packing.folder import require_empty
    from data_modules.streaming.stages import both_stages

    if fix_drop != (out is not None):
        raise UsageError("--fix-drop and --out go together: name the folder of the new pack, or leave out both")
    if out is not None:
        require_empty(Path(out))
    index = PackIndex.open(pack)
    shown = spread_scenes(index.num_scenes, sheet_scenes)
    result = check_pack(index, shown)
    path, drawn = Path(sheet) if sheet is not None else Path(pack) / "contact_sheet.png", ""
    try:  # every byte was read for the verdict: nothing that cannot be written shall cost it, or the new pack
        try:
            _print_findings(result, path.parent / "findings.txt")
        finally:
            if out is not None:
                _drop(result, out)
            draw_contact_sheet(result, path, shown)
            drawn = f"; {path}"
    finally:
        print(f"{pack}: {_summary(result)}{drawn}")
    if not result.findings:
        few = both_stages(index).split() if len(set(index.shapes)) >= 2 and index.num_scenes < FAST_SCENES else []
        say_next("fit", "--preset", "fast", "--data.path", pack, *few, *_size(index.image_size), "--run_dir", "RUN")
    return 1 if result.findings else 0


def _size(image_size: tuple[int, int]) -> list[str]:
    """What the recipe must be told where views have another size than its images."""
    height, width = image_size
    shown = str(height) if height == width else f"[{height},{width}]"
    return [] if image_size == FAST_SIZE else ["--scene.resolution", shown]


def _print_findings(result: "CheckResult", path: Path) -> None:
    """Prints the first findings, and writes all of them to a file where there are more."""
    for finding in result.findings[:SHOWN_LINES]:
        print(finding)
    more = len(result.findings) - SHOWN_LINES
    if more > 0:
        try:
            write_whole(path, "".join(f"{finding}\n" for finding in result.findings))
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"{path} cannot be written ({reason}): name another folder with --sheet") from None
        print(f"and {more:,} more finding{'s' * (more > 1)}, all of them in {path}")


def _drop(result: "CheckResult", out: str) -> None:
    from data_modules.checking.drop import write_sound_scenes

    try:
        kept = write_sound_scenes(result, Path(out))
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--out {out} cannot be written ({reason}): name another folder, or make room") from None
    scenes, views = counted(result.index.num_scenes, "scene"), counted(kept.offsets[-1], "view")
    print(f"{out}: {kept.num_scenes} of {scenes}, {views}")


def _summary(result: "CheckResult") -> str:
    index = result.index
    height, width = index.image_size
    count, lost = len(result.findings), index.num_scenes - result.num_sound
    verdict = f"{counted(count, 'finding')}, {counted(lost, 'scene')} not sound" if count else "sound"
    left_out = f", {len(index.left_out)} left out when packed" if index.left_out else ""
    warned = sum(map(bool, index.warnings))
    warnings = f", {counted(warned, 'scene')} with warnings when packed" if warned else ""
    views = f"{counted(index.offsets[-1], 'view')} of {height}x{width} pixels"
    return f"{counted(index.num_scenes, 'scene')}, {views}, {verdict}{left_out}{warnings}"
