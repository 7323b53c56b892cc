"""The tables of what scenes cost, and of this run beside others."""

from __future__ import annotations

from collections.abc import Sequence

from scaled_ig.report import comparison, page, sections
from scaled_ig.report.comparison import PLAIN_FEATURES, Contender
from scaled_ig.report.page import DASH, MINUS, signed
from scaled_ig.report.run_costs import RunCosts
from scaled_ig.report.sections import number
from scaled_ig.runs.record import PHASE_NAMES, RunRecord

PART_NAMES = {
    "micro": "own planes",
    "mixing": "mixing coefficients",
    "hull": "visual hull",
    "bases": "base planes",
    "head": "field head",
    "buffers": "background and buffers",
}


def kibibytes(size: float) -> str:
    """Bytes for a table."""
    return number(size / 1024, 1 if size < 1 << 20 else 0)


def compare(run: RunRecord, contenders: Sequence[Contender]) -> str:
    """This run at the end of each phase of stage 2, and the others."""
    rows = comparison.rows(list(contenders))
    if not rows:
        return ""
    head = [
        "",
        "",
        "stage-2 seconds",
        "seconds a scene",
        "PSNR",
        "SSIM",
        "to this run's end, dB",
        "KiB a scene",
    ]
    cells = [
        [
            row.label if place == 0 or rows[place - 1].label != row.label else "",
            row.phase,
            number(row.seconds, 1),
            number(row.seconds_per_scene),
            number(row.psnr),
            number(row.ssim, 4),
            DASH if row.difference == 0 else signed(row.difference),
            kibibytes(row.bytes_per_scene),
        ]
        for place, row in enumerate(rows)
    ]
    ours = max(place for place, row in enumerate(rows) if row.label == contenders[0].label)
    title = "Against other ways" if len(contenders) > 1 else "Stage 2"
    return page.section(
        title,
        *(page.paragraph(text) for text in comparison.sentences(list(contenders))),
        page.table(head, cells, _note(run, contenders), strong=[ours], words=2),
        sections.comparison_chart(run, contenders) if len(contenders) > 1 else "",
    )


def _note(run: RunRecord, contenders: Sequence[Contender]) -> str:
    own, features = run.bytes_per_scene(), run.feature_channels()
    plain = {count: comparison.plain_bytes(run, count) for count in PLAIN_FEATURES}
    sizes = " and ".join(f"{kibibytes(size)} KiB with F = {count}" for count, size in plain.items())
    note = (
        f"All on the same scenes and test views. Sizes are raw float32. At the same plane resolution "
        f"{run.representation()['plane_resolution']}, plain tri-planes take {sizes}; ours take {kibibytes(own)} KiB "
        f"and render F = {features} ({plain[PLAIN_FEATURES[1]] / own:.2f} times less than F = {PLAIN_FEATURES[1]}, "
        f"{own / plain[PLAIN_FEATURES[0]]:.2f} times F = {PLAIN_FEATURES[0]}), beside what all scenes share."
    )
    machines = {str(sorted(contender.run.costs.get("machine", {}).items())) for contender in contenders}
    if len(machines) > 1:
        note += " These runs were made on different machines: their seconds cannot be compared."
    return note


def costs(run: RunRecord) -> str:
    """Seconds, bytes and milliseconds, itemised."""
    done = run.costs["phases"]
    phases = [
        [
            PHASE_NAMES[name],
            str(done[name]["stage"]),
            str(done[name]["scenes"]),
            f"{done[name]['steps']:,}",
            number(done[name]["seconds"], 1),
            number(done[name]["seconds_per_scene"]),
            number(done[name].get("peak_mebibytes"), 0),
        ]
        for name in run.phases()
    ]
    time = ["phase", "stage", "scenes", "steps", "seconds", "seconds a scene", "peak MiB"]
    render = run.costs.get("milliseconds_per_image", {})
    images = [[name, number(render.get(key))] for key, name in (("render", "render latent"), ("decode", "decode"))]
    return page.section(
        "Costs",
        page.paragraph(_growth(run)),
        page.table(time, phases, "Training seconds, encoding of the views included, evaluation not."),
        '<div class="columns"><div>',
        page.table(
            ["a scene's own", "bytes", "KiB"], _items(run.costs["bytes_per_scene"]) + _on_disk(run), "Raw float32."
        ),
        page.table(["an image", "ms"], images, "One image at a time, median, warm."),
        "</div><div>",
        page.table(
            ["shared by all scenes", "bytes", "KiB"], _items(run.costs["shared_bytes"]), "Raw float32, one version."
        ),
        "</div></div>",
    )


def _items(sizes: dict[str, int]) -> list[list[str]]:
    lines = [[PART_NAMES.get(name, name), f"{size:,}", kibibytes(size)] for name, size in sizes.items()]
    total = sum(sizes.values())
    return [*lines, ["together", f"{total:,}", kibibytes(total)]]


def _on_disk(run: RunRecord) -> list[list[str]]:
    lines = []
    for stage in run.stages():
        versions = run.versions(stage)
        if versions:
            scenes = sum(run.bank.versions[name].num_scenes for name in versions)
            size = sum(map(run.bank.record_bytes, versions)) / scenes
            lines.append([f"on disk, stage {stage}", number(size, 0), kibibytes(size)])
    return lines


def _growth(run: RunRecord) -> str:
    """t(N) and m(N), and what a scene costs when stage 1 is shared out."""
    if run.stages() != [1, 2]:
        return ""
    costs = RunCosts.of(run)
    time, memory, scenes, versions = costs.minutes, costs.bytes, costs.num_scenes(2), len(costs.shared_items())
    return (
        f"N scenes take t(N) = {60 * time.once:.1f} s + (N {MINUS} {time.first}) · {60 * time.each:.2f} s and "
        f"m(N) = {kibibytes(memory.once)} KiB + (N {MINUS} {memory.first}) · {kibibytes(memory.each)} KiB for "
        f"N ≥ {time.first}; all {versions} versions of the shared parts in the bank are counted, equal ones once. "
        f"With stage 1 shared out over these {scenes} scenes, one took {60 * time.effective(scenes):.2f} s and "
        f"{kibibytes(memory.effective(scenes))} KiB."
    )
