"""The parts of the page, in its order: each a function from what was measured to HTML."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scaled_ig.report import figures, page, pictures
from scaled_ig.report.comparison import Contender
from scaled_ig.report.page import DASH, TIMES, signed
from scaled_ig.report.views import ERROR_GAIN, ViewRow
from scaled_ig.runs.record import RunRecord

STAGE_NAMES = {1: "S1 (stage 1)", 2: "S2 (stage 2)"}


def number(value: float | None, digits: int = 2, missing: str = DASH) -> str:
    """A number for a table."""
    return missing if value is None else f"{value:,.{digits}f}"


def header(run: RunRecord, machine: str, lines: Sequence[str]) -> str:
    """Title, what was run, when and on what, and the commands that do it again."""
    counts = {stage: len(run.scenes(stage)) for stage in run.stages()}
    finished = datetime.fromtimestamp((run.folder.path / "costs.json").stat().st_mtime)
    bases = run.representation().get("num_bases")
    what = f"the autoencoder and {bases} shared base planes" if bases else "the field head"
    first = f"Stage 1 trained {what} on {counts.get(1)} scenes"
    second = f"learned {counts.get(2)} further scenes"
    if counts.keys() == {1, 2}:
        title, said = f"{counts[2]} scenes, learned from {counts[1]}", f"{first}; stage 2 {second} with them."
    else:
        title, said = f"{sum(counts.values())} scenes", f"{first}." if 1 in counts else f"Stage 2 {second}."
    size = run.model["resolution"]
    return "\n".join(
        [
            page.paragraph(f"scaled-ig · run {run.folder.path.resolve().name}", "eyebrow"),
            f"<h1>{title}</h1>",
            page.paragraph(
                f"{said} Views have {size} {TIMES} {size} pixels; all numbers are of views never trained on.", "lead"
            ),
            page.paragraph(f"Finished {finished:%d %B %Y, %H:%M}. {machine}", "note"),
            page.commands(lines),
        ]
    )


def headline(run: RunRecord) -> str:
    """Four numbers."""
    stage = run.stages()[-1]
    own, size = run.metrics[f"s{stage}"], run.bytes_per_scene()
    count, nearest = own["num_scenes"], own.get("nearest_view_psnr")
    above = None if nearest is None else own["psnr"] - nearest
    return page.tiles(
        [
            (number(own["psnr"]), "dB", f"PSNR on {own['num_views']} unseen views of {count} stage-{stage} scenes"),
            (
                DASH if above is None else signed(above),
                "dB",
                f"{'above' if (above or 0) >= 0 else 'under'} showing the nearest training view ({number(nearest)} dB)",
            ),
            (number(run.seconds(stage) / count), "s", f"of training for each stage-{stage} scene"),
            (number(size / 1024, 1), "KiB", f"of its own for each scene ({size:,} bytes, float32)"),
        ]
    )


def orbits(film: bytes, still: pictures.Picture, shown: int, stage: int, count: int) -> str:
    """The mosaic film."""
    which = f"All {count}" if shown == count else f"{shown} of the {count}"
    return page.section(
        "Orbits",
        page.film(
            pictures.data_uri(film, "video/mp4"),
            pictures.data_uri(pictures.encode(still, "JPEG"), "image/jpeg"),
            f"{which} stage-{stage} scenes rendered from a circle of new viewpoints, each frame decoded for itself. "
            "The same film is orbit.mp4 in the run's folder.",
        ),
    )


def views(rows: Sequence[ViewRow]) -> str:
    """Test views beside what the model makes of them."""
    if not rows:
        return ""
    titles = list(rows[0].pictures)
    parts = []
    for stage in sorted({row.stage for row in rows}):
        own = [row for row in rows if row.stage == stage]
        cells = "".join(f'<div class="head">{page.escape(title)}</div>' for title in titles)
        for row in own:
            cells += "".join(_picture(title, picture, row) for title, picture in row.pictures.items())
            cells += (
                f'<div class="name"><b>{row.psnr:.2f} dB</b><span>{page.escape(row.scene)}, view {row.view}</span>'
                f"<span>{row.scene_psnr:.2f} dB over all unseen views of the scene</span></div>"
            )
        parts.append(f"<h3>{STAGE_NAMES[stage]}: {len(own)} scenes, from the best to the worst</h3>")
        parts.append(f'<div class="views" style="grid-template-columns:repeat({len(titles)},1fr)">{cells}</div>')
    latents = (
        " Latents are shown by the three directions in which the encoder's vary most, one scale for the whole page; "
        "where the two columns agree, the scene reproduces what the encoder sees."
        if "rendered latent" in titles
        else ""
    )
    return page.section(
        "Unseen views",
        page.paragraph(
            "Scenes are spread evenly over the order of their PSNR, the best and the worst among them; of each, "
            f"the first test view. Error: mean over channels, {TIMES} {ERROR_GAIN}, white is none.{latents} "
            "Depth: bright is near, white is nothing.",
            "note",
        ),
        *parts,
    )


def _picture(title: str, picture: pictures.Picture, row: ViewRow) -> str:
    address = pictures.data_uri(pictures.encode(picture), "image/png")
    kind = ' class="pixels"' if len(picture) < 96 else ""
    return f'<img{kind} src="{address}" alt="{page.escape(title)} of {page.escape(row.scene)}, view {row.view}">'


def quality(run: RunRecord) -> str:
    """The table of metrics, its protocol, and every scene."""
    head = ["", "scenes", "views", "PSNR", "SSIM", "LPIPS", "nearest view", "RGB tri-planes", "autoencoder alone"]
    rows = [_quality_row(run, stage) for stage in run.stages()]
    protocol = {key.replace("_", " "): text for key, text in run.metrics.get("protocol", {}).items()}
    names = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "autoencoder psnr": "autoencoder alone"}
    names |= {"nearest view psnr": "nearest view"}
    text = "; ".join(f"{names.get(key, key)}: {value.rstrip('.')}" for key, value in protocol.items())
    stage = run.stages()[-1]
    address = pictures.data_uri(figures.draw_scenes(run, stage), "image/svg+xml")
    caption = (
        f"Every stage-{stage} scene, sorted. Ring: the nearest training view in place of the test view, the least that "
        "a rendering must beat. Dot: the rendering."
    )
    if not run.is_rgb:
        caption += (
            " Tick: the image itself, encoded and decoded without any scene; RGB alignment fits the decoder to "
            "rendered latents, so that renderings can come to pass it."
        )
    return page.section(
        "Quality",
        page.table(head, rows, f"How it was measured. {text}." if text else ""),
        page.chart(address, "PSNR of every scene beside its nearest view", caption),
    )


def _quality_row(run: RunRecord, stage: int) -> list[str]:
    own = run.metrics[f"s{stage}"]
    return [
        STAGE_NAMES[stage],
        str(own["num_scenes"]),
        str(own["num_views"]),
        number(own["psnr"]),
        number(own.get("ssim"), 4),
        number(own.get("lpips"), 4, "not on this machine"),
        number(own.get("nearest_view_psnr")),
        number(own.get("rgb_triplanes_psnr")),
        DASH if run.is_rgb else number(own.get("autoencoder_psnr")),
    ]


def curves(run: RunRecord) -> str:
    """How training went."""
    address = pictures.data_uri(figures.draw_training(run.first_wave()), "image/svg+xml")
    caption = (
        "Phases one after another over training seconds (evaluation is not counted). Above: unweighted terms of the "
        "loss, logarithmic. Below: lines are PSNR on watched views, dots on test views at the end of a phase; "
        "grey is the autoencoder alone. Stage 2 starts anew with other scenes."
    )
    if run.num_waves > 1:
        caption += (
            f" It was learned in {run.num_waves} waves, one after another, of which the first is shown; the logs of "
            "all are in the folder waves."
        )
    return page.section("Training", page.chart(address, "losses and PSNR over training seconds", caption))


def comparison_chart(run: RunRecord, contenders: Sequence[Contender]) -> str:
    """Stage 2 of all contenders over time."""
    nearest = run.metrics.get("s2", {}).get("nearest_view_psnr")
    address = pictures.data_uri(figures.draw_comparison(list(contenders), nearest), "image/svg+xml")
    return page.chart(
        address,
        "PSNR of stage 2 over its training seconds",
        "Stage 2 alone. Lines: PSNR on watched views; dots: on test views at the end of each phase.",
    )
