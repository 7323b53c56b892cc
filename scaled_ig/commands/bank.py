"""``scaled-ig bank``: what a bank holds, whether it is whole, and changes of it."""

from typing import TYPE_CHECKING, Literal

from scaled_ig.commands import counted, listed, say_next
from scaled_ig.commands.bank_files import export as export
from scaled_ig.commands.bank_files import read as read
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Count, checked

if TYPE_CHECKING:
    from scaled_ig.commands.training_cli import TrainingCLI

SHOWN_LINES = 200


@checked
def info(bank: str, *, measure: bool = False, sample: Count | None = None, pack: str | None = None) -> int:
    """Says what a bank holds.

    Examples:
        scaled-ig bank info runs/mine
        scaled-ig bank info runs/mine --measure --sample 8

    Args:
        bank: folder of a bank, or of the run that wrote it.
        measure: also encode scenes of a run in every way, and measure them on their test views.
        sample: with measure, number of scenes of a version, spread evenly; 16 unless given.
        pack: with measure, folder of the pack, if it is no longer where the run read it.

    Returns:
        Exit code 0.

    Raises:
        UsageError: There is no bank, or it cannot be read or measured.
    """
    from scaled_ig.bank.changes import files_of
    from scaled_ig.bank.scene_bank import SceneBank

    opened = SceneBank.open(bank)
    folder = opened.path
    if (sample is not None or pack is not None) and not measure:
        raise UsageError("--sample and --pack have no effect without --measure: leave them out")
    total = sum((folder / name).stat().st_size for name in files_of(folder))
    print(f"{folder}: {counted(len(opened), 'scene')}, {counted(len(opened.versions), 'version')}, {total:,} bytes")
    rows = []
    for name, version in opened.versions.items():
        size, count = opened.record_bytes(name), version.num_scenes
        shared = folder / version.shared_file
        each = f"{size / count:,.0f}" if count else "–"
        rows.append(
            [
                name,
                f"{count:,}",
                version.encoding,
                each,
                f"{shared.stat().st_size:,}" if shared.is_file() else "missing",
                shared.name,
            ]
        )
    print(aligned(["version", "scenes", "encoding", "bytes a scene", "shared bytes", "shared file"], rows, "lrlrrl"))
    for origin, count in opened.origins().items():
        category, licence = origin.category or "no category", origin.licence or "no licence named"
        print(f"{counted(count, 'scene')}: {category}, {licence}")
    if measure:
        from scaled_ig.runs.encodings import measure_encodings

        heading = ["version", "encoding", "bytes a scene", "PSNR dB", "to float32"]
        rows = [
            [
                cost.version,
                cost.encoding,
                f"{cost.bytes_per_scene:,.0f}",
                f"{cost.psnr:.3f}",
                f"{cost.psnr_gain:+.4f}",
            ]
            for cost in measure_encodings(folder, sample or 16, pack)
        ]
        print(aligned(heading, rows, "llrrr"))
    say_next("bank", "verify", bank)
    return 0


def verify(bank: str) -> int:
    """Reads every byte of a bank, and says what is wrong.

    Examples:
        scaled-ig bank verify runs/mine

    Args:
        bank: folder of a bank, or of the run that wrote it.

    Returns:
        Exit code: 0 for a sound bank, 1 if there are findings.

    Raises:
        UsageError: There is no bank, or it cannot be read.
    """
    import time

    from scaled_ig.bank.scene_bank import SceneBank
    from scaled_ig.progress import Progress

    opened, begun = SceneBank.open(bank), time.perf_counter()
    folder = opened.path
    blocks = sum(path.stat().st_size for path in folder.glob("blocks/*"))
    with Progress(total=blocks, desc="verify", unit="B", unit_scale=True, leave=False) as bar:
        findings = opened.verify(bar.update)
    seconds = max(time.perf_counter() - begun, 1e-9)
    for finding in findings[:SHOWN_LINES]:
        print(finding)
    if len(findings) > SHOWN_LINES:
        print(f"and {len(findings) - SHOWN_LINES:,} more findings")
    verdict = counted(len(findings), "finding") if findings else "sound"
    size = f"{blocks / 1e6:,.1f} MB of records, {blocks / 1e6 / seconds:,.0f} MB/s"
    print(f"{folder}: {counted(len(opened), 'scene')}, {size}, {verdict}")
    if not findings:
        say_next("render", bank)
    return 1 if findings else 0


def remove(bank: str, *, scenes: list[str] | str) -> int:
    """Removes scenes.

    Examples:
        scaled-ig bank remove runs/mine --scenes car_1,car_2

    Args:
        bank: folder of a bank, or of the run that wrote it.
        scenes: their ids with commas between, a JSON list, or a .txt file with one a line.

    Returns:
        Exit code 0.

    Raises:
        UsageError: There is no bank, it cannot be changed, or it has no such scene.
    """
    from scaled_ig.bank.scene_bank import SceneBank

    opened = SceneBank.open(bank)
    folder = opened.path
    before = len(opened)
    opened.remove(listed(scenes))
    print(f"{folder}: {counted(before - len(opened), 'scene')} removed, {len(opened):,} left")
    say_next("bank", "verify", bank)
    return 0


def merge(
    bank: str,
    *,
    others: list[str] | str | None = None,
    encoding: Literal["float32", "bfloat16", "int8", "int8_difference"] | None = None,
) -> int:
    """Adds the scenes of other banks, encodes all scenes in another way, or both.

    Examples:
        scaled-ig bank merge all --others runs/one,runs/two
        scaled-ig bank merge runs/mine --encoding int8_difference

    Args:
        bank: folder of the bank, or of the run that wrote it; with others it need not be there.
        others: folders of the other banks or their runs, with commas between, or a JSON list.
        encoding: how all scenes are kept afterwards; each as it was unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: A bank is not there, it cannot be read or changed, or there is nothing to do.
    """
    from scaled_ig.bank.scene_bank import SceneBank
    from scaled_ig.progress import Progress

    if not others and not encoding:
        raise UsageError("bank merge needs --others, --encoding or both: scaled-ig bank merge --help says more")
    sources = [SceneBank.open(other).path for other in listed(others or [])]
    if not others:
        SceneBank.open(bank)  # there is nothing to make a new one of
    with Progress(desc="merge", unit="B", unit_scale=True, leave=False) as bar:
        merged = SceneBank.merge(bank, sources, encoding, bar.update)
    versions = ", ".join(f"{name} ({version.num_scenes:,})" for name, version in merged.versions.items())
    print(f"{merged.path}: {counted(len(merged), 'scene')} in {counted(len(merged.versions), 'version')}: {versions}")
    say_next("bank", "verify", bank)
    return 0


def refit(training: "TrainingCLI", run: str, *, scenes: list[str] | str, pack: str | None = None) -> int:
    """Learns scenes again, with what they share as it is.

    Options of scaled-ig fit may follow, such as --trainer.devices 4.

    Examples:
        scaled-ig bank refit runs/mine --scenes car_1,car_2

    Args:
        training: what trains.
        run: folder of the run.
        scenes: their ids with commas between, a JSON list, or a .txt file with one a line.
        pack: folder of the pack; the run's own unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: The bank or the pack has no such scene.
    """
    from scaled_ig.commands.add import refit_scenes

    return refit_scenes(training, run, listed(scenes), pack)


def aligned(heading: list[str], rows: list[list[str]], sides: str) -> str:
    """Lines of text in columns.

    Args:
        heading: Of the columns.
        rows: Of texts.
        sides: ``l`` or ``r`` for each column.
    """
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = []
    for row in (heading, *rows):
        cells = [
            text.ljust(w) if side == "l" else text.rjust(w) for text, w, side in zip(row, widths, sides, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
