"""What the base planes have learned, and what scenes make of them and of their own planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_bank import spread
from scaled_ig.batch import to_unit_range
from scaled_ig.metrics.base_planes import effective_rank, shares_of_bases, singular_values
from scaled_ig.metrics.images import psnr
from scaled_ig.report.pictures import Picture
from scaled_ig.report.views import LatentColours
from scaled_ig.representations import MicroMacro
from scaled_ig.runs.record import RunRecord

SCENES, VIEWS, PICTURED = 6, 3, 10
MOST_MIXINGS = 256
"""Scenes whose mixing coefficients are read."""

WITHOUT = {"psnr": (), "psnr_without_micro": ("micro",), "psnr_without_macro": ("mixing",)}
"""Names of the measured numbers, and the scenes' own parts that are zero then."""


@dataclass(frozen=True)
class BasePlanes:
    """Base planes of a stage.

    Args:
        numbers: ``num_bases``; effective ranks of the bases, of the ``mixing`` matrix and of its differences from the
            mean scene, with the number of ``mixings`` read; ``shares`` of each base; PSNR in dB of whole scenes,
            ``without_micro`` and ``without_macro``, with their ``scenes`` and ``views``.
        spectra: Singular values of the bases and of the differences of mixing, by what they are of.
        pictures: The most used bases, most used first, by the plane's axes.
    """

    numbers: dict[str, Any]
    spectra: dict[str, Tensor]
    pictures: dict[str, list[Picture]]


@torch.no_grad()
def measure_bases(run: RunRecord, data: MultiViewDataModule, stage: int) -> BasePlanes | None:
    """Look into the newest version of a stage; scenes and test views are spread evenly.

    Returns:
        None where scenes share no base planes, or those of the newest version were not measured.
    """
    measured = {scene["id"] for scene in run.scenes(stage)}
    ids = [scene.id for scene in run.bank.scenes(run.versions(stage)[-1]) if scene.id in measured]
    representation = run.bank[ids[0]].model.representation if ids else None
    if not isinstance(representation, MicroMacro) or representation.mixing is None:
        return None
    bases = representation.bases
    mixing = torch.stack([run.bank[name].rows["mixing"] for name in spread(ids, MOST_MIXINGS)])
    shares = shares_of_bases(mixing, bases)
    spectra = {
        "base planes": singular_values(bases.flatten(1)),
        "mixing": singular_values(mixing),
        "mixing, less its mean": singular_values(mixing - mixing.mean(0)),
    }
    of_bases, of_mixing, of_differences = map(effective_rank, spectra.values())
    numbers = {
        "num_bases": len(bases),
        "effective_rank_bases": of_bases,
        "effective_rank_mixing": of_mixing,
        "effective_rank_mixing_less_mean": of_differences,
        "mixings": len(mixing),
        "shares": shares.tolist(),
        **_quality(run, data, stage, spread(ids, SCENES)),
    }
    return BasePlanes(numbers, spectra, _pictures(representation, shares))


def _quality(run: RunRecord, data: MultiViewDataModule, stage: int, ids: list[str]) -> dict[str, Any]:
    """PSNR on test views of whole scenes, and of scenes with a part of their own set to zero."""
    place, views = {name: index for index, name in enumerate(data.scene_ids(stage))}, data.split(stage, "test")
    sums, count = dict.fromkeys(WITHOUT, 0.0), 0
    for name in ids:
        scene, shown_views = run.bank[name], spread(views[place[name]], VIEWS)
        batch = data.views(stage).__getitems__([(place[name], view) for view in shown_views])
        truth, count = to_unit_range(batch.pixels), count + len(shown_views)
        for title, parts in WITHOUT.items():
            sums[title] += float(psnr(_without(scene, parts).render(batch.cameras), truth).mean()) / len(ids)
    return {"scenes": len(ids), "views": count, **sums}


def _without(scene: BankScene, parts: tuple[str, ...]) -> BankScene:
    zero = {name: torch.zeros_like(rows) for name, rows in scene.rows.items() if name in parts}
    return scene.with_rows(zero)


def _pictures(representation: MicroMacro, shares: Tensor) -> dict[str, list[Picture]]:
    """Planes of the most used bases, by the three directions in which their features vary most; up is up."""
    most_used = shares.argsort(descending=True)[:PICTURED]
    features = representation.bases[most_used].flip(2).movedim(-1, 2).transpose(0, 1)  # [3, B, F, K, K]
    colours = LatentColours(features.flatten(0, 1))
    titles = representation.plane_axes.upper().split("-")
    return {title: list(colours(plane)) for title, plane in zip(titles, features, strict=True)}
