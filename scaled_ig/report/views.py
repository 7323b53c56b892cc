"""Test views beside what the model makes of them: rendering, error, latents, depth.

Letters: N views, C channels, h rows and w columns of latents, H and W of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import spread
from scaled_ig.batch import ViewBatch
from scaled_ig.metrics.images import psnr
from scaled_ig.report.pictures import Picture, shrunk, to_pictures
from scaled_ig.runs.record import RunRecord
from scaled_ig.scene_model import to_image

SCENES_SHOWN = {1: 4, 2: 8}
LARGEST_PICTURE = 320
"""Pictures on the page have at most so many pixels on their longer side, so that it stays small."""
ERROR_GAIN = 4
ERROR_COLOURS = LinearSegmentedColormap.from_list("error", ["#ffffff", "#fdbb84", "#d7301f", "#4a0b0b"])
DEPTH_COLOURS = colormaps["cividis"]


@dataclass(frozen=True)
class ViewRow:
    """One test view and its pictures.

    Args:
        stage: Whose scene it is.
        scene: Id.
        view: Number within the scene.
        psnr: Of the rendering, dB.
        scene_psnr: Mean over the test views of the scene, dB.
        pictures: By the title of their column; latents [h, w] are smaller than images.
    """

    stage: int
    scene: str
    view: int
    psnr: float
    scene_psnr: float
    pictures: dict[str, Picture]


def choose_views(run: RunRecord, data: MultiViewDataModule, stage: int) -> list[tuple[int, int]]:
    """First test view of scenes from the best to the worst: (scene index, view index)."""
    views = data.split(stage, "test")
    place = {name: index for index, name in enumerate(data.scene_ids(stage))}
    scenes = [(scene["psnr"], place[scene["id"]]) for scene in run.scenes(stage) if views[place[scene["id"]]]]
    ranked = [index for _, index in sorted(scenes, reverse=True)]
    return [(index, views[index][0]) for index in spread(ranked, SCENES_SHOWN[stage])]


class LatentColours:
    """A fixed way to show latents of any number of channels as colours: the same for every picture of a page.

    Three channels are shown as they are, more by the three directions in which the encoder's latents vary most.

    Args:
        latents: [N, C, h, w] in [-1, 1], the encoder's.
    """

    def __init__(self, latents: Tensor) -> None:
        channels = latents.shape[1]
        pixels = latents.transpose(0, 1).flatten(1).T.double()
        self.mean, self.axes = torch.zeros(channels).double(), torch.eye(channels).double()[:, :3]
        self.low, self.high = -torch.ones(3).double(), torch.ones(3).double()
        if channels != 3:
            self.mean = pixels.mean(0)
            _, vectors = torch.linalg.eigh((pixels - self.mean).T @ (pixels - self.mean))
            axes = vectors[:, -3:].flip(1)
            self.axes = axes * axes.sum(0).sign().where(axes.sum(0) != 0, torch.ones(()).double())
            self.low, self.high = (torch.quantile((pixels - self.mean) @ self.axes, q, dim=0) for q in (0.01, 0.99))

    def __call__(self, latents: Tensor) -> Picture:
        """Pictures [N, h, w, 3] of latents [N, C, h, w]."""
        projected = (latents.movedim(1, -1).double() - self.mean) @ self.axes
        return to_pictures(((projected - self.low) / (self.high - self.low).clamp(min=1e-6)).movedim(-1, 1))


def _coloured(values: Tensor, colours: Colormap) -> np.ndarray:
    """RGB [..., 3] in [0, 1] of values in [0, 1]."""
    return colours(values.clamp(0, 1).numpy())[..., :3]


def _to_uint8(picture: np.ndarray) -> Picture:
    return (picture * 255).round().astype(np.uint8)


def show_error(rendered: Tensor, truth: Tensor) -> Picture:
    """Mean absolute error over channels, four times enlarged: white where there is none; [3, H, W] in [0, 1] each."""
    return _to_uint8(_coloured((rendered - truth).abs().mean(0) * ERROR_GAIN, ERROR_COLOURS))


def show_depth(depth: Tensor, accumulation: Tensor, distance: float) -> Picture:
    """Depth [h, w] over the scene's ball (near is bright), fading to white where nothing was hit."""
    near = _coloured(distance + 0.5 - depth, DEPTH_COLOURS)
    opacity = accumulation.clamp(0, 1).numpy()[..., None]
    return _to_uint8(near * opacity + (1 - opacity))


def view_rows(run: RunRecord, data: MultiViewDataModule) -> list[ViewRow]:
    """Rows for some test views of every stage that was measured."""
    pictures: list[dict[str, Any]] = []
    for stage in run.stages():
        for batch in data.batches(stage, choose_views(run, data, stage), batch_size=1):
            pictures.append({"stage": stage, **_draw(run, batch, data.scene_ids(stage)[int(batch.scene_index)])})
    if not pictures:
        return []
    colours = LatentColours(torch.cat([row["latent"] for row in pictures]))
    means = {scene["id"]: scene["psnr"] for stage in run.stages() for scene in run.scenes(stage)}
    return [_row(row, colours, means[row["scene"]]) for row in pictures]


@torch.no_grad()
def _draw(run: RunRecord, batch: ViewBatch, scene_id: str) -> dict[str, Any]:
    scene = run.bank[scene_id]
    rendering, size = scene.render_latent(batch.cameras), scene.model.latent_size
    return {
        "scene": scene_id,
        "view": int(batch.view_index),
        "truth": batch.pixels * 0.5 + 0.5,
        "rendered": scene.render(batch.cameras),
        "latent": scene.model.encode(batch.pixels),
        "rendered_latent": to_image(rendering.pixels, size),
        "depth": rendering.depth[0].unflatten(0, size),
        "accumulation": rendering.accumulation[0].unflatten(0, size),
        "distance": float(batch.cameras.camera_to_world[0, :3, 3].norm()),
        "is_rgb": scene.model.is_rgb,
    }


def _row(view: dict[str, Any], colours: LatentColours, scene_psnr: float) -> ViewRow:
    truth, rendered = view["truth"], view["rendered"]
    pictures = {
        "ground truth": to_pictures(truth)[0],
        "rendering": to_pictures(rendered)[0],
        f"error × {ERROR_GAIN}": show_error(rendered[0], truth[0]),
    }
    if not view["is_rgb"]:
        pictures["rendered latent"] = colours(view["rendered_latent"])[0]
        pictures["encoder's latent"] = colours(view["latent"])[0]
    pictures["depth"] = show_depth(view["depth"], view["accumulation"], view["distance"])
    pictures = {title: shrunk(picture, LARGEST_PICTURE) for title, picture in pictures.items()}
    quality = float(psnr(rendered, truth))
    return ViewRow(view["stage"], view["scene"], view["view"], quality, scene_psnr, pictures)
