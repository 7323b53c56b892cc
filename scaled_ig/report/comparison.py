"""This run beside others on the same stage-2 scenes: numbers, and sentences that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaled_ig.errors import UsageError
from scaled_ig.report.page import signed
from scaled_ig.runs.record import PHASE_NAMES, RunRecord

End = tuple[str, float, float]
"""Phase, training seconds in stage 2 until its end, PSNR on test views in dB."""

PLAIN_FEATURES = (10, 32)
"""F of the plain tri-planes that stand beside any statement on size (method 8)."""


@dataclass(frozen=True)
class Contender:
    """A run in the comparison.

    Args:
        label: What the page calls it.
        run: Its record.
        kind: ``ours``, ``no_prior``, ``rgb`` or ``other``.
    """

    label: str
    run: RunRecord
    kind: str

    def ends(self) -> list[End]:
        """Each measured phase of stage 2; none where the bank has lost all of its scenes."""
        if not self.run.scenes(2):
            return []
        seconds, ends = 0.0, list[End]()
        for phase in self.run.phases(2):
            seconds += self.run.costs["phases"][phase]["seconds"]
            value = self.run.test_value(phase, "psnr")
            if value is not None:
                ends.append((phase, seconds, value))
        return ends

    def watched(self) -> list[tuple[float, float]]:
        """PSNR on watched views over stage 2: (training seconds in stage 2, dB)."""
        start, points = 0.0, []
        for phase in self.run.phases(2):
            points += [(start + seconds, psnr) for seconds, psnr in self.run.curve(phase, "val/psnr")]
            start += self.run.costs["phases"][phase]["seconds"]
        return points


@dataclass(frozen=True)
class Row:
    """A line of the comparison: a contender at the end of a phase of stage 2."""

    label: str
    phase: str
    seconds: float
    seconds_per_scene: float
    psnr: float
    ssim: float | None
    bytes_per_scene: int
    difference: float  # dB, to ours at the end


def gather(run: RunRecord, no_prior: str | None, rgb: str | None, compare: list[str] | None) -> list[Contender]:
    """The run and those to compare it with.

    Args:
        run: Ours.
        no_prior: Run folder of the same stage 2 without what stage 1 hands over.
        rgb: Run folder of RGB tri-planes.
        compare: Further ``LABEL=RUN``.

    Raises:
        UsageError: One of them is no run, or learned other scenes.
    """
    contenders = [Contender("this run", run, "ours")]
    if no_prior:
        contenders.append(Contender("no prior", RunRecord.open(no_prior), "no_prior"))
    if rgb:
        contenders.append(Contender("RGB tri-planes", RunRecord.open(rgb), "rgb"))
    for pair in compare or []:
        label, equals, folder = pair.partition("=")
        if not (label and equals and folder):
            raise UsageError(f"--compare {pair!r} is no LABEL=RUN: name the run, then its folder")
        contenders.append(Contender(label, RunRecord.open(folder), "other"))
    for contender in contenders[1:]:
        run.check_same_scenes(contender.run)
    return contenders


def rows(contenders: list[Contender]) -> list[Row]:
    """Lines of the table, in the order of the contenders and of their phases."""
    own_ends = contenders[0].ends()
    if not own_ends:
        return []
    lines = []
    for contender in contenders:
        scenes = len(contender.run.scenes(2))
        size = contender.run.bytes_per_scene()
        for phase, seconds, psnr in contender.ends():
            ssim, name = contender.run.test_value(phase, "ssim"), PHASE_NAMES[phase]
            moment = "at the end" if phase == contender.ends()[-1][0] else f"after {name}"
            lines.append(
                Row(contender.label, moment, seconds, seconds / scenes, psnr, ssim, size, psnr - own_ends[-1][2])
            )
    return lines


def plain_bytes(run: RunRecord, features: int) -> int:
    """Bytes of plain float32 tri-planes with F features at the run's plane resolution."""
    return 3 * run.representation()["plane_resolution"] ** 2 * features * 4


def _rays(run: RunRecord) -> str:
    """Which of the two ways of training RGB tri-planes it was."""
    rays = run.rays_per_view()
    if rays:
        return f"They were trained on {rays} random rays of a view in a step, the strong way."
    return "They were trained on whole images, as in the papers; random rays would be the stronger way."


def sentences(contenders: list[Contender]) -> list[str]:
    """What the numbers say, whatever they say."""
    own_ends, run = contenders[0].ends(), contenders[0].run
    if not own_ends:
        return []
    scenes = len(run.scenes(2))
    stage1_text = f", after {run.seconds(1):.1f} s of stage 1" if 1 in run.stages() else ""
    texts = [
        f"This run trained stage 2 for {own_ends[-1][1]:.1f} s, {own_ends[-1][1] / scenes:.2f} s for each of "
        f"{scenes} scenes{stage1_text}, and reached {own_ends[-1][2]:.2f} dB."
    ]
    for contender in contenders[1:]:
        ends = contender.ends()
        if ends and contender.kind == "no_prior":
            texts.append(f"{_prior_sentence(own_ends, ends)}{_same_time(contenders[0], contender)}")
        elif ends:
            texts.append(f"{_rival_sentence(contender, own_ends[-1], ends[-1])}{_same_time(contenders[0], contender)}")
    return [text for text in texts if text]


def _same_time(this_run: Contender, other_run: Contender) -> str:
    """Both on watched views after the shorter of their times, between measurements by straight lines."""
    curves = [contender.watched() for contender in (this_run, other_run)]
    if not all(curves):
        return ""
    seconds = min(curve[-1][0] for curve in curves)
    own_psnr, other_psnr = (float(np.interp(seconds, *np.array(curve).T)) for curve in curves)
    numbers = f"{own_psnr:.2f} dB in this run, {other_psnr:.2f} dB in that"
    return f" On watched views after the same {seconds:.1f} s: {numbers}."


def _prior_sentence(own_ends: list[End], ends_without: list[End]) -> str:
    end_of_phase = {phase: (seconds, psnr) for phase, seconds, psnr in ends_without}
    parts = []
    for phase, seconds, psnr in own_ends:
        if phase in end_of_phase:
            other_seconds, other_psnr = end_of_phase[phase]
            parts.append(
                f"{signed(psnr - other_psnr)} dB after {PHASE_NAMES[phase]} ({psnr:.2f} dB at {seconds:.1f} s against "
                f"{other_psnr:.2f} dB at {other_seconds:.1f} s)"
            )
    return (
        f"Against the same stage 2 without stage 1's bases, head and mean scene: {', '.join(parts)}." if parts else ""
    )


def _rival_sentence(contender: Contender, own_end: End, other_end: End) -> str:
    gap = other_end[2] - own_end[2]
    verdict = (
        "within 0.05 dB of this run"
        if abs(gap) < 0.05
        else f"{abs(gap):.2f} dB {'more' if gap > 0 else 'less'} than this run"
    )
    text = (
        f"{contender.label}: {other_end[2]:.2f} dB, {verdict}, in {other_end[1]:.1f} s of stage 2 "
        f"({other_end[1] / own_end[1]:.2f} times this run's)."
    )
    return f"{text} {_rays(contender.run)}" if contender.kind == "rgb" else text
