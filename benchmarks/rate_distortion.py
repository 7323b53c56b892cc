"""Bytes of a stored scene against what is left of its unseen views: python -m benchmarks.rate_distortion RUN [RUN …].

RUN is a finished run of recipes/fast.yaml, whatever its options. The scenes of stage 2 are taken from its checkpoint as
they were trained, kept in many ways, and rendered from what comes back. The first run has all ways, the others fewer
steps alone. It prints a Markdown table, and writes it as CSV with a figure beside it.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from benchmarks.contest import machine
from benchmarks.plane_codes import Code, Floats, Planes, fewer_steps, fewer_texels, rotated
from scaled_ig.bank.scene_records import _deflate, encode
from scaled_ig.batch import ViewBatch
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.phases.checkpoints import AtomicCheckpointIO
from scaled_ig.progress import Progress
from scaled_ig.representations.occupancy import Hulls
from scaled_ig.runs.record import RunRecord

STEPS = (127, 63, 47, 31, 23, 15, 11, 7, 5, 3)  # either side of zero; 47 is the bank's int8_difference
SIZES = (1.5, 2, 3, 4, 6)  # of a step, before the head's activation
SHARES_OF_FEATURES, SHARES_OF_TEXELS = (7 / 8, 3 / 4, 1 / 2), (0.9, 0.8, 0.6)
NOISE = 0.1  # dB below which docs/performance.md calls differences noise
WHOLE, FEWER_STEPS, TURNED = "no reference", "fewer steps", "turned to the head"  # kinds of ways
FEWER_FEATURES, FEWER_TEXELS = "fewer features", "fewer texels"


def bits(most: int) -> str:
    """Bits of a number from ``-most`` to ``most``."""
    return f"{math.log2(2 * most + 1):.1f}"


@dataclass(frozen=True)
class Row:
    """What a way costs: bytes a scene by coder, and PSNR, dB, of unseen views. ``psnr_gain`` is to float32."""

    planes: str
    kind: str
    way: str
    zlib: float
    lzma: float | None
    entropy: float | None
    psnr: float
    psnr_gain: float


class StoredScenes:
    """Scenes of stage 2 as they were trained, and their unseen views.

    Args:
        folder: Of a finished run.
        pack: Folder of its pack, where it has been moved since.

    Raises:
        UsageError: The run has other scenes than tri-planes within hulls, or no checkpoint of them in one file.
    """

    def __init__(self, folder: Path, pack: str | None) -> None:
        run = RunRecord.open(folder)
        if len(run.versions(2)) != 1:
            raise UsageError(f"{folder} has not learned stage 2 at once: give a run without waves")
        (version,) = run.versions(2)
        ids = [record.id for record in run.bank.scenes(version)]
        self.model, self.mean = run.bank.load_version(version, ids), run.bank.mean(version)
        self.batches: list[ViewBatch] = list(run.open_data(pack).views_of(2, ids, "test"))
        if self.mean.keys() != {"micro", "hull"}:
            raise UsageError(
                f"{folder} keeps more than tri-planes and hulls of a scene: give a run of recipes/fast.yaml"
            )
        file = folder / "checkpoints" / run.phases(2)[-1] / "final.ckpt"
        state = AtomicCheckpointIO().load_checkpoint(file)["state_dict"]
        prefix = "scene.representation."
        if len(state.get(f"{prefix}micro.weight", ())) != len(ids):
            raise UsageError(f"{file} does not hold the bank's {len(ids)} scenes of stage 2: train them on one rank")
        self.rows = [{name: state[f"{prefix}{name}.weight"][scene] for name in self.mean} for scene in range(len(ids))]
        hulls = state[f"{prefix}hull.weight"]
        mask = self.model.representation.texels(Hulls(hulls)).numpy()
        self.hull_bytes = float(np.mean([len(_deflate(hull.numpy().tobytes())) for hull in hulls]))
        self.reference = self.mean["micro"].numpy() * mask[..., None]
        trained = state[f"{prefix}micro.weight"].numpy() * mask[..., None]
        self.planes = Planes(trained - self.reference, mask)
        self.weight = state["scene.renderer.head.hidden.weight"].numpy()
        size, features = trained.shape[-2:]
        self.name = f"{features} features, {size}² texels"

    @torch.no_grad()
    def psnr(self, differences: Floats) -> float:
        """Mean over unseen views, then over scenes, dB, with these planes."""
        table = self.model.representation.scene_tables()["micro"]
        table.weight.copy_(torch.from_numpy(self.reference + differences))
        return over_scenes(per_scene(evaluate(self.model, self.batches)))["psnr"]

    def record_bytes(self, encoding: Any) -> float:
        """Mean bytes of the bank's records."""
        texels = self.model.representation.texels
        return float(np.mean([len(encode(row, encoding, self.mean, texels)) for row in self.rows]))

    def codes(self, is_first: bool) -> list[tuple[str, str, Callable[[], Code]]]:
        """Kind, way, and what makes its code."""
        ways = [
            (FEWER_STEPS, f"{most} steps, {bits(most)} bits", partial(fewer_steps, self.planes, most)) for most in STEPS
        ]
        if is_first:
            texels, features = self.planes.values.shape[-2:]
            turned = partial(rotated, self.planes, self.weight)
            ways += [(TURNED, f"{size} a step", partial(turned, size)) for size in SIZES]
            fewer = [round(share * features) for share in SHARES_OF_FEATURES]
            ways += [(FEWER_FEATURES, f"{kept} of {features}, 2 a step", partial(turned, 2, kept)) for kept in fewer]
            lower = [round(share * texels) for share in SHARES_OF_TEXELS]
            ways += [
                (FEWER_TEXELS, f"{side}², 31 steps", partial(fewer_texels, self.planes, side, 31)) for side in lower
            ]
        return ways

    def floats(self) -> Iterator[tuple[str, float, Floats]]:
        """Way, bytes a scene and differences of what has no coder."""
        trained = self.reference + self.planes.values
        yield "float32", self.record_bytes("float32"), self.planes.values
        half = trained.astype(np.float16).astype(np.float32)
        yield "float16", self.hull_bytes + (self.record_bytes("float32") - self.hull_bytes) / 2, half - self.reference
        # Without the reference row, 127 steps: the bank's int8.
        whole = fewer_steps(Planes(trained, self.planes.mask), 127)
        yield "int8", self.record_bytes("int8"), whole.restored - self.reference


def measure(scenes: StoredScenes, is_first: bool) -> list[Row]:
    """A row for every way.

    Args:
        scenes: The scenes.
        is_first: Whether to try all ways.
    """
    exact = scenes.psnr(scenes.planes.values)
    rows = []
    for way, size, differences in scenes.floats():
        psnr = scenes.psnr(differences)
        rows.append(Row(scenes.name, WHOLE, way, size, None, None, psnr, psnr - exact))
    for kind, way, make in Progress(scenes.codes(is_first), scenes.name, unit="way"):
        code = make()
        sizes = {name: size + scenes.hull_bytes for name, size in code.sizes().items()}
        psnr = scenes.psnr(code.restored)
        rows.append(Row(scenes.name, kind, way, **sizes, psnr=psnr, psnr_gain=psnr - exact))
    return rows


def recommended(rows: list[Row]) -> Row:
    """Of the first planes' fewer steps the fewest bytes, by the bank's coder, that cost less than the noise."""
    return min(
        (row for row in rows if (row.planes, row.kind) == (rows[0].planes, FEWER_STEPS) and row.psnr_gain > -NOISE),
        key=lambda row: row.zlib,
    )


def table(rows: list[Row]) -> str:
    """All rows as Markdown, a table for each kind of planes."""
    head = ("| what changes | way | kB, zlib | kB, LZMA | kB, entropy | PSNR, dB | to float32, dB |", f"|{'---|' * 7}")
    lines: list[str] = []
    for planes in dict.fromkeys(row.planes for row in rows):
        lines += ["", planes, "", *head]
        for row in (row for row in rows if row.planes == planes):
            sizes = (row.zlib, row.lzma, row.entropy)
            cells = " | ".join("–" if size is None else f"{size / 1000:.1f}" for size in sizes)
            gain = f"{row.psnr_gain:+.3f}".replace("-", "−")
            lines.append(f"| {row.kind} | {row.way} | {cells} | {row.psnr:.2f} | {gain} |")
    return "\n".join(lines[1:])


def draw(rows: list[Row], path: Path) -> None:
    """PSNR against stored kilobytes by the better of both coders, all of it and the upper end; a line for each kind."""
    figure, panels = plt.subplots(1, 2, figsize=(14, 6))
    for axes in panels:
        for place, (planes, kind) in enumerate(dict.fromkeys((row.planes, row.kind) for row in rows)):
            line = [row for row in rows if (row.planes, row.kind) == (planes, kind)]
            label = f"{kind}: {planes}" if kind in (WHOLE, FEWER_STEPS) else kind
            style: dict[str, Any] = {"label": label, "color": f"C{place}", "ms": 4}
            axes.plot(list(map(_kilobytes, line)), [row.psnr for row in line], "s" if kind == WHOLE else "o-", **style)
            for row in line:
                _label(axes, row, f"C{place}")
        point = recommended(rows)
        style = {"color": "black", "fillstyle": "none", "ms": 14, "label": f"recommended: {point.way}"}
        axes.plot(_kilobytes(point), point.psnr, "*", **style)
        axes.set(xscale="log", xlabel="stored kB a scene, the smaller of zlib and LZMA")
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="PSNR of unseen views, dB")
    panels[0].legend(fontsize=8, loc="lower right")
    best = max(row.psnr for row in rows)
    panels[1].set(ylim=(best - 1.8, best + 0.15), xlim=(None, 120))
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _label(axes: Axes, row: Row, colour: str) -> None:
    offset = (0, 5) if row.kind in (WHOLE, FEWER_STEPS) else (0, -12)
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "ha": "center", "clip_on": True}
    axes.annotate(row.way.split(" ")[0].rstrip(","), (_kilobytes(row), row.psnr), offset, color=colour, **style)


def _kilobytes(row: Row) -> float:
    return min(row.zlib, row.lzma or row.zlib) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs; the first has all ways")
    parser.add_argument("--pack", help="their pack, where it has been moved since")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/rate-distortion"), help=".csv and .png are added"
    )
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        for run in options.runs:
            rows += measure(StoredScenes(run, options.pack), is_first=not rows)
    except UsageError as error:
        parser.error(str(error))
    with options.out.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    draw(rows, options.out.with_suffix(".png"))
    point = recommended(rows)
    print(table(rows))
    print(f"recommended: {point.way}, {point.zlib / 1000:.1f} kB, {point.psnr:.2f} dB. {machine()}")


if __name__ == "__main__":
    main()
