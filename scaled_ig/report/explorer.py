"""One page that shows a pack: its scenes, its cameras, its files, and what the check found."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.checking.check import CheckResult
from data_modules.checking.findings import SceneReport, printable
from data_modules.checking.scene import THUMBNAIL
from data_modules.layout import split_views
from scaled_ig.files import write_whole
from scaled_ig.report import explorer_figures as page
from scaled_ig.report.explorer_cameras import cameras_section
from scaled_ig.report.explorer_figures import DASH, TIMES

MOST_THUMBNAILS = 2000
SPRITE_COLUMNS, SPRITE_ROWS = 25, 20
MOST_GROUPS = 12
MOST_LINES = 5000
STYLE = """<style>
.gallery { max-height: 860px; overflow-y: auto; border: 1px solid var(--rule); border-radius: 10px;
  padding: 4px 18px 18px; margin-top: 16px; }
.gallery h3 { margin: 18px 0 8px; }
.gallery h3 small { font-weight: 400; color: var(--soft); }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(90px, 1fr)); gap: 16px 10px; }
.thumb { min-width: 0; font-size: 11.5px; line-height: 1.35; color: var(--soft); }
.thumb i { display: block; width: 72px; height: 72px; border-radius: 6px; outline: 1px solid #eef1f4;
  margin-bottom: 4px; background-color: var(--wash); }
.thumb b { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden;
  overflow-wrap: anywhere; font-weight: 550; line-height: 1.25; color: var(--ink); }
.thumb.bad i { outline: 2px solid #c2255c; }
.thumb.bad b { color: #a61e4d; }
.frusta-row { display: grid; grid-template-columns: repeat(3, 1fr); gap: 24px; margin-top: 12px;
  align-items: end; }
.frusta-row svg { display: block; width: 100%; height: auto; }
.frusta-row div { text-align: center; font-size: 13px; color: var(--soft); overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 26px 40px; margin-top: 26px; }
.charts svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
svg .name { font-weight: 600; fill: #1b1f24; }
svg .tick { fill: #57606a; }
svg .axis { font-weight: 650; font-size: 11.5px; text-anchor: middle; paint-order: stroke; stroke: #fff;
  stroke-width: 3px; stroke-linejoin: round; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 5px 0 0; }
.findings { list-style: none; margin: 16px 0 0; padding: 0; max-height: 640px; overflow-y: auto; }
.findings li { border-left: 3px solid #c2255c; padding: 2px 0 2px 14px; margin: 0 0 12px; font-size: 14.5px;
  overflow-wrap: anywhere; }
.findings li.old { border-color: #c8cdd2; }
.findings b { font-weight: 620; }
.findings span { display: block; color: var(--soft); font-size: 13.5px; }
@media (max-width: 760px) { .frusta-row, .charts { grid-template-columns: 1fr; } }
</style>"""


def write_explorer(result: CheckResult, path: Path) -> None:
    """Writes the page.

    Args:
        result: of a check that was asked for thumbnails of up to ``MOST_THUMBNAILS`` scenes, and to show some.
        path: of the page, one file without any address.
    """
    title = result.index.path.resolve().name
    parts = [STYLE, header(result, title), numbers(result), findings(result), scenes(result), cameras_section(result)]
    write_whole(path, page.html_page(f"{title}: pack", [*parts, origins(result), files(result), left_out(result)]))


def header(result: CheckResult, title: str) -> str:
    """Name, how much there is, and the verdict."""
    index = result.index
    height, width = index.image_size
    count = len(result.findings)
    verdict = f"{count:,} finding{'s' * (count != 1)}" if count else "nothing is wrong with it"
    return "\n".join(
        [
            page.paragraph(f"scaled-ig · pack {title}", "eyebrow"),
            f"<h1>{index.num_scenes:,} scenes, {int(index.offsets[-1]):,} views</h1>",
            page.paragraph(f"Views of {height} {TIMES} {width} pixels. Every byte was read: {verdict}.", "lead"),
        ]
    )


def numbers(result: CheckResult) -> str:
    """Four numbers, and the categories."""
    index = result.index
    size = sum(shard.bytes for shard in index.shards)
    splits = [split_views(views, index.split_rule) for views in index.num_views.tolist()]
    train, test = (sum(len(split[part]) for split in splits) for part in (0, 1))
    low, high = int(index.num_views.min()), int(index.num_views.max())
    each = f"{low}" if low == high else f"{low} {DASH} {high}"
    return page.tiles(
        [
            (f"{index.num_scenes:,}", "scenes", f"{_sound(result)}; {_categories(result)}; {_masked(result)}"),
            (each, "views", "a scene" if low == high else f"a scene, {np.median(index.num_views):g} at the median"),
            (f"{train:,}", "views", f"to train on, and {test:,} held out for tests (rule {index.split_rule})"),
            (
                f"{size / 2**20:,.1f}",
                "MiB",
                f"in {_files(len(index.shards))}, {size / index.num_scenes / 1024:,.0f} KiB a scene",
            ),
        ]
    )


def _masked(result: CheckResult) -> str:
    count, every = int(result.index.masked.sum()), result.index.num_scenes
    return "all with masks" if count == every else f"{count:,} with masks" if count else "without masks"


def _files(count: int) -> str:
    return f"{count:,} files" if count > 1 else "1 file"


def _sound(result: CheckResult) -> str:
    return f"{result.num_sound:,} of them sound" if result.reasons else "all of them sound"


def _categories(result: CheckResult) -> str:
    counts = Counter(map(printable, result.index.categories)).most_common()
    if len(counts) == 1:
        return f"category {counts[0][0]}"
    text = ", ".join(f"{count:,} {name}" for name, count in counts[:3])
    return text + (f" and {len(counts) - 3} more categories" if len(counts) > 3 else "")


def findings(result: CheckResult) -> str:
    """All lines of the check."""
    lines = [
        f"<li><b>{page.escape(printable(finding.file if finding.scene is None else finding.scene))}</b> "
        f"{page.escape(printable(finding.text))}<span>{page.escape(finding.file)}: {page.escape(finding.remedy)}"
        "</span></li>"
        for finding in result.findings[:MOST_LINES]
    ]
    if len(result.findings) > MOST_LINES:
        lines.append(f"<li>and {len(result.findings) - MOST_LINES:,} more</li>")
    return page.section("Findings", f'<ul class="findings">{"".join(lines)}</ul>') if lines else ""


def left_out(result: CheckResult) -> str:
    """Scenes that are not in the pack."""
    lines = [
        f'<li class="old"><b>{page.escape(printable(scene["id"]))}</b>'
        f"<span>{page.escape(printable(scene['reason']))}</span></li>"
        for scene in result.index.left_out
    ]
    title = f"Left out: {len(lines):,} scene{'s' * (len(lines) != 1)}"
    return page.section(title, f'<ul class="findings">{"".join(lines)}</ul>') if lines else ""


def scenes(result: CheckResult) -> str:
    """A small picture of every scene, by category."""
    index = result.index
    pictured = [report for report in result.reports.values() if report.thumbnail is not None]
    shown = sorted({report.scene for report in pictured} | (set(result.reasons) - result.reports.keys()))
    if index.num_scenes <= MOST_THUMBNAILS:
        shown = list(range(index.num_scenes))
    place = {report.scene: number for number, report in enumerate(pictured)}
    groups: dict[str, list[int]] = {}
    for scene in shown:
        groups.setdefault(index.categories[scene], []).append(scene)
    if len(groups) > MOST_GROUPS:
        groups = {"": shown}
    said = (
        f"{len(shown):,} of {index.num_scenes:,} scenes, spread evenly"
        if len(shown) < index.num_scenes
        else "All scenes"
    )
    parts = []
    for name, members in groups.items():
        head = (
            f"<h3>{page.escape(printable(name))} <small>{len(members):,}</small></h3>"
            if len(groups) > 1
            else "<h3></h3>"
        )
        parts.append(head + f'<div class="thumbs">{"".join(_thumb(result, scene, place) for scene in members)}</div>')
    marked = "; a red frame marks those with findings" if result.reasons else ""
    note = f"{said}. Of each, the view nearest to the front, right and above{marked}."
    return page.section(
        "Scenes", page.paragraph(note, "note"), *_sprites(pictured), f'<div class="gallery">{"".join(parts)}</div>'
    )


def _thumb(result: CheckResult, scene: int, place: dict[int, int]) -> str:
    name, style, kind = page.escape(printable(result.index.scene_ids[scene])), "", ""
    if scene in place:
        sheet, cell = divmod(place[scene], SPRITE_COLUMNS * SPRITE_ROWS)
        row, column = divmod(cell, SPRITE_COLUMNS)
        kind, style = f' class="s{sheet}"', f' style="background-position:-{column * THUMBNAIL}px -{row * THUMBNAIL}px"'
    bad = " bad" if scene in result.reasons else ""
    views = f"{result.index.num_views[scene]} views"
    return f'<div class="thumb{bad}" title="{name}"><i{kind}{style}></i><b>{name}</b>{views}</div>'


def _sprites(pictured: Sequence[SceneReport]) -> Iterator[str]:
    """Sheets of thumbnails as styles; a few hundred pictures in one are smaller than each for itself."""
    each = SPRITE_COLUMNS * SPRITE_ROWS
    for sheet in range(-(-len(pictured) // each)):
        own = [np.asarray(report.thumbnail) for report in pictured[sheet * each : (sheet + 1) * each]]
        canvas = Image.new("RGB", (SPRITE_COLUMNS * THUMBNAIL, -(-len(own) // SPRITE_COLUMNS) * THUMBNAIL), "white")
        for number, thumbnail in enumerate(own):
            row, column = divmod(number, SPRITE_COLUMNS)
            canvas.paste(Image.fromarray(thumbnail), (column * THUMBNAIL, row * THUMBNAIL))
        stream = io.BytesIO()
        canvas.save(stream, "JPEG", quality=84, subsampling=0, optimize=True)
        content = base64.b64encode(stream.getvalue()).decode()
        yield f"<style>.s{sheet} {{ background-image: url(data:image/jpeg;base64,{content}); }}</style>"


def origins(result: CheckResult) -> str:
    """Licences and camera conventions, with counts of scenes."""
    records = [report.record for report in result.reports.values()]
    licences = Counter(str(record.get("license") or "not named") for record in records)
    read = Counter(_convention(record) for record in records)
    columns = [
        page.table([title, "scenes"], [[printable(name), f"{count:,}"] for name, count in counts.most_common()])
        for title, counts in (("licence", licences), ("cameras", read))
    ]
    return (
        page.section("Origins", f'<div class="columns"><div>{columns[0]}</div><div>{columns[1]}</div></div>')
        if records
        else ""
    )


def _convention(record: dict[str, object]) -> str:
    convention = record.get("camera_convention")
    if convention is None:
        return "made by the renderer"
    chosen_by = {"option": "by --camera_convention", "key": "by the file's key", "format": "by the format's rule"}
    by = chosen_by.get(str(record.get("camera_convention_from")), "")
    return f"read as {convention}" + (f", {by}" if by else "")


def files(result: CheckResult) -> str:
    """Every file with its size and its scenes."""
    rows = []
    for shard in result.index.shards:
        members = range(shard.first_scene, shard.last_scene)
        sound = sum(scene not in result.reasons for scene in members)
        views = shard.last_view - shard.first_view
        rows.append(
            [shard.path.name, shard.sha256[:12], f"{shard.bytes:,}", f"{len(members):,}", f"{sound:,}", f"{views:,}"]
        )
    return page.section("Files", page.table(["file", "sha256", "bytes", "scenes", "sound", "views"], rows, words=2))
