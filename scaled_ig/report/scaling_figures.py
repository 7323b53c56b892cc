"""Charts and pictures of rows that differ in N1 and M, as PNG."""

from __future__ import annotations

import io
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from scaled_ig.batch import to_unit_range
from scaled_ig.metrics.images import psnr
from scaled_ig.report.cost_figures import PALETTE, draw_growth, plain_numbers, png
from scaled_ig.report.figures import GREY, INK, STYLE
from scaled_ig.report.pictures import to_pictures
from scaled_ig.report.scaling import SizedRow, Sizes

HEAD, CAPTION, SMALLEST = 18, 14, 128
"""Pixels of a title, of a caption, and of the least width of a view, for the caption."""


def growth(sizes: Sizes, most: int) -> bytes:
    """t(N) and m(N) of each way's largest row (the papers' Fig. 5); rings where one costs as much as the baseline."""
    curves = [sizes.curve(one) for one in sizes.shown]
    baseline = sizes.curve(sizes.baselines[0]) if sizes.baselines else None
    return draw_growth(curves, most, baseline, f"{sizes.time} minutes")


def quality(sizes: Sizes) -> bytes:
    """PSNR against N1, a line a way; dashed where there is no stage 1."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
        colours = cycle(PALETTE)
        for way, rows in sizes.ways.items():
            means = [float(sizes.psnrs(one).mean()) for one in rows]
            if rows[0].first:
                firsts = [one.first for one in rows]
                axes.plot(firsts, means, "o-", ms=6, color=next(colours), label=way)
            else:
                axes.axhline(means[0], ls=(0, (4 + 3 * len(axes.lines), 3)), color=GREY, lw=1.4, label=way)
        axes.set(xscale="log", xlabel="scenes in stage 1, N1", ylabel="PSNR on unseen views, dB")
        axes.set_xticks(sorted({one.first for one in sizes.rows if one.first}))
        axes.minorticks_off()
        plain_numbers(axes.xaxis, ticks=False)
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
        return png(figure)


def views(sizes: Sizes) -> bytes:
    """PSNR against training views of a scene, a line for each recipe and N1; dashed where there is no stage 1."""
    lines: dict[str, list[SizedRow]] = {}
    for one in sizes.rows:
        lines.setdefault(f"{one.recipe}, N1 = {one.first}" if one.first else one.recipe, []).append(one)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
        colours = cycle(PALETTE)
        for label, rows in lines.items():
            counts = [one.views or 0 for one in rows]
            means = [float(sizes.psnrs(one).mean()) for one in rows]
            colour, dashes = (next(colours), "-") if rows[0].first else (GREY, "--")
            axes.plot(counts, means, marker="o", ms=6, color=colour, ls=dashes, label=label)
        axes.set(xscale="log", xlabel="training views of a scene", ylabel="PSNR on unseen views, dB")
        axes.set_xticks(sorted({one.views for one in sizes.rows if one.views}))
        axes.minorticks_off()
        plain_numbers(axes.xaxis, ticks=False)
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
        return png(figure)


def spread(sizes: Sizes) -> bytes:
    """PSNR of each compared scene, a strip a row, with its median and the middle half."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.6, 0.9 + 0.34 * len(sizes.rows)), layout="constrained")
        colour_of = dict(zip(sizes.ways, cycle(PALETTE), strict=False))
        jitter = np.random.default_rng(0).uniform(-0.26, 0.26, len(sizes.ids))
        for place, one in enumerate(sizes.rows):
            values = sizes.psnrs(one)
            axes.plot(values, place + jitter, "o", ms=3, color=colour_of[one.way], alpha=0.45, mew=0)
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            axes.plot((low, high), (place, place), color=INK, lw=2.4)
            axes.plot(middle, place, "o", ms=6, color="white", mec=INK, mew=1.6, zorder=5)
        axes.set_yticks(range(len(sizes.rows)), [one.row.title for one in sizes.rows])
        axes.set(xlabel="PSNR of a scene's unseen views, dB", ylim=(len(sizes.rows) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        return png(figure)


@torch.no_grad()
def worst(sizes: Sizes) -> bytes:
    """The worst compared scenes, a line each: an unseen view, and what each shown row renders of it.

    Raises:
        UsageError: The pack is gone or has changed.
    """
    shown, ids = sizes.shown, sizes.worst()
    data = shown[0].run.open_data()
    places = {name: place for place, name in enumerate(data.scene_ids(2))}
    views = data.split(2, "test")
    factor = -(-SMALLEST // min(data.index.image_size))
    height, width = (factor * side for side in data.index.image_size)
    sheet = Image.new("RGB", ((1 + len(shown)) * width, HEAD + len(ids) * (height + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, title in enumerate(["truth", *(one.row.title for one in shown)]):
        draw.text((column * width + 3, 3), title, fill="black", font=font)
    for line, name in enumerate(ids):
        (batch,) = data.batches(2, [(places[name], views[places[name]][0])])
        truth, top = to_unit_range(batch.pixels), HEAD + line * (height + CAPTION)
        images = [truth, *(one.run.bank[name].render(batch.cameras) for one in shown)]
        captions = [name, *(f"{float(psnr(image, truth)[0]):.1f} dB" for image in images[1:])]
        for column, (image, caption) in enumerate(zip(images, captions, strict=True)):
            while draw.textlength(caption, font=font) > width - 6:
                caption = caption.removesuffix("…")[:-1] + "…"
            draw.text((column * width + 3, top), caption, fill="black", font=font)
            picture = Image.fromarray(to_pictures(image[0])).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * width, top + CAPTION))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()
