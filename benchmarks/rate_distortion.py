"""Bytes of a stored scene against what is left of its unseen views: python -m benchmarks.rate_distortion RUN [RUN …].

RUN is a finished run of recipes/fast.yaml, or of its options. The scenes of stage 2 are taken from its checkpoint as
they were trained, kept in many ways, and rendered from what comes back. The first run has all ways, the others fewer
steps alone. It prints a Markdown table, and writes it as CSV with a figure beside it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
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
NOISE = 0.1  # dB below which docs/performance.md calls differences noise
FAMILIES = ("bank", "fewer steps", "turned to the head", "fewer features", "fewer texels")


@dataclass(frozen=True)
class Row:
    """What a way costs: bytes a scene by coder, and PSNR, dB, of unseen views. ``psnr_gain`` is to float32."""

    planes: str
    family: str
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
            raise UsageError(f"{file} does not hold the {len(ids)} scenes of stage 2: train them on one rank, at once")
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

    def codes(self, is_first: bool) -> Iterator[tuple[str, str, Callable[[], Code]]]:
        """Family, way, and what makes its code."""
        for most in STEPS:
            yield (
                FAMILIES[1],
                f"{most} steps ({np.log2(2 * most + 1):.1f} bits)",
                lambda most=most: fewer_steps(self.planes, most),
            )
        if not is_first:
            return
        for step in (1, 2, 3, 4, 6):
            yield FAMILIES[2], f"steps of {step}", lambda step=step: rotated(self.planes, self.weight, step)
        for kept in (14, 12, 8):
            yield (
                FAMILIES[3],
                f"{kept} of {self.weight.shape[1]}",
                lambda kept=kept: rotated(self.planes, self.weight, 2, kept),
            )
        for texels in (72, 64, 48):
            yield FAMILIES[4], f"{texels}², 31 steps", lambda texels=texels: fewer_texels(self.planes, texels, 31)

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
        rows.append(Row(scenes.name, FAMILIES[0], way, size, None, None, psnr, psnr - exact))
    for family, way, make in Progress(list(scenes.codes(is_first)), scenes.name, unit="way"):
        code = make()
        sizes = {name: size + scenes.hull_bytes for name, size in code.sizes().items()}
        psnr = scenes.psnr(code.restored)
        rows.append(Row(scenes.name, family, way, **sizes, psnr=psnr, psnr_gain=psnr - exact))
    return rows


def recommended(rows: list[Row]) -> Row:
    """Of the first planes' fewer steps the fewest bytes, by the bank's coder, that cost less than the noise."""
    return min(
        (row for row in rows if (row.planes, row.family) == (rows[0].planes, FAMILIES[1]) and row.psnr_gain > -NOISE),
        key=lambda row: row.zlib,
    )


def table(rows: list[Row]) -> str:
    """All rows as Markdown."""
    lines = [
        "| planes | what changes | way | kB, zlib | kB, LZMA | kB, entropy | PSNR, dB | to float32, dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = " | ".join("–" if size is None else f"{size / 1000:.1f}" for size in (row.zlib, row.lzma, row.entropy))
        gain = f"{row.psnr_gain:+.3f}".replace("-", "−")
        lines.append(f"| {row.planes} | {row.family} | {row.way} | {sizes} | {row.psnr:.2f} | {gain} |")
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """PSNR against stored kilobytes, the smaller of both coders; a line for each family of ways."""
    figure, axes = plt.subplots(figsize=(9, 6))
    for colour, (planes, family) in enumerate(dict.fromkeys((row.planes, row.family) for row in rows)):
        if family == "bank" and planes != rows[0].planes:
            continue
        line = [row for row in rows if (row.planes, row.family) == (planes, family)]
        sizes = [min(row.zlib, row.lzma or row.zlib) / 1000 for row in line]
        label = family if family != FAMILIES[1] else f"{family}: {planes}"
        axes.plot(
            sizes,
            [row.psnr for row in line],
            "o--" if family == "bank" else "o-",
            ms=4,
            label=label,
            color=f"C{colour}",
        )
        for size, row in zip(sizes, line, strict=True):
            if planes == rows[0].planes:
                text, above = row.way.split(" ")[0].rstrip(","), family in FAMILIES[:2]
                axes.annotate(
                    text,
                    (size, row.psnr),
                    (0, 5 if above else -12),
                    textcoords="offset points",
                    fontsize=7,
                    ha="center",
                    color=f"C{colour}",
                )
    point = recommended(rows)
    axes.plot(
        min(point.zlib, point.lzma or point.zlib) / 1000,
        point.psnr,
        "*",
        ms=15,
        color="black",
        fillstyle="none",
        label="recommended",
    )
    axes.set(xscale="log", xlabel="stored kB a scene, the smaller of zlib and LZMA", ylabel="PSNR of unseen views, dB")
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs; the first has all ways")
    parser.add_argument("--pack", help="their pack, where it has been moved since")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/rate-distortion"), help=".csv and .png are added"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for run in options.runs:
        rows += measure(StoredScenes(run, options.pack), is_first=not rows)
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
