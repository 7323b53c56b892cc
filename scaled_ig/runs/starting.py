"""Where the training of a scene begins, from what its own views tell: fitted after stage 1, used by stage 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.batch import ViewBatch
from scaled_ig.representations import PlaneRepresentation
from scaled_ig.representations.occupancy import UNCOVERED, Hulls, carve, pack, uncovered
from scaled_ig.representations.view_features import FEATURES, view_features
from scaled_ig.representations.view_start import ViewRegression, ViewStart
from scaled_ig.scene_model import SceneModel


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
def fit_view_start(model: SceneModel, data: MultiViewDataModule) -> ViewStart | None:
    """The map from views to planes that the scenes of stage 1 fit; None where none has masks. Collective.

    Args:
        model: Holds these scenes, trained, as planes.
        data: Their views.
    """
    representation = _planes_of(model)
    regression = ViewRegression(representation.plane_resolution, FEATURES, representation.feature_channels)
    table, masks = next(iter(representation.own_tables().values())), representation.texel_masks()
    for scene, features in _features(model, data, 1, "fitting the start"):
        if features is None:
            continue
        index = torch.tensor([scene], device=table.weight.device)
        planes = representation.planes(index)[0].cpu()
        every = torch.ones(planes.shape[:-1], dtype=torch.bool)
        regression.add(features, planes, every if masks is None else masks[scene - table.owned.start].cpu())
    regression.sum(lambda value: table.over_ranks(value, dist.ReduceOp.SUM))
    return regression.solve() if regression.count.any() else None


@torch.no_grad()
def start_from_views(model: SceneModel, data: MultiViewDataModule, start: ViewStart, mean: dict[str, Tensor]) -> None:
    """Move this rank's scenes of stage 2 to where their views say; those whose masks say nothing stay where they are.

    Args:
        model: Holds the scenes, at the mean.
        data: Their views.
        start: What stage 1's scenes fitted.
        mean: Row of each table.
    """
    representation, without = _planes_of(model), []
    tables = representation.own_tables()
    for scene, features in _features(model, data, 2, "starting scenes"):
        if features is None:
            without.append(data.scene_ids(2)[scene])
            continue
        rows = representation.rows_of_planes(start.planes(features), mean, features.any(-1))
        for name, row in rows.items():
            tables[name].weight[scene - tables[name].owned.start] = row.to(tables[name].weight)
    if without:
        examples = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        print(f"{len(without)} scenes have no masks that agree ({examples}): they start at the mean", flush=True)


def _planes_of(model: SceneModel) -> PlaneRepresentation:
    assert isinstance(model.representation, PlaneRepresentation)
    return model.representation


def _features(
    model: SceneModel, data: MultiViewDataModule, stage: int, title: str
) -> Iterator[tuple[int, Tensor | None]]:
    """This rank's scenes, and what the views of each tell of its texels; None without masks that agree."""
    planes, first = _planes_of(model), data.own_scenes(stage).start
    for scene, views in data.masked_views(stage, title):
        cells = None if views is None else _hull(model, scene - first, views)
        if cells is None or views is None:
            yield scene, None
            continue
        yield (
            scene,
            view_features(cells, views.pixels, views.cameras, planes.plane_resolution, planes.extent, planes.axes),
        )


def _hull(model: SceneModel, row: int, views: ViewBatch) -> Tensor | None:
    """[G, G, G] bool, the visual hull of a scene; None where its masks contradict each other.

    Hulls of scenes that are trained on pixels are those of training, and are carved once.
    """
    assert views.masks is not None
    table = model.representation.hull if model.is_rgb else None
    if table is not None:
        cells = Hulls(table.weight[row : row + 1]).cells()[0].cpu()
        if not cells.all():
            return cells
    cells = carve(views.masks, views.cameras)
    if not cells.any() or uncovered(cells, views.masks, views.cameras) > UNCOVERED:
        return None
    if table is not None:
        table.weight[row] = pack(cells).to(table.weight)
    return cells
