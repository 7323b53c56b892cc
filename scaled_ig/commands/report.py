"""``scaled-ig report``: one page that shows a run."""

from __future__ import annotations

from scaled_ig.commands import say_next


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
        compare: A further run on the same stage-2 scenes, LABEL=RUN; may be given several times.
        pack: Folder of the pack, if it is no longer where the run read it.
        out: The page; report.html in the run's folder unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: A run is not finished, the pack is gone or has changed, or runs have different scenes.
    """
    from pathlib import Path

    from scaled_ig.callbacks.run_logger import keep_report
    from scaled_ig.files import write_whole
    from scaled_ig.report import comparison, figures, measure, origin, page, sections
    from scaled_ig.report.awareness import measure_awareness
    from scaled_ig.report.base_planes import measure_bases
    from scaled_ig.report.gallery import turn_scenes
    from scaled_ig.report.scene_table import scene_table
    from scaled_ig.report.views import ERROR_GAIN, view_rows
    from scaled_ig.runs.record import RunRecord

    record = RunRecord.open(run)
    contenders = comparison.gather(record, no_prior, rgb, compare)
    data = record.open_data(pack)
    measure.add_bars(record, data, next((one.run for one in contenders if one.kind == "rgb"), None))
    turning = turn_scenes(record, data)
    print("comparing latents from view to view, and base planes", flush=True)
    latents = measure_awareness(record, data)
    planes = {stage: bases for stage in record.stages() if (bases := measure_bases(record, data, stage))}
    numbers = {f"s{stage}": bases.numbers for stage, bases in planes.items()}
    record.folder.write_json("insight.json", {"consistency": latents and latents.numbers, "bases": numbers})
    print("drawing views and charts", flush=True)
    path = Path(out) if out else record.folder.path / "report.html"
    scenes = scene_table(record, data)
    options = {"--no_prior": no_prior, "--rgb": rgb, "--out": out}
    content = {
        "name": record.folder.path.resolve().name,
        "header": sections.header(record),
        "headline": sections.headline(record),
        "turning": turning,
        "views": view_rows(record, data),
        "error_gain": ERROR_GAIN,
        "scenes": scenes,
        "quality": sections.quality(record),
        "training": sections.training(record),
        "latents": latents,
        "planes": planes,
        "bases_chart": figures.in_both_widths(figures.draw_bases, planes) if planes else None,
        "comparison": sections.comparison(record, contenders),
        "costs": sections.costs(record),
        "origin": origin.origin(record, data),
        "repeat": origin.repeat_command(record, data),
        "repeat_page": origin.page_command(record, options, compare or [], pack),
        "bank_commands": origin.bank_commands(record),
        "downloads": sections.downloads(record, scenes["csv"]),
    }
    write_whole(path, page.html(content))
    keep_report(record.folder.path, record.config, path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without a network")
    say_next("render", run)
    return 0
