"""Visual hulls of the scenes that a phase trains, and rays that meet them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras
from scaled_ig.occupancy import DILATION, HULL_RADIUS, HULL_RESOLUTION, UNCOVERED, carve, pack, uncovered
from scaled_ig.representations.scene_table import HullTable

BLOCK = 4  # pixels along a side: silhouettes are grown by whole blocks
NEAREST = 0.1  # world units: cameras stand no nearer to the object than this


def carve_hulls(table: HullTable, data: Any, stage: int) -> None:
    """Carve the hulls of this rank's scenes from the masks of their training views; without masks all cells stay.

    A hull that does not cover the masks it was carved from has lost parts of the object: it is refused.
    """
    first, ids = table.owned.start, data.scene_ids(stage)
    without: list[str] = []
    todo = [first + row for row, bits in enumerate(table.weight) if bool((bits == 255).all())]
    for scene, silhouettes in data.silhouettes(stage, todo, "carving"):
        if silhouettes is None:
            without.append(ids[scene])
            continue
        masks, cameras = (each.to(table.weight.device) for each in silhouettes)
        hull = carve(masks, cameras)
        if uncovered(hull, masks, cameras) <= UNCOVERED:
            table.weight[scene - first] = pack(hull)
        else:
            print(
                f"scene {ids[scene]}: its masks contradict each other (their visual hull does not cover them): it is "
                "trained without a hull",
                flush=True,
            )
    if without:
        some = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        print(
            f"{len(without)} of {len(ids)} scenes have no masks ({some}): they are trained in the whole ball",
            flush=True,
        )


def draw_near(batch: ViewBatch, drawn: Tensor) -> Tensor:
    """Pixels at or near the object, so that no ray through its hull is left out; of views without masks any.

    Args:
        batch: B views with masks.
        drawn: [B, R] uniform in [0, 1).

    Returns:
        [B, R] long, row · width + column.
    """
    assert batch.masks is not None
    assert batch.masked is not None
    width = batch.masks.shape[2]
    seen = F.max_pool2d(batch.masks[:, None].float(), BLOCK, ceil_mode=True)
    near = (~batch.masked)[:, None, None].expand_as(seen[:, 0]).clone()
    reaches = (margin(batch.cameras, width) / BLOCK).ceil().long()
    for reach in reaches.unique().tolist():  # one, unless cameras stand at different distances
        own = reaches == reach
        near[own] |= F.max_pool2d(seen[own], 2 * reach + 1, 1, reach)[:, 0] > 0
    blocks = near.shape[2]
    number = near.flatten(1).cumsum(1).float()
    place = drawn * number[:, -1:]  # the number of a block, and behind the point the place in it
    block = torch.searchsorted(number, place.floor() + 1).clamp(max=number.shape[1] - 1)
    inside = (place.frac() * BLOCK**2).long()
    row = block // blocks * BLOCK + inside // BLOCK
    column = block % blocks * BLOCK + inside % BLOCK
    return row.clamp(max=batch.masks.shape[1] - 1) * width + column.clamp(max=width - 1)


def margin(cameras: Cameras, width: int) -> Tensor:
    """Pixels [B] around a silhouette that its hull may reach: a cell stays for any pixel of its grown picture."""
    distance = cameras.camera_to_world[:, :3, 3].norm(dim=1)
    depth = (distance - HULL_RADIUS).clamp(min=NEAREST)
    cell = math.sqrt(3) * HULL_RADIUS / HULL_RESOLUTION * cameras.intrinsics[:, 0] / depth * width
    return 2 * (cell + DILATION)
