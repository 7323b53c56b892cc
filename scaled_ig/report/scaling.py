"""What base planes and many scenes in stage 1 are worth: rows that differ in N1, M and N2, on scenes that all learned.

A row is called ``WAY-nN1`` and belongs to its way, such as ``fast-m10``, or ``fast-m10-v3`` where scenes have three
training views; a row without a stage 1 is a way by itself, and a baseline of the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scaled_ig.metrics.accounting import MEGABYTE, Growth
from scaled_ig.progress import Progress
from scaled_ig.report.base_planes import measure_bases
from scaled_ig.report.cost_figures import NOISE, Curve
from scaled_ig.report.results import Row, minutes_of, time_of, where_and_when
from scaled_ig.report.run_costs import RunCosts
from scaled_ig.runs.record import RunRecord

COMPARED, WORST = 100, 10
"""Scenes that rows are compared on, drawn by seed among those that all have; and how many of them are shown."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class SizedRow:
    """A row and its sizes.

    Args:
        row: Its runs.
        costs: Of the first of them.
    """

    row: Row
    costs: RunCosts

    @classmethod
    def of(cls, row: Row) -> SizedRow:
        """Read what the row cost."""
        return cls(row, row.costs()[0])

    @property
    def run(self) -> RunRecord:
        """The first run of stage 2."""
        return self.row.runs[0]

    @property
    def first(self) -> int:
        """N1; 0 where there is no stage 1."""
        return self.costs.num_scenes(1)

    @property
    def way(self) -> str:
        """Its name without N1."""
        return self.row.name.removesuffix(f"-n{self.first}")

    @property
    def views(self) -> int | None:
        """Training views of a scene of stage 2; None where the run takes all of the pack's."""
        views: int | None = self.run.config["data"]["init_args"].get("train_views")
        return views

    @property
    def recipe(self) -> str:
        """Its way whatever the number of views."""
        return self.way.removesuffix(f"-v{self.views}")

    @property
    def num_bases(self) -> int:
        """M; 0 where scenes share no base planes."""
        return self.run.representation().get("num_bases", 0) if self.row.parts()[2] else 0

    @cached_property
    def seeds(self) -> list[dict[str, float]]:
        """PSNR of each scene of stage 2 over its unseen views, dB, of each seed."""
        return [{scene["id"]: scene["psnr"] for scene in run.scenes(2)} for run in self.row.runs]

    @cached_property
    def psnrs(self) -> dict[str, float]:
        """The mean over seeds."""
        return {name: statistics.fmean(seed[name] for seed in self.seeds) for name in self.seeds[0]}

    def peak(self, stage: int) -> float | None:
        """Most memory of the process that trained a stage, MiB; None where it has no such stage."""
        record = self.costs.stage1 if stage == 1 else self.run
        if record is None:
            return None
        return max((record.costs["phases"][name]["peak_mebibytes"] for name in record.phases(stage)), default=None)


@dataclass(frozen=True)
class Sizes:
    """Rows, those without a stage 1 first, then by way and N1.

    Args:
        rows: The rows.
        ids: Scenes that they are compared on.
    """

    rows: list[SizedRow]
    ids: list[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Sizes:
        """Draw the scenes that rows are compared on."""
        sized = [SizedRow.of(row) for row in rows]
        common = sorted(set.intersection(*(set(one.psnrs) for one in sized)))
        drawn = np.random.default_rng(0).permutation(len(common))[:COMPARED]
        ids = [common[place] for place in sorted(drawn)]
        return cls(sorted(sized, key=_place), ids)

    @property
    def differ_in_views(self) -> bool:
        """Whether rows are about the number of training views."""
        return len({one.views for one in self.rows}) > 1

    @cached_property
    def time(self) -> str:
        """What minutes and seconds are, processor or wall."""
        return time_of(one.row for one in self.rows)

    def minutes(self, one: SizedRow) -> Growth:
        """t(N) of a row."""
        return minutes_of(one.costs, self.time)

    def curve(self, one: SizedRow) -> Curve:
        """t(N) and m(N) of a row."""
        return Curve(one.row.title, self.minutes(one), one.costs.bytes)

    @property
    def ways(self) -> dict[str, list[SizedRow]]:
        """Rows by their way, the fewest scenes of stage 1 first."""
        ways: dict[str, list[SizedRow]] = {}
        for one in self.rows:
            ways.setdefault(one.way, []).append(one)
        return ways

    @property
    def shown(self) -> list[SizedRow]:
        """Of each way the row with most scenes in stage 1; where rows differ in views, of those with the fewest."""
        fewest = min((one.views for one in self.rows if one.views), default=None)
        return [rows[-1] for rows in self.ways.values() if rows[-1].views == fewest or not self.differ_in_views]

    @property
    def baselines(self) -> list[SizedRow]:
        """Rows without a stage 1, the cheapest first."""
        return sorted((one for one in self.rows if not one.first), key=lambda one: self.minutes(one).each)

    def psnrs(self, one: SizedRow) -> np.ndarray:
        """[scenes] PSNR of the compared ones, dB."""
        return np.array([one.psnrs[name] for name in self.ids])

    def worst(self) -> list[str]:
        """The worst of the compared scenes, by their mean over the shown rows; the worst first."""
        mean = np.mean([self.psnrs(one) for one in self.shown], axis=0)
        return [self.ids[place] for place in mean.argsort(kind="stable")[:WORST]]

    def records(self, at: int) -> list[dict[str, Any]]:
        """A record a row, of the names and units of the table's head.

        Args:
            at: N for which costs are extrapolated.
        """
        return [self._record(one, at) for one in self.rows]

    def _record(self, one: SizedRow, at: int) -> dict[str, Any]:
        minutes, memory, values = self.minutes(one), one.costs.bytes, self.psnrs(one)
        means = [statistics.fmean(seed[name] for name in self.ids) for seed in one.seeds]
        fewest = self.ways[one.way][0]
        gains = values - self.psnrs(fewest)
        return {
            "": one.row.title,
            "N1": one.first,
            "M": one.num_bases,
            "views": one.views,
            "N2": one.costs.num_scenes(2),
            "seeds": len(one.row.runs),
            "PSNR S2, dB": float(values.mean()),
            "± seeds": statistics.stdev(means) if len(means) > 1 else None,
            "over the smallest N1, dB": float(gains.mean()) if one is not fewest else None,
            "± its standard error": _standard_error(gains) if one is not fewest else None,
            "PSNR S1, dB": next(iter(one.row.quality("s1", "psnr")), None),
            "t1, min": minutes.once if one.first else None,
            "τ, s a scene": 60 * minutes.each,
            f"min at N = {at:,}": minutes.at(at) if at >= one.first else None,
            "μ, kB a scene": memory.each / 1000,
            f"MB at N = {at:,}": memory.at(at) / MEGABYTE if at >= one.first else None,
            "MiB peak, stage 1": one.peak(1),
            "MiB peak, stage 2": one.peak(2),
            **self._crossings(one),
        }

    def _crossings(self, one: SizedRow) -> dict[str, Any]:
        """From how many scenes on a row takes no more time than each baseline, and no more bytes than one."""
        if not one.first or self.differ_in_views:
            return {}
        crossings: dict[str, Any] = {}
        for other in self.baselines:
            time, baseline = self.minutes(one), self.minutes(other)
            even = "not told" if time.is_parallel(baseline, NOISE) else time.break_even(baseline)
            crossings[f"N: time of {other.row.title}"] = "never" if even is None else even
        for other in self.baselines[:1] if one.num_bases else ():  # else a scene has as many floats in both
            even = one.costs.bytes.break_even(other.costs.bytes)
            crossings[f"N: bytes of {other.row.title}"] = "never" if even is None else even
        return crossings

    def spreads(self) -> list[dict[str, Any]]:
        """How PSNR spreads over the compared scenes, and what it is over that without a stage 1; a record a row."""
        return [
            {"": one.row.title}
            | {f"PSNR, {100 * share:.0f} %, dB": float(np.quantile(self.psnrs(one), share)) for share in QUANTILES}
            | {"PSNR, worst, dB": float(self.psnrs(one).min())}
            | self._over_baseline(one)
            for one in self.rows
        ]

    def _over_baseline(self, one: SizedRow) -> dict[str, Any]:
        """Over the cheapest row without a stage 1 and with as many views, scene by scene."""
        plain = next((other for other in self.baselines if other.views == one.views), None)
        if plain is None or one is plain:
            return {}
        gains = self.psnrs(one) - self.psnrs(plain)
        return {"over no stage 1, dB": float(gains.mean()), "± its standard error": _standard_error(gains)}

    def provenance(self) -> str:
        """What rows are compared on, and where and when their runs were made."""
        of_scene = {scene["id"]: scene["num_views"] for scene in self.rows[0].run.scenes(2)}
        views, rows = sum(of_scene[name] for name in self.ids), [one.row for one in self.rows]
        crossings = (
            "N is that from which on a row takes no more than the row named; it is not told where τ differ by less "
            f"than {100 * NOISE:.0f} %, as those of the same steps do from run to run. "
        )
        crossings = "" if self.differ_in_views else crossings
        return (
            f"PSNR S2 is that of {len(self.ids)} scenes, drawn by seed among those that every row learned in stage 2, "
            f"on {views} never-seen views: per image, then mean over the views of a scene, then over scenes. A "
            "standard error is that of the difference scene by scene. τ is over all N2 scenes. MiB are the most that "
            f"the process of a stage held. {crossings}Sizes are float32, without Adam's moments. Seconds are "
            f"{self.time} time, {where_and_when(rows)}."
        )

    def scenes(self) -> list[dict[str, Any]]:
        """PSNR of each compared scene, a record a scene."""
        return [{"": name} | {one.row.title: one.psnrs[name] for one in self.rows} for name in self.ids]


def bases(sizes: Sizes) -> list[dict[str, Any]]:
    """What base planes learn and what scenes make of them, a record a row that has some.

    It is measured where the run's ``insight.json`` does not know it, and put there.

    Raises:
        UsageError: The pack is gone or has changed.
    """
    with_bases = [one for one in sizes.rows if one.num_bases]
    return [
        {"": one.row.title} | _of_bases(one.run) for one in Progress(with_bases, "base planes", unit="row", leave=False)
    ]


def _of_bases(run: RunRecord) -> dict[str, Any]:
    insight = run.folder.read_json("insight.json")
    numbers = insight.get("bases", {}).get("s2")
    if numbers is None:
        measured = measure_bases(run, run.open_data(), 2)
        if measured is None:
            return {}
        numbers = measured.numbers
        run.folder.write_json("insight.json", insight | {"bases": insight.get("bases", {}) | {"s2": numbers}})
    shares = np.array(numbers["shares"])
    used = shares[shares > 0]
    return {
        "bases": numbers["num_bases"],
        "effective rank": numbers["effective_rank_bases"],
        "effective rank of mixing, less its mean": numbers["effective_rank_mixing_less_mean"],
        "effective number of bases": float(np.exp(-(used * np.log(used)).sum())),
        "largest share": float(shares.max()),
        "PSNR, dB": numbers["psnr"],
        "PSNR without micro, dB": numbers["psnr_without_micro"],
        "PSNR without macro, dB": numbers["psnr_without_macro"],
    }


def _place(one: SizedRow) -> tuple[bool, str, int, int, int]:
    return one.first > 0, one.recipe, one.num_bases, one.views or 0, one.first


def _standard_error(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
