"""What a run has learned to see: latents from view to view, and base planes; parts of the page, and their numbers."""

from __future__ import annotations

from scaled_ig.report import base_planes, figures, page, pictures
from scaled_ig.report.awareness import AFTER, BEFORE, IMAGES, Awareness
from scaled_ig.report.base_planes import BasePlanes
from scaled_ig.report.page import TIMES
from scaled_ig.report.pictures import Picture
from scaled_ig.report.sections import STAGE_NAMES, number
from scaled_ig.runs.record import RunRecord

KINDS = {IMAGES: "images", BEFORE: "latents before stage 1", AFTER: "latents after stage 1"}
RANKS = {
    "effective_rank_bases": "of base planes",
    "effective_rank_mixing": "of mixing",
    "effective_rank_mixing_less_mean": "less its mean",
}


def write_numbers(run: RunRecord, latents: Awareness | None, planes: dict[int, BasePlanes]) -> None:
    """Replace the run's ``insight.json``: ``consistency``, null where there are no latents, and ``bases`` by split."""
    bases = {f"s{stage}": own.numbers for stage, own in planes.items()}
    run.folder.write_json("insight.json", {"consistency": latents and latents.numbers, "bases": bases})


def latents_across_views(found: Awareness | None) -> str:
    """Whether neighbouring views agree, before stage 1 and after."""
    if found is None:
        return ""
    own = found.numbers
    known = [name for name in KINDS if name in own]
    missing = "" if BEFORE in own else " The autoencoder before stage 1 is not known here."
    pixels = len(found.pictures[AFTER][0])
    return page.section(
        "Latents across views",
        page.paragraph(
            "Stage 1 is to make the autoencoder 3D-aware: a point of a surface should have one latent, from wherever "
            f"it is seen. One stage-{own['stage']} scene from neighbouring views; latents on the object, by the three "
            "directions in which those of the row vary most.",
            "note",
        ),
        _rows({KINDS[name]: found.pictures[name] for name in known}),
        page.table(
            ["", "disagreement of neighbouring views"],
            [[KINDS[name], number(own[name], 3)] for name in known],
            f"{own['pairs']} views of {own['scenes']} scenes, spread evenly, each beside the view nearest to it "
            f"({own['mean_degrees']:.0f}° apart on average): {own['pixels']:,} latent pixels are carried over by the "
            "rendered depth and compared where both views see them. 0: equal; 1: as different as pixels of the object "
            "dealt out anew. Per channel, then the mean, so that scales do not matter. Images, averaged to "
            f"{pixels} {TIMES} {pixels} pixels, show what errors of depth and sampling alone come to.{missing}",
        ),
    )


def what_bases_learn(planes: dict[int, BasePlanes]) -> str:
    """Base planes of the newest stage, and numbers of all."""
    if not planes:
        return ""
    newest = max(planes)
    own = planes[newest].numbers
    address = pictures.data_uri(figures.draw_bases(planes), "image/svg+xml")
    shown = len(next(iter(planes[newest].pictures.values())))
    count = f"All {shown}" if shown == own["num_bases"] else f"The {shown} most used of {own['num_bases']}"
    return page.section(
        "What bases learn",
        page.paragraph(
            f"{count} base tri-planes after stage {newest}, most used first, by the three directions in which their "
            "features vary most. Where no ray passes they are as they began.",
            "note",
        ),
        _rows(planes[newest].pictures),
        page.chart(
            address,
            "use of each base, and singular values",
            "Left: use of each base, the mean over scenes of |w| times the norm of the base; dashed: all alike. "
            "Right: singular values of the base planes, one a row, and of the scenes' mixing coefficients.",
        ),
        _table(planes),
    )


def _table(planes: dict[int, BasePlanes]) -> str:
    head = ["", "bases", "scenes' mixings", *(f"effective rank {title}" for title in RANKS.values())]
    head += ["PSNR", "without own planes", "without base planes"]
    rows = []
    for stage, own in planes.items():
        ranks = [number(own.numbers[name], 1) for name in RANKS]
        quality = [number(own.numbers[name]) for name in base_planes.WITHOUT]
        counts = [str(own.numbers["num_bases"]), str(own.numbers["mixings"])]
        rows.append([STAGE_NAMES[stage], *counts, *ranks, *quality])
    seen = " and ".join(
        f"{own.numbers['views']} test views of {own.numbers['scenes']} scenes of S{stage}"
        for stage, own in planes.items()
    )
    return page.table(
        head,
        rows,
        "Effective rank: exp of the entropy of the singular values' shares, from 1 to their number, that of bases or "
        f"of scenes read, whichever is less. PSNR in dB on {seen}, spread evenly: of the scenes as they are, with "
        "their own planes set to zero, and with their mixing coefficients set to zero.",
    )


def _rows(rows: dict[str, list[Picture]]) -> str:
    """Rows of small pictures, each under its title."""
    columns = max(map(len, rows.values()))
    cells = "".join(
        f'<div class="name"><b>{page.escape(title)}</b></div>'
        + "".join(_picture(picture, f"{title}, {place + 1}") for place, picture in enumerate(row))
        for title, row in rows.items()
    )
    return f'<div class="views" style="grid-template-columns:repeat({columns},1fr)">{cells}</div>'


def _picture(picture: Picture, title: str) -> str:
    kind = ' class="pixels"' if len(picture) < 96 else ""
    address = pictures.data_uri(pictures.encode(picture), "image/png")
    return f'<img{kind} src="{address}" alt="{page.escape(title)}">'
