"""Visual hulls of the scenes that a phase trains, and rays that meet them.

Letters: B views, R rays of each, H rows and W columns of pixels, h and w of blocks of them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras
from scaled_ig.representations.occupancy import (
    DILATION,
    HULL_RADIUS,
    HULL_RESOLUTION,
    UNCOVERED,
    carve,
    pack,
    uncovered,
)
from scaled_ig.representations.scene_table import HullTable

BLOCK = 4  # pixels along a side: silhouettes are grown by whole blocks
DETAIL = 0.5  # part of the rays within silhouettes that falls on blocks in proportion to how much their colours vary
BESIDE = 0.1  # share of rays in a block beside the silhouette, which only show that nothing is there, to one within it
LATENT_REACH = 1  # latent pixels around a silhouette to which the autoencoder carries something of the object
NEAREST = 0.1  # world units: cameras stand no nearer to the object than this


def carve_hulls(table: HullTable, data: Any, stage: int, latent_pixel: int = 1) -> None:
    """Carve the hulls of this rank's scenes from the masks of their training views; without masks all cells stay.

    A hull that does not cover the masks it was carved from has lost parts of the object: it is refused.

    Args:
        table: Of the hulls.
        data: The data module.
        stage: Whose scenes are trained.
        latent_pixel: Pixels of an image along the side of a latent pixel; 1 where scenes are trained on pixels.
    """
    dilation = DILATION + (LATENT_REACH * latent_pixel if latent_pixel > 1 else 0)
    first, ids = table.owned.start, data.scene_ids(stage)
    without: list[str] = []
    todo = [first + row for row, bits in enumerate(table.weight) if bool((bits == 255).all())]
    for scene, silhouettes in data.silhouettes(stage, todo, "carving"):
        if silhouettes is None:
            without.append(ids[scene])
            continue
        masks, cameras = (tensor.to(table.weight.device) for tensor in silhouettes)
        hull = carve(masks, cameras, dilation=dilation)
        if uncovered(hull, masks, cameras) <= UNCOVERED:
            table.weight[scene - first] = pack(hull)
        else:
            print(
                f"scene {ids[scene]}: its masks contradict each other (their visual hull does not cover them): it is "
                "trained without a hull",
                flush=True,
            )
    if without:
        examples = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        print(
            f"{len(without)} of {len(ids)} scenes have no masks ({examples}): they are trained in the whole ball",
            flush=True,
        )


def draw_near(batch: ViewBatch, lots: Tensor) -> Tensor:
    """Pixels at or near the object, so that any ray through its hull may be drawn; of views without masks any at all.

    Within silhouettes more rays fall where colours vary.

    Args:
        batch: B views with images and masks.
        lots: [B, R] uniform in [0, 1).

    Returns:
        [B, R] long, row · width + column.
    """
    assert batch.images is not None
    assert batch.masks is not None
    assert batch.masked is not None
    width = batch.masks.shape[2]
    coverage = F.max_pool2d(batch.masks[:, None].float(), BLOCK, ceil_mode=True)
    share = torch.zeros_like(coverage[:, 0])
    reaches = (margin(batch.cameras, width) / BLOCK).ceil().long()
    for reach in reaches.unique().tolist():  # one, unless cameras stand at different distances
        views = reaches == reach
        share[views] = BESIDE * (F.max_pool2d(coverage[views], 2 * reach + 1, 1, reach)[:, 0] > 0)
    inside = coverage[:, 0] > 0
    contrast = block_contrast(batch.images) * inside
    mean_contrast = contrast.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    detail = contrast / mean_contrast.clamp(min=1e-6)[:, None, None]
    share = torch.where(inside, 1 - DETAIL + DETAIL * detail, share)
    share[~batch.masked] = 1.0
    blocks = share.shape[2]
    cumulated = share.flatten(1).cumsum(1)
    place = lots * cumulated[:, -1:]
    block = torch.searchsorted(cumulated, place, right=True).clamp(max=cumulated.shape[1] - 1)
    # How far the place lies within its block's share is drawn by lot too: it tells which pixel.
    part = 1 - (cumulated.gather(1, block) - place) / share.flatten(1).gather(1, block).clamp(min=BESIDE)
    pixel = (part * BLOCK**2).long().clamp(0, BLOCK**2 - 1)
    row = block // blocks * BLOCK + pixel // BLOCK
    column = block % blocks * BLOCK + pixel % BLOCK
    return row.clamp(max=batch.masks.shape[1] - 1) * width + column.clamp(max=width - 1)


def block_contrast(images: Tensor) -> Tensor:
    """How much each block of ``BLOCK`` pixels along a side varies: standard deviation of green, most of what is seen.

    Args:
        images: [B, 3, H, W] uint8.

    Returns:
        [B, h, w].
    """
    green = images[:, 1].float()
    mean, square = (F.avg_pool2d(values, BLOCK, ceil_mode=True) for values in (green, green.square()))
    return (square - mean.square()).clamp(min=0).sqrt()


def margin(cameras: Cameras, width: int) -> Tensor:
    """Pixels [B] around a silhouette that its hull may reach: a cell stays for any pixel of its grown picture."""
    distance = cameras.camera_to_world[:, :3, 3].norm(dim=1)
    depth = (distance - HULL_RADIUS).clamp(min=NEAREST)
    cell = math.sqrt(3) * HULL_RADIUS / HULL_RESOLUTION * cameras.intrinsics[:, 0] / depth * width
    return 2 * (cell + DILATION)
