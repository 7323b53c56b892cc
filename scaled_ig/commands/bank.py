"""``scaled-ig bank``: what a bank holds, whether it is whole, and changes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from scaled_ig.commands import counted
from scaled_ig.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SHOWN_LINES = 200


@dataclass(frozen=True)
class Action:
    """One thing to do with a bank.

    Args:
        do: Takes the bank's folder and the action's own options by name; returns an exit code.
        needs: Options that it cannot do without.
        takes: Further options.
    """

    do: Callable[..., int]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def bank(
    action: Literal["info", "verify", "remove", "merge"],
    bank: str,
    *,
    scenes: list[str] | str | None = None,
    others: list[str] | str | None = None,
    encoding: Literal["float32", "bfloat16", "int8", "int8_difference"] | None = None,
    measure: bool = False,
    sample: int | None = None,
    pack: str | None = None,
) -> int:
    """Looks at the scenes of a bank, verifies, removes, merges or shrinks them.

    Args:
        action: info: what the bank holds; verify: read every byte of it, and say what is wrong; remove: remove scenes;
            merge: add the scenes of other banks, encode all scenes in another way, or both; refit: learn scenes again,
            with options of its own, which scaled-ig bank refit --help lists.
        bank: folder of a bank, or of the run that wrote it; for merge it need not be there.
        scenes: remove only: ids of scenes with commas between, or a JSON list where ids have commas of their own.
        others: merge only: folders of the other banks or their runs, with commas between, or a JSON list.
        encoding: merge only: how all scenes are kept afterwards; each as it was unless given.
        measure: info only: also encode scenes of a run in every way, and measure them on their test views.
        sample: info only: with measure, number of scenes of a version, spread evenly; 16 unless given.
        pack: info only: with measure, folder of the pack, if it is no longer where the run read it.

    Returns:
        Exit code: 0 when done, 1 if verify has findings.

    Raises:
        UsageError: There is no bank, it cannot be read or changed, or the options do not fit the action.
    """
    given = {
        "scenes": _listed(scenes), "others": _listed(others), "encoding": encoding, "measure": measure or None,
        "sample": sample, "pack": pack,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    chosen = ACTIONS[action]
    for name in given:
        if name not in chosen.needs + chosen.takes:
            raise UsageError(f"--{name} has no effect on bank {action}: leave it out")
    for name in chosen.needs:
        if name not in given:
            raise UsageError(f"bank {action} needs --{name}: scaled-ig bank --help says more")
    from scaled_ig.bank.scene_bank import find_bank

    return chosen.do(find_bank(bank), **given)


def _listed(value: list[str] | str | None) -> list[str] | None:
    if isinstance(value, str):
        value = [part.strip() for part in value.removeprefix("[").removesuffix("]").split(",") if part.strip()]
    return value


def info(folder: Path, measure: bool = False, sample: int | None = None, pack: str | None = None) -> int:
    """What a bank holds."""
    from scaled_ig.bank.changes import files_of
    from scaled_ig.bank.scene_bank import SceneBank

    opened = SceneBank.open(folder)
    if (sample is not None or pack is not None) and not measure:
        raise UsageError("--sample and --pack have no effect without --measure: leave them out")
    if sample is not None and sample < 1:
        raise UsageError(f"--sample {sample} must be positive")
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
    if measure:
        from scaled_ig.runs.encodings import measure_encodings

        heading = ["version", "encoding", "bytes a scene", "PSNR dB", "to float32"]
        print(aligned(heading, measure_encodings(folder, sample or 16, pack), "llrrr"))
    return 0


def verify(folder: Path) -> int:
    """Whether a bank is whole."""
    import time

    from tqdm import tqdm

    from scaled_ig.bank.scene_bank import SceneBank

    opened, begun = SceneBank.open(folder), time.perf_counter()
    blocks = sum(path.stat().st_size for path in folder.glob("blocks/*"))
    with tqdm(total=blocks, desc="verify", unit="B", unit_scale=True, leave=False) as bar:
        findings = opened.verify(bar.update)
    seconds = max(time.perf_counter() - begun, 1e-9)
    for finding in findings[:SHOWN_LINES]:
        print(finding)
    if len(findings) > SHOWN_LINES:
        print(f"and {len(findings) - SHOWN_LINES:,} more findings")
    verdict = counted(len(findings), "finding") if findings else "sound"
    size = f"{blocks / 1e6:,.1f} MB of records, {blocks / 1e6 / seconds:,.0f} MB/s"
    print(f"{folder}: {counted(len(opened), 'scene')}, {size}, {verdict}")
    return 1 if findings else 0


def remove(folder: Path, scenes: list[str]) -> int:
    """Remove scenes."""
    from scaled_ig.bank.scene_bank import SceneBank

    opened = SceneBank.open(folder)
    before = len(opened)
    opened.remove(scenes)
    print(f"{folder}: {counted(before - len(opened), 'scene')} removed, {len(opened):,} left")
    return 0


def merge(folder: Path, others: list[str] | None = None, encoding: Any = None) -> int:
    """Add the scenes of other banks, encode all scenes in another way, or both."""
    from tqdm import tqdm

    from scaled_ig.bank.scene_bank import SceneBank, find_bank

    if not others and not encoding:
        raise UsageError("bank merge needs --others, --encoding or both: scaled-ig bank --help says more")
    sources = [SceneBank.open(find_bank(other)) for other in others or []]
    if not others:
        SceneBank.open(folder)  # there is nothing to make a new one of
    with tqdm(desc="merge", unit="B", unit_scale=True, leave=False) as bar:
        merged = SceneBank.merge(folder, [source.path for source in sources], encoding, bar.update)
    versions = ", ".join(f"{name} ({version.num_scenes:,})" for name, version in merged.versions.items())
    print(f"{folder}: {counted(len(merged), 'scene')} in {counted(len(merged.versions), 'version')}: {versions}")
    return 0


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


ACTIONS = {
    "info": Action(info, takes=("measure", "sample", "pack")),
    "verify": Action(verify),
    "remove": Action(remove, needs=("scenes",)),
    "merge": Action(merge, takes=("others", "encoding")),
}
