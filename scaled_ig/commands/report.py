"""``scaled-ig report``: one page that shows a run."""

from __future__ import annotations

from typing import Any

FILM_VIEWS = 60
FILM_FRAMES_PER_SECOND = 20
MOST_SCENES = 24


def report(
    run: str,
    *,
    no_prior: str | None = None,
    rgb: str | None = None,
    compare: list[str] | None = None,
    pack: str | None = None,
    out: str | None = None,
) -> int:
    """Writes one self-contained HTML page, a film of the run's scenes, and the bars that they must clear.

    Adds what it measures of these bars to the run's ``metrics.json``; writes its ``insight.json`` and ``orbit.mp4``.

    Examples:
        scaled-ig report runs/mine
        scaled-ig report runs/mine --rgb runs/plain --compare other=runs/other

    Args:
        run: Folder of a finished run.
        no_prior: Run of the same stage 2 without the bases, head and mean scene of stage 1.
        rgb: Run of RGB tri-planes on the same stage-2 scenes.
        compare: Further runs on the same stage-2 scenes, each LABEL=RUN.
        pack: Folder of the pack, if it is no longer where the run read it.
        out: The page; report.html in the run's folder unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: A run is not finished, the pack is gone or has changed, or runs have different scenes.
    """
    from pathlib import Path

    from scaled_ig.files import write_whole
    from scaled_ig.report import comparison, figures, measure, page, sections
    from scaled_ig.report.awareness import measure_awareness
    from scaled_ig.report.base_planes import measure_bases
    from scaled_ig.report.views import ERROR_GAIN, view_rows
    from scaled_ig.runs.record import RunRecord

    record = RunRecord.open(run)
    contenders = comparison.gather(record, no_prior, rgb, compare)
    data = record.open_data(pack)
    measure.add_bars(record, data, next((one.run for one in contenders if one.kind == "rgb"), None))
    orbits = _film(record, data)
    print("comparing latents from view to view, and base planes", flush=True)
    latents = measure_awareness(record, data)
    planes = {stage: bases for stage in record.stages() if (bases := measure_bases(record, data, stage))}
    numbers = {f"s{stage}": bases.numbers for stage, bases in planes.items()}
    record.folder.write_json("insight.json", {"consistency": latents and latents.numbers, "bases": numbers})
    print("drawing views and charts", flush=True)
    path = Path(out) if out else record.folder.path / "report.html"
    content = {
        "name": record.folder.path.resolve().name,
        "machine": _machine(record),
        "commands": _commands(record, no_prior, rgb, compare, pack, out),
        "header": sections.header(record),
        "headline": sections.headline(record),
        "orbits": orbits,
        "views": view_rows(record, data),
        "error_gain": ERROR_GAIN,
        "quality": sections.quality(record),
        "training": sections.training(record),
        "latents": latents,
        "planes": planes,
        "bases_chart": figures.draw_bases(planes) if planes else None,
        "comparison": sections.comparison(record, contenders),
        "costs": sections.costs(record),
    }
    write_whole(path, page.html(content))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without a network")
    return 0


def _film(record, data) -> dict[str, Any]:
    """Write ``orbit.mp4``; returns it with its first frame as a JPEG, and how many scenes of how many it shows."""
    from scaled_ig.bank.scene_bank import spread
    from scaled_ig.metrics.nearest_view import cameras_of
    from scaled_ig.progress import Progress
    from scaled_ig.report import orbits, pictures

    stage = record.stages()[-1]
    ids = [scene["id"] for scene in record.scenes(stage)]
    shown = spread(ids, MOST_SCENES)
    cameras = cameras_of(data.views(stage), spread(data.own_views(stage, "train"), 500))
    path = orbits.orbit_like(cameras, FILM_VIEWS)
    rendered = list(Progress(pictures.render_orbits(record.bank, shown, path), "orbits", len(shown), unit="scene"))
    film = record.folder.path / "orbit.mp4"
    pictures.write_film(film, pictures.film_frames(rendered), FILM_FRAMES_PER_SECOND)
    still = pictures.encode(pictures.mosaic([orbit[0] for orbit in rendered]), "JPEG")
    return {"film": film.read_bytes(), "still": still, "shown": len(shown), "stage": stage, "scenes": len(ids)}


def _machine(record) -> str:
    """What trained the run, and what writes the page: they need not be the same."""
    import os

    import torch

    from scaled_ig.distributed.cores import processor_name

    trained, here = record.costs.get("machine", {}), f"{processor_name()}, {os.cpu_count()} cores"
    ranks = trained.get("ranks", 1)
    device = trained.get("name") or {"cpu": "the processor"}.get(
        trained.get("device"), trained.get("device", "unknown")
    )
    on = f"Trained on {device}, {ranks} process{'es' if ranks > 1 else ''}"
    return f"{on}, PyTorch {trained.get('torch', 'unknown')}. Page written on {here}, PyTorch {torch.__version__}."


def _commands(record, no_prior, rgb, compare, pack, out) -> list[str]:
    """What makes this run and this page again."""
    from shlex import join

    folder = str(record.folder.path)
    page = ["scaled-ig", "report", folder]
    for option, value in (("--no_prior", no_prior), ("--rgb", rgb), ("--pack", pack), ("--out", out)):
        page += [option, value] if value else []
    for pair in compare or []:
        page += ["--compare+", pair]
    return [join(["scaled-ig", "fit", "--config", f"{folder}/config.yaml", "--run_dir", folder]), join(page)]
