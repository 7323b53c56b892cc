"""Where the decibels of latent scenes go: python -m benchmarks.decibels RUN [--pack PACK] [--scenes N].

After stage 1, latent supervision and RGB alignment: PSNR of views that are encoded and decoded; of the consistent part
of their latents, decoded, where each latent pixel is the mean over the training views that see the same point of a
surface, by rendered depth, to a latent pixel's width; and of renderings, decoded. Of the renderings' squared error also
the parts by bands of frequency, which averages over blocks of pixels tell apart, and by distance from the silhouette.
Carrying latents blurs them, and depth is not exact: *images* is the consistent part of the images themselves, carried
in the same way at their own size. *Views a point* says how many views such a mean is of.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import spread
from scaled_ig.batch import ViewBatch, to_unit_range
from scaled_ig.errors import UsageError
from scaled_ig.metrics.consistency import OPAQUE, Surface, consistent_part, match_pixels
from scaled_ig.metrics.images import psnr
from scaled_ig.phases.checkpoint_files import newest_whole
from scaled_ig.phases.checkpoints import load_checkpoint
from scaled_ig.progress import Progress
from scaled_ig.report.cost_table import markdown_lines
from scaled_ig.runs.record import PHASE_NAMES, RunRecord
from scaled_ig.scene_model import SceneModel, to_image

BLOCKS = (2, 4, 8)
BANDS = ("finer than 2 pixels, %", "2–4, %", "4–8, %", "coarser, %")
RIM = 2
PLACES = ("at silhouettes, %", "inside, %", "outside, %")
AREA = "pixels at silhouettes"
VIEWS = "views a point"
VIEWS_AT_ONCE = 32
DECIBELS = ("encoded, dB", "consistent, dB", "images, dB", "rendered, dB")


def bands(errors: Tensor) -> Tensor:
    """Squared error [B, 4] by :data:`BANDS`, which sum to the mean over the image.

    What averages over blocks of pixels lose from one size of blocks to the next is orthogonal to all the rest.

    Args:
        errors: [B, C, H, W], sides are multiples of the largest block.

    Raises:
        UsageError: They are not.
    """
    if errors.shape[2] % BLOCKS[-1] or errors.shape[3] % BLOCKS[-1]:
        raise UsageError(
            f"images of {errors.shape[2]} × {errors.shape[3]} pixels: sides must be multiples of {BLOCKS[-1]}"
        )
    averages = [errors, *(F.interpolate(F.avg_pool2d(errors, size), scale_factor=size) for size in BLOCKS)]
    parts = [fine - coarse for fine, coarse in pairwise(averages)] + averages[-1:]
    return torch.stack([part.square().flatten(1).mean(1) for part in parts], 1)


def places(errors: Tensor, masks: Tensor) -> Tensor:
    """Squared error [B, 3] by :data:`PLACES`, which sum to the mean over the image.

    Args:
        errors: [B, C, H, W].
        masks: [B, H, W] bool, where the object is.
    """
    return (errors.square().mean(1, keepdim=True) * _places(masks)).mean((2, 3))


def _places(masks: Tensor) -> Tensor:
    """[B, 3, H, W], 1 in that of :data:`PLACES` that a pixel belongs to."""
    inside, outside = (
        1 - F.max_pool2d(part[:, None].float(), 2 * RIM + 1, 1, RIM) for part in (~masks, masks)
    )  # as far as RIM from the other side
    return torch.cat([1 - inside - outside, inside, outside], 1)


@dataclass(frozen=True)
class Version:
    """A model as a phase left it.

    Args:
        title: Of its rows.
        stage: Whose scenes it holds.
        model: With these scenes.
        ids: Of its scenes in order.
    """

    title: str
    stage: int
    model: SceneModel
    ids: list[str]


def versions(run: RunRecord) -> Iterator[Version]:
    """What is left of a run's phases, in order; of several waves the last."""
    phases, path = run.costs["phases"], run.folder.checkpoint("latent_supervision")
    for stage in run.learned_stages():
        name = run.versions(stage)[-1]
        ids = [record.id for record in run.bank.scenes(name)]
        has_same_scenes = len(ids) == phases.get("latent_supervision", {}).get("scenes")  # none removed, one wave
        if stage == 2 and "rgb_alignment" in phases and path.is_file() and has_same_scenes:
            newest_whole([path], "latent_supervision")  # verifies it
            model = run.bank.load_version(name)
            load_checkpoint(model, path, with_scenes=True)
            yield Version(PHASE_NAMES["latent_supervision"], stage, model, ids)
        title = "stage 1" if stage == 1 else PHASE_NAMES[run.phases(2)[-1]]
        yield Version(title, stage, run.bank.load_version(name), ids)


@torch.no_grad()
def measure(
    version: Version, data: MultiViewDataModule, scene: str, most_views: int
) -> dict[str, list[dict[str, float]]]:
    """A record a view of a scene, by the kind of its views: ``unseen``, ``training``.

    Args:
        version: The model.
        data: Views of its stage.
        scene: Id.
        most_views: Of each kind, spread evenly.
    """
    place, row = data.scene_ids(version.stage).index(scene), version.ids.index(scene)
    views = copy.copy(data.views(version.stage))
    views.with_masks = data.has_masks(version.stage)
    train = data.split(version.stage, "train")[place]
    learned = _Seen.of(version.model, row, views.__getitems__([(place, view) for view in train]))
    kinds = {"unseen": data.split(version.stage, "test")[place], "training": train}
    return {
        kind: _records(
            version.model,
            _Seen.of(version.model, row, views.__getitems__([(place, view) for view in spread(kept, most_views)])),
            learned,
        )
        for kind, kept in kinds.items()
    }


@dataclass(frozen=True)
class _Seen:
    """Views of a scene: with their latents, with surfaces at the size of latents and of images, and rendered."""

    batch: ViewBatch
    latents: Tensor
    surface: Surface
    fine_surface: Surface
    rendered: Tensor

    @classmethod
    def of(cls, model: SceneModel, row: int, batch: ViewBatch) -> _Seen:
        parts = []
        for rows in torch.arange(len(batch)).split(VIEWS_AT_ONCE):
            cameras, index = batch.cameras[rows], torch.full((len(rows),), row)
            coarse, fine = model.render(cameras, index), model.render_pixels(cameras, index)
            surfaces = [
                values.unflatten(1, size)
                for rendering, size in ((coarse, model.latent_size), (fine, model.image_size))
                for values in (rendering.depth, rendering.accumulation)
            ]
            parts.append((model.encode(batch.pixels[rows]), to_image(coarse.pixels, model.latent_size), *surfaces))
        latents, rendered, *surfaces = map(torch.cat, zip(*parts, strict=True))
        return cls(
            batch, latents, Surface(batch.cameras, *surfaces[:2]), Surface(batch.cameras, *surfaces[2:]), rendered
        )


def _records(model: SceneModel, shown: _Seen, learned: _Seen) -> list[dict[str, float]]:
    """A record a view, without :data:`PLACES` where there is no mask."""
    images, batch, tolerance = to_unit_range(shown.batch.pixels), shown.batch, _latent_pixel(model, shown.batch)
    consistent, views = _consistent(shown.latents, shown.surface, learned.latents, learned.surface, tolerance)
    learned_images = to_unit_range(learned.batch.pixels)
    carried, _ = _consistent(images, shown.fine_surface, learned_images, learned.fine_surface, tolerance)
    decoded = [to_unit_range(model.decode(latents)) for latents in (shown.latents, consistent, shown.rendered)]
    compared = dict(zip(DECIBELS, (*decoded[:2], carried, decoded[2]), strict=True))
    columns = {name: psnr(values, images) for name, values in compared.items()} | {VIEWS: views}
    errors = decoded[2] - images
    columns |= dict(zip(BANDS, bands(errors).T, strict=True))
    if batch.masks is not None and batch.masked is not None and bool(batch.masked.all()):
        masks = batch.masks > 127
        columns |= dict(zip(PLACES, places(errors, masks).T, strict=True))
        columns[AREA] = _places(masks)[:, 0].mean((1, 2))
    return [{name: float(column[view]) for name, column in columns.items()} for view in range(len(batch))]


def _latent_pixel(model: SceneModel, batch: ViewBatch) -> float:
    """Width of a latent pixel at the origin, world units: what lies nearer to each other is one point here."""
    distance = batch.cameras.camera_to_world[:, :3, 3].norm(dim=1)
    return float((distance / batch.cameras.intrinsics[:, 0]).mean()) / model.latent_size[1]


def _consistent(
    values: Tensor, surface: Surface, other_values: Tensor, others: Surface, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The consistent part of views, and how many others see a point of a surface of each."""
    parts, counts = [], []
    for view, image in enumerate(values):
        rows = [view] * len(other_values)
        repeated = Surface(surface.cameras[rows], surface.depth[rows], surface.opacity[rows])
        match = match_pixels(repeated, others, tolerance)
        parts.append(consistent_part(image, other_values, match))
        counts.append(match.visible.sum() / (surface.opacity[view] > OPAQUE).sum().clamp(min=1))
    return torch.stack(parts), torch.stack(counts)


def table(records: dict[tuple[str, str], list[dict[str, float]]]) -> str:
    """Markdown: a row a version and kind of views; errors are in parts of their sum."""
    known = [name for name in PLACES if all(name in view for views in records.values() for view in views)]
    rows = []
    for (title, kind), views in records.items():
        means = {name: statistics.fmean(view[name] for view in views) for name in (*DECIBELS, *BANDS, *known, VIEWS)}
        error = sum(means[name] for name in BANDS)
        shares = [f"{100 * means[name] / error:.0f}" for name in (*BANDS, *known)]
        decibels = [f"{means[name]:.2f}" for name in DECIBELS]
        rows.append([title, kind, *decibels, *shares, f"{means[VIEWS]:.0f}"])
    return markdown_lines(["after", "views", *DECIBELS, *BANDS, *known, VIEWS], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="finished run of latent scenes")
    parser.add_argument("--pack", help="folder of the pack, if it is no longer where the run read it")
    parser.add_argument("--scenes", type=int, default=8, help="scenes of each stage, spread evenly over them")
    parser.add_argument("--views", type=int, default=4, help="views of each kind of a scene")
    options = parser.parse_args()
    try:
        print(measure_run(RunRecord.open(options.run), options.pack, options.scenes, options.views))
    except UsageError as error:
        parser.error(str(error))


def measure_run(run: RunRecord, pack: str | None, scenes: int, views: int) -> str:
    """The table of a run, and what it was measured on.

    Raises:
        UsageError: It has no latents, or its pack is gone.
    """
    if run.is_rgb:
        raise UsageError(f"{run.folder.path} is trained on pixels: give a run of latent scenes")
    data = run.open_data(pack)
    records: dict[tuple[str, str], list[dict[str, float]]] = {}
    for version in versions(run):
        for scene in Progress(spread(version.ids, scenes), version.title, unit="scene", leave=False):
            for kind, measured in measure(version, data, scene, views).items():
                records.setdefault((f"{version.title}, S{version.stage}", kind), []).extend(measured)
    areas = [view[AREA] for measured in records.values() for view in measured if AREA in view]
    area = f" Of their pixels {100 * statistics.fmean(areas):.0f} % are at silhouettes." if areas else ""
    return f"{table(records)}\n\nAt most {scenes} scenes of a stage, {views} views of each kind.{area}"


if __name__ == "__main__":
    main()
