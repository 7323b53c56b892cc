"""Tables and figures of what benchmarks/quality.py measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Results = dict[str, Any]
SCENES = 16  # of stage 2
COLOURS = {
    "latent Micro-Macro": "#c1272d",
    "latent F = 10": "#f08a4b",
    "latent F = 32": "#8c564b",
    "RGB Micro-Macro": "#7b3fa0",
    "RGB F = 32": "#0b5fa5",
    "RGB F = 10": "#2a9d5c",
}
LOOKS = {  # line, marker, filled
    "mean start": ("-", "o", True),
    "from scratch": (":", "o", False),
    "mean start, 32 samples": ("-", "D", True),
    "mean start, whole images": ("-", "s", True),
    "from scratch, whole images": (":", "s", False),
}
TITLES = {"vehicles": "vehicles", "faces": "faces"}


def seconds_per_scene(result: Results, costs: Results, last: str | None = None) -> float:
    """Stage 2 of one scene, in seconds of one thread's processor time: steps, and encoding where there are latents.

    Args:
        result: One run.
        costs: Times of all kinds of steps.
        last: Phase after which to stop counting; all where it is None.
    """
    run, seconds = result["run"], 0.0
    for phase, reached in result["phases"].items():
        seconds += reached["steps"] * costs["milliseconds"][f"{run['step']}: {phase}"] / 1e3
        if phase == last:
            break
    if run["contestant"].startswith("latent"):
        seconds += SCENES * result["training_views"] * costs["encode_milliseconds_per_view"] / 1e3
    return seconds / SCENES


def final(result: Results) -> float:
    """PSNR of the test views after the last phase."""
    return list(result["phases"].values())[-1]["psnr"]


def of_group(results: Results, group: str, pack: str | None = None) -> list[Results]:
    """Finished runs of a group, in the order in which they ran."""
    runs = results["runs"].values()
    return [r for r in runs if r["run"]["group"] == group and pack in (None, r["run"]["pack"])]


# -- tables ----------------------------------------------------------------------------------------------------------


def table(results: Results) -> str:
    """Every run of stage 2: decibels, seconds and kibibytes a scene."""
    costs = results["costs"]
    lines = ["| | PSNR, dB | stage-2 seconds a scene | ms a step | KiB a scene |", "|---|---|---|---|---|"]
    for result in results["runs"].values():
        run = result["run"]
        if run["stage1"] is None:
            continue
        words = (run["pack"], run["group"], run["contestant"], run["variant"], f"{run['length']:g}")
        quality = " → ".join(f"{phase['psnr']:.2f}" for phase in result["phases"].values())
        seconds = " → ".join(f"{seconds_per_scene(result, costs, phase):.3f}" for phase in result["phases"])
        steps = " / ".join(f"{_milliseconds(result, results, phase):.1f}" for phase in result["phases"])
        size = f"{result['bytes_per_scene'] / 1024:.0f}"
        lines.append(f"| {', '.join(words)} | {quality} | {seconds} | {steps} | {size} |")
    return "\n".join(lines)


# -- figures ---------------------------------------------------------------------------------------------------------


def draw_frontier(results: Results, path: Path) -> None:
    """PSNR against seconds and against bytes a scene, of vehicles and of faces."""
    packs = [pack for pack in TITLES if of_group(results, "frontier", pack)]
    figure, rows = plt.subplots(len(packs), 2, figsize=(11, 4.2 * len(packs)), squeeze=False, width_ratios=(1.6, 1))
    for pack, (times, sizes) in zip(packs, rows, strict=True):
        groups: dict[tuple[str, str], list[Results]] = {}
        for result in of_group(results, "frontier", pack):
            groups.setdefault((result["run"]["contestant"], result["run"]["variant"]), []).append(result)
        for (contestant, variant), group in groups.items():
            _draw_times(times, contestant, variant, group, results["costs"])
            best, (_, marker, filled) = max(group, key=final), LOOKS[variant]
            sizes.plot(best["bytes_per_scene"] / 1024, final(best), marker, **_look(contestant, filled))
        times.set(xscale="log", xlabel="stage-2 seconds a scene, one thread", ylabel="PSNR of test views, dB")
        times.set_title(f"{TITLES[pack]}: end of schedules", fontsize=10)
        sizes.set(xlabel="KiB a scene, float32", ylabel="PSNR, dB", xlim=(0, 420))
        sizes.set_title(f"{TITLES[pack]}: longest schedule", fontsize=10)
        seconds = [seconds_per_scene(result, results["costs"]) for group in groups.values() for result in group]
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if min(seconds) / 2 < tick < 2 * max(seconds)]
        times.set_xticks(ticks, ticks)
        times.minorticks_off()
        sizes.set_ylim(times.get_ylim())
        for axes in (times, sizes):
            axes.grid(alpha=0.3)
    rows[0, 0].plot([], [], "^", color="grey", markerfacecolor="white", label="after latent supervision alone")
    rows[0, 1].legend(*rows[0, 0].get_legend_handles_labels(), fontsize=7, loc="lower center")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _look(contestant: str, filled: bool) -> dict[str, Any]:
    colour = COLOURS[contestant]
    return {"color": colour, "markerfacecolor": colour if filled else "white", "markersize": 6}


def _draw_times(axes: Axes, contestant: str, variant: str, group: list[Results], costs: Results) -> None:
    line, marker, filled = LOOKS[variant]
    ends = sorted((seconds_per_scene(result, costs), final(result)) for result in group)
    title = f"{contestant}, {variant}"
    axes.plot(*zip(*ends, strict=True), line + marker, label=title, **_look(contestant, filled))
    if contestant.startswith("latent"):
        for result in group:
            (phase, reached), *_ = result["phases"].items()
            at = seconds_per_scene(result, costs, phase), reached["psnr"]
            axes.plot(*at, "^", **_look(contestant, False))


def draw_sampling(results: Results, path: Path) -> None:
    """PSNR against samples a ray, and against views of a scene in a batch."""
    figure, (rays, views) = plt.subplots(1, 2, figsize=(11, 4.2))
    for pack, line in (("vehicles", "-"), ("faces", "--")):
        for contestant in ("latent Micro-Macro", "RGB F = 10"):
            own = [r for r in of_group(results, "sampling", pack) if r["run"]["contestant"] == contestant]
            ball = [(_samples(r), final(r)) for r in own if r["run"]["variant"].removeprefix("ball ").isdigit()]
            full = [(_samples(r), final(r)) for r in own if r["run"]["variant"].startswith("full ray") and _tight(r)]
            if ball:
                label = f"{pack}, {contestant}"
                rays.plot(*zip(*sorted(ball), strict=True), line + "o", label=label, **_look(contestant, True))
            if full:
                rays.plot(*zip(*full, strict=True), "x", color=COLOURS[contestant])
    rays.set(xscale="log", xlabel="samples a ray (crosses: the whole ray, 48, 24+24, 48+48)", ylabel="PSNR, dB")
    rays.set_xticks([8, 12, 16, 24, 32, 48, 96], [8, 12, 16, 24, 32, 48, 96])
    rays.legend(fontsize=7)
    for contestant in ("latent Micro-Macro", "RGB F = 10"):
        own = [r for r in of_group(results, "views") if r["run"]["contestant"] == contestant]
        found = [(int(r["run"]["variant"].split()[0]), final(r), _milliseconds(r, results)) for r in own]
        if found:
            views.plot([f[0] for f in found], [f[1] for f in found], "-o", label=contestant, **_look(contestant, True))
        for count, quality, milliseconds in found:
            views.annotate(
                f"{milliseconds:.0f} ms", (count, quality), fontsize=7, xytext=(3, 4), textcoords="offset points"
            )
    views.set(xscale="log", xlabel="views of a scene in a batch of 16", ylabel="PSNR, dB")
    views.set_xticks([1, 2, 4, 8], [1, 2, 4, 8])
    for axes in (rays, views):
        axes.grid(alpha=0.3)
        axes.minorticks_off()
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _tight(result: Results) -> bool:
    return "extent" not in result["run"]["variant"]


def _samples(result: Results) -> int:
    return sum(map(int, result["run"]["variant"].split()[-1].split("+")))


def _milliseconds(result: Results, results: Results, phase: str = "latent_supervision") -> float:
    return results["costs"]["milliseconds"][f"{result['run']['step']}: {phase}"]
