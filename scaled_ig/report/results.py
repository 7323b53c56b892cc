"""The papers' tables from the files of runs: no number is typed.

A table is made of a folder with one folder a row. A row holds ``stage1``, where it has one, and ``seed<n>``: runs of
stage 2, or a single run of both stages.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from scaled_ig.errors import UsageError
from scaled_ig.metrics.accounting import MEGABYTE, Growth
from scaled_ig.report import papers
from scaled_ig.report.cost_figures import Point, draw_landscape
from scaled_ig.report.cost_table import markdown_lines
from scaled_ig.report.page import DASH
from scaled_ig.report.run_costs import RunCosts
from scaled_ig.runs.record import RunRecord

TITLES = {
    "ours": "Ours",
    "micro_only": "Ours-Micro",
    "macro_only": "Ours-Macro",
    "one_base": "Ours-M=1",
    "no_prior": "Ours-No-Prior",
    "rgb": "Ours-RGB",
    "triplanes_rgb": "Tri-Planes (RGB)",
    "triplanes_macro_rgb": "Tri-Planes-Macro (RGB)",
    "vanilla_nerf": "Vanilla-NeRF",
    "instant_ngp": "Instant-NGP",
    "tensorf": "TensoRF",
    "kplanes": "K-Planes",
    "triplanes": "Tri-Planes (RGB), a head each",
    "triplanes_shared_head": "Tri-Planes (RGB), one head",
    "encode_scene": "Encode-Scene",
    "decode_scene": "Decode-Scene",
    "encode_decode_scene": "Encode-Decode-Scene",
}
"""Rows by the names of their folders, in the order in which tables show them."""

HEADINGS = {
    "ablations": "Table 3, and Table 2 of the workshop paper (`make ablations`)",
    "baselines": "Fig. 1 and Table 4 (`make baselines`)",
    "scale": "Base planes and scenes in stage 1 (`make scale`)",
    "few_views": "Few views of a scene (`make few-views`)",
    "held_out": "Stage 1 on one kind of scenes, stage 2 on another (`make held-out`)",
    "latent_spaces": "Three ways in a latent space, § 3.2 of the workshop paper (`make latent-spaces`)",
}
"""What a table is and what makes it, by the name of the folder above it."""


LEGEND = (
    "Scenes of stage 1 are S1, those of stage 2 S2; N1 and N2 are their numbers. Training of N scenes takes "
    "t1 + τ (N − N1): t1 is the time of stage 1, τ that of a further scene. Their bytes are m1 + μ (N − N1): m1 is "
    "what scenes share, with the scenes of stage 1, and μ a further scene. M is the number of base planes. The row "
    "`fast-m10-v3-n500` is the recipe *fast* with ten base planes, three training views of a scene and 500 scenes in "
    "stage 1. LPIPS is in tables of machines that have its weights."
)


def heading(folder: Path) -> str:
    """Title of the table of a folder."""
    kind, name = folder.resolve().parts[-2:]
    return f"{HEADINGS[kind]}, {name}" if kind in HEADINGS else name


@dataclass(frozen=True)
class Row:
    """A row of a table: a way to learn the same scenes.

    Args:
        name: Of its folder.
        runs: Of stage 2, one a seed.
        stage1: What they started from; None where nothing did, or where each run has its own.
    """

    name: str
    runs: list[RunRecord]
    stage1: RunRecord | None

    @classmethod
    def read(cls, folder: Path) -> tuple[Row | None, list[str]]:
        """Read the finished runs of a row; None where there is none, and why others are left out."""
        runs, left_out = [], []
        for path in sorted(path.parent for path in folder.glob("seed*/config.yaml")) or [folder]:
            try:
                run = RunRecord.open(path)
                if 2 not in run.stages():
                    raise UsageError(f"{path} has no stage 2")
                waves = len(run.folder.read_json("scenes.json").get("waves", ()))
                learned = min(len(run.costs["phases"][name].get("waves", [0])) for name in run.phases(2))
                if learned < waves:
                    raise UsageError(f"{path} has learned {learned} of {waves} waves: go on with --resume true")
                runs.append(run)
            except UsageError as error:
                left_out.append(str(error))
        if not runs:
            return None, left_out
        first = folder / "stage1"
        return cls(folder.name, runs, RunRecord.open(first) if first.is_dir() else None), left_out

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)

    def quality(self, split: str, name: str) -> list[float]:
        """A mean over the test views of a split, of every run that learned its scenes."""
        runs = [self.stage1] if split == "s1" and self.stage1 is not None else self.runs
        return [run.metrics[split][name] for run in runs if run.metrics.get(split, {}).get(name) is not None]

    def mixed(self, name: str) -> float | None:
        """A mean as the papers' 50 scenes have it, 10 of S1 and 40 of S2; of S2 alone where there is no S1."""
        first, second = (_mean(self.quality(split, name)) for split in ("s1", "s2"))
        return second if first is None or second is None else 0.2 * first + 0.8 * second

    def costs(self) -> list[RunCosts]:
        """Of every seed's run."""
        return [RunCosts("", run, self.stage1) if self.stage1 else RunCosts.of(run) for run in self.runs]

    def parts(self) -> tuple[bool, bool, bool]:
        """Whether it has a latent space, features of a scene's own, features that scenes share."""
        run = self.runs[0]
        return not run.is_rgb, "micro" in run.costs["bytes_per_scene"], "bases" in run.costs["shared_bytes"]


def read_rows(folder: Path) -> tuple[list[Row], list[str]]:
    """The rows of a table, those of the papers in their order; and sentences on runs that are left out.

    Raises:
        UsageError: There is no finished run, or runs learned different scenes although they have as many in stage 1.
    """
    names = {path.parent.name for path in folder.glob("*/config.yaml")}
    names |= {path.parents[1].name for path in folder.glob("*/seed*/config.yaml")}
    order = list(TITLES)
    results = [
        Row.read(folder / name)
        for name in sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
    ]
    rows = [row for row, _ in results if row is not None]
    left_out = [sentence for _, sentences in results for sentence in sentences]
    if not rows:
        raise UsageError(
            f"{folder} holds no finished run: make ablations or make baselines fills such a folder"
            + "".join(f"; {sentence}" for sentence in left_out[:1])
        )
    for row in rows if not differ_in_size(rows) else ():
        for run in row.runs:
            rows[0].runs[0].check_same_scenes(run)
    return rows, left_out


def differ_in_size(rows: Sequence[Row]) -> bool:
    """Whether rows are about N1 or views: stages 1 are of several sizes, or scenes have several numbers of views."""
    firsts = {row.costs()[0].num_scenes(1) for row in rows} - {0}
    views = {row.runs[0].config["data"]["init_args"].get("train_views") for row in rows}
    return len(firsts) > 1 or len(views) > 1


def columns(rows: Sequence[Row], at: int) -> list[dict[str, Any]]:
    """A record a row, of the names and the units that the table's head has.

    Args:
        rows: Of one table.
        at: N, the number of scenes for which costs are extrapolated.
    """
    time = time_of(rows)
    return [_columns(row, time, at) for row in rows]


def time_of(rows: Iterable[Row]) -> str:
    """What the seconds of a table are: of the processor where all rows know them, else of the wall."""
    known = all(cost.processor_minutes is not None for row in rows for cost in row.costs())
    return "processor" if known else "wall"


def minutes_of(cost: RunCosts, time: str) -> Growth:
    """t(N) in processor or wall minutes."""
    return (cost.processor_minutes if time == "processor" else None) or cost.minutes


def _columns(row: Row, time: str, at: int) -> dict[str, Any]:
    latent, own_bytes, shared = row.parts()
    costs = row.costs()
    minutes, memory = [minutes_of(cost, time) for cost in costs], costs[0].bytes
    record: dict[str, Any] = {
        "": row.title,
        "latent space": latent,
        "own": own_bytes,
        "shared": shared,
        "seeds": len(row.runs),
        "PSNR S2, dB": _mean(row.quality("s2", "psnr")),
        "± seeds": statistics.stdev(values) if len(values := row.quality("s2", "psnr")) > 1 else None,
        "PSNR S1, dB": _mean(row.quality("s1", "psnr")),
        "SSIM S2": _mean(row.quality("s2", "ssim")),
        "LPIPS S2": _mean(row.quality("s2", "lpips")),
        "τ, s a scene": 60
        * statistics.median(growth.each for growth in minutes),  # other work disturbs one seed, not most
        "μ, kB a scene": memory.each / 1000,
        f"min at N = {at:,}": statistics.median(growth.at(at) for growth in minutes) if at >= memory.first else None,
        f"MB at N = {at:,}": memory.at(at) / MEGABYTE if at >= memory.first else None,
    }
    paper = papers.PAPER_ROWS.get(row.title, {})
    if costs[0].num_scenes(2) == papers.N2 and costs[0].num_scenes(1) in (0, papers.N1):
        record |= {"pooled PSNR, 10 : 40, dB": row.mixed("psnr_pooled"), "SSIM, 10 : 40": row.mixed("ssim_signed")}
        record |= {f"paper: {name}": value for name, value in paper.items()}
    else:  # which rows are ahead may be compared whatever the scenes
        record |= {"paper's cars: PSNR, dB": paper.get("PSNR, dB")}
    return record


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def landscape(rows: Sequence[Row]) -> bytes:
    """PSNR of stage 2 against minutes and megabytes a scene, as PNG; rings have stage 1 shared out."""
    points, time = [], time_of(rows)
    for row in rows:
        costs, psnr = row.costs(), _mean(row.quality("s2", "psnr"))
        if psnr is None:
            continue
        minutes = [minutes_of(cost, time) for cost in costs]
        each = statistics.median(growth.each for growth in minutes), costs[0].bytes.each / MEGABYTE
        n2 = costs[0].num_scenes(2)
        effective = (
            statistics.median(growth.effective(n2) for growth in minutes),
            costs[0].bytes.effective(n2) / MEGABYTE,
        )
        points.append(Point(row.title, psnr, each, effective))
    dot, ring = "τ, μ: a further scene", "stage 1 and shared parts shared out over N2"
    return draw_landscape(points, dot, ring, f"{time} minutes")


DIGITS = {
    "PSNR": 2, "±": 2, "SSIM": 4, "LPIPS": 4, "τ": 2, "μ": 2, "min": 1, "MB": 1, "MiB": 0, "seeds": 0, "bases": 0,
    "N1": 0, "N2": 0, "N:": 0, "M": 0, "views": 0,
}  # fmt: skip
"""Digits after the point, by how the name of a column begins; the first that fits."""


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """The table; a column that nobody has a value of is left out."""
    shown = [name for name in names(records) if any(record.get(name) not in (None, "") for record in records)]
    return markdown_lines(shown, [[_cell(name, record.get(name)) for name in shown] for record in records])


def names(records: Sequence[dict[str, Any]]) -> list[str]:
    """Columns of a table, in order."""
    return list(dict.fromkeys(name for record in records for name in record))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "✓" if value else DASH
    if isinstance(value, str):
        return value
    digits = next((digits for start, digits in DIGITS.items() if name.removeprefix("paper: ").startswith(start)), 2)
    return f"{value:,.{digits}f}"


def provenance(rows: Sequence[Row]) -> str:
    """Where and when a table's runs were made, and on what."""
    run, first = rows[0].runs[0], rows[0].costs()[0].num_scenes(1)
    views = run.metrics["s2"]["num_views"]
    stage1_text = f"{first} scenes in stage 1" if first else "No stage 1"
    return (
        f"{stage1_text}, {len(run.scenes(2))} in stage 2, {views} never-seen views of them. PSNR and SSIM "
        "per image, then mean over the views of a scene, then over scenes. Nobody sees view directions. Rows without a "
        "latent space train on random rays or whole images as each run's config.yaml says. Sizes are float32, without "
        f"Adam's moments. Seconds are {time_of(rows)} time, the median over seeds, {where_and_when(rows)}."
    )


def where_and_when(rows: Sequence[Row]) -> str:
    """Machines and days of the runs of rows."""
    runs = [run for row in rows for run in (*row.runs, *([row.stage1] if row.stage1 else []))]
    machines = sorted({_machine(run) for run in runs})
    days = sorted(date.fromtimestamp((run.folder.path / "costs.json").stat().st_mtime) for run in runs)
    when = f"{days[0]:%d %B %Y}" + (f" to {days[-1]:%d %B %Y}" if days[-1] > days[0] else "")
    return f"of runs that may have shared the machine: {'; '.join(machines)}. {when}"


def _machine(run: RunRecord) -> str:
    machine = run.costs["machine"]
    processes = f"{machine.get('ranks', 1)} process{'es' if machine.get('ranks', 1) > 1 else ''}"
    return f"{machine['name']}, {processes} of {machine['threads']} threads, torch {machine['torch']}"


def insight(rows: Sequence[Row]) -> str:
    """Tables of what the report of a row's first run measured: autoencoders, latents across views, what bases learn."""
    parts = []
    for row in rows:
        measured = row.runs[0].metrics["s2"]
        if measured.get("stage1_autoencoder_psnr") is not None:
            names = {
                "stage1_autoencoder_psnr": "of stage 1's version",
                "autoencoder_psnr": "aligned",
                "psnr": "rendered",
            }
            parts.append(markdown([{"": f"{row.title}: PSNR of the autoencoder alone, dB"} | {
                title: measured[name] for name, title in names.items()
            }]))  # fmt: skip
        insight = row.runs[0].folder.read_json("insight.json")
        latents = insight.get("consistency") or {}
        if "before" in latents:
            names = {"images": "images", "before": "latents before stage 1", "after": "latents after stage 1"}
            parts.append(markdown([{"": f"{row.title}: disagreement of neighbouring views"} | {
                title: latents[name] for name, title in names.items()
            }]))  # fmt: skip
        bases = [
            {
                "": f"{row.title}: {split.upper()}",
                "bases": bases_numbers["num_bases"],
                "effective rank": bases_numbers["effective_rank_bases"],
                "effective rank of mixing": bases_numbers["effective_rank_mixing"],
                "PSNR, dB": bases_numbers["psnr"],
                "PSNR without micro, dB": bases_numbers["psnr_without_micro"],
                "PSNR without macro, dB": bases_numbers["psnr_without_macro"],
            }
            for split, bases_numbers in insight.get("bases", {}).items()
        ]
        parts += [markdown(bases)] if bases else []
    return "\n\n".join(parts)


def verdict(rows: Sequence[Row]) -> str:
    """Which rows are better than ours by more than the seeds tell; empty where it is not among them."""
    own_row = next((row for row in rows if row.name == "ours"), None)
    if own_row is None:
        return ""
    if any(len(row.runs) < 2 for row in rows):
        return "Some rows have one seed: differences are not told from chance."
    own_psnrs = own_row.quality("s2", "psnr")
    better = []
    for row in rows:
        psnrs = row.quality("s2", "psnr")
        spread = max(statistics.stdev(own_psnrs), statistics.stdev(psnrs))
        ahead = statistics.fmean(psnrs) - statistics.fmean(own_psnrs)
        if row is not own_row and ahead > spread:
            better.append(f"{row.title} (+{ahead:.2f} dB)")
    if not better:
        return "No row is ahead of ours by more than a standard deviation over seeds."
    return f"Ahead of ours by more than a standard deviation over seeds: {', '.join(better)}."
