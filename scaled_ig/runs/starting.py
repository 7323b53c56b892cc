"""Where the training of a scene begins, from what its own views tell: fitted after stage 1, used by stage 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.representations import PlaneRepresentation
from scaled_ig.representations.view_features import FEATURES, view_features
from scaled_ig.representations.view_start import ViewRegression, ViewStart


@dataclass(frozen=True)
class Start:
    """What scenes of a version start from, instead of noise.

    Args:
        mean: Row of each table, which what is learned stays near; of stage 1's scenes None.
        views: How each is moved from there by its own views.
    """

    mean: dict[str, Tensor] | None = None
    views: ViewStart | None = None


@torch.no_grad()
def fit_view_start(representation: PlaneRepresentation, data: MultiViewDataModule) -> ViewStart | None:
    """The map from views to planes that the scenes of stage 1 fit; None where none has masks. Collective.

    Args:
        representation: Holds these scenes, trained.
        data: Their views.
    """
    regression = ViewRegression(representation.plane_resolution, FEATURES, representation.feature_channels)
    table, masks = next(iter(representation.own_tables().values())), representation.texel_masks()
    for scene, features in _features(representation, data, 1, "fitting the start"):
        index = torch.tensor([scene], device=table.weight.device)
        planes = representation.planes(index)[0].cpu()
        if features is not None:
            regression.add(features, planes, _texels(masks, int(table.row_of(index)), planes))
    regression.sum(lambda value: table.over_ranks(value, dist.ReduceOp.SUM))
    return regression.solve() if regression.count.any() else None


@torch.no_grad()
def start_from_views(
    representation: PlaneRepresentation, data: MultiViewDataModule, start: ViewStart, mean: dict[str, Tensor]
) -> None:
    """Move this rank's scenes of stage 2 to where their views say; those whose masks say nothing stay where they are.

    Args:
        representation: Holds the scenes, at the mean.
        data: Their views.
        start: What stage 1's scenes fitted.
        mean: Row of each table.
    """
    tables, without = representation.scene_tables(), []
    for scene, features in _features(representation, data, 2, "starting scenes"):
        if features is None:
            without.append(data.scene_ids(2)[scene])
            continue
        planes = start.planes(features)
        rows = representation.rows_of_planes(planes, mean, features.any(-1))
        for name, row in rows.items():
            table = tables[name]
            table.weight[scene - table.owned.start] = row.to(table.weight)
    if without:
        examples = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        print(
            f"{len(without)} scenes have no masks that fit each other ({examples}): they start at the mean", flush=True
        )


def _features(
    representation: PlaneRepresentation, data: MultiViewDataModule, stage: int, title: str
) -> Iterator[tuple[int, Tensor | None]]:
    """This rank's scenes, and what the views of each tell of its texels."""
    resolution, extent, axes = representation.plane_resolution, representation.extent, representation.axes
    for scene, views in data.masked_views(stage, title):
        if views is None:
            yield scene, None
            continue
        assert views.masks is not None
        yield scene, view_features(views.pixels, views.masks, views.cameras, resolution, extent, axes)


def _texels(masks: Tensor | None, row: int, planes: Tensor) -> Tensor:
    """[3, K, K] bool, texels that rendering reads."""
    return torch.ones(planes.shape[:-1], dtype=torch.bool) if masks is None else masks[row].cpu()
