"""Quality of rendered views, per image; means per scene, then over scenes: batch sizes do not matter (method 8)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from scaled_ig.batch import ViewBatch
from scaled_ig.metrics import Lpips, psnr, ssim, to_unit_range
from scaled_ig.scene_model import SceneModel

PROTOCOL = {
    "psnr": "per image on decoded renderings clamped to [0, 1], mean over views, then over scenes; dB",
    "psnr_small": "as psnr, decoded by the small decoder; null where there is none",
    "ssim": "torchmetrics, Gaussian window 11, sigma 1.5",
    "lpips": "AlexNet, version 0.1; null where it was left out or its backbone is not on this machine",
    "autoencoder_psnr": "encoded and decoded without rendering; the upper bound until RGB alignment fits the decoder",
    "nearest_view_psnr": "the training view whose camera stands nearest in angle, in place of the test view",
    "rgb_triplanes_psnr": "RGB tri-planes on the same scenes, where such a run was given; null for s1, of which an RGB "
    "run trains no more than a short start",
    "views": "test views, never trained on",
}


@torch.no_grad()
def evaluate(
    scene: SceneModel, batches: Iterable[ViewBatch], lpips: Lpips | None = None, rendered: bool = True
) -> list[dict[str, Any]]:
    """Measure views.

    Args:
        scene: The model.
        batches: Views with images.
        lpips: The metric, where its weights are here.
        rendered: Whether there are scenes to render yet, or the autoencoder alone.

    Returns:
        One record a view: ``scene`` (index), ``view``, ``autoencoder_psnr``; and of renderings ``psnr``, ``ssim``,
        ``lpips``, ``latent_psnr``, and ``psnr_small`` where there is a small decoder.
    """
    records = []
    device = scene.background.device
    if lpips is not None:
        lpips = lpips.to(device)
    for batch in batches:
        batch = batch.to(device)
        images = batch.pixels
        latent, target = scene.encode(images), to_unit_range(images)
        columns = {"autoencoder_psnr": psnr(to_unit_range(scene.decode(latent)), target)}
        if rendered:
            rendered_latent = scene.render_latent(batch.cameras, batch.scene_index)
            image = to_unit_range(scene.decode(rendered_latent))
            columns |= {
                "psnr": psnr(image, target),
                "ssim": ssim(image, target),
                "latent_psnr": psnr(to_unit_range(rendered_latent), to_unit_range(latent)),
            }
            if scene.autoencoder.small_decoder is not None:
                columns["psnr_small"] = psnr(to_unit_range(scene.decode(rendered_latent, "small")), target)
            if lpips is not None:
                columns["lpips"] = lpips(image, target)
        for row in range(len(batch)):
            record = {"scene": int(batch.scene_index[row]), "view": int(batch.view_index[row]), "lpips": None}
            records.append(record | {name: float(column[row]) for name, column in columns.items()})
    return records


def per_scene(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the views of each scene: one record a scene, ordered by scene."""
    scenes: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        scenes.setdefault(record["scene"], []).append(record)
    names = [name for name in records[0] if name not in ("scene", "view")] if records else []
    return [
        {"scene": scene, "num_views": len(own)} | {name: _mean([record[name] for record in own]) for name in names}
        for scene, own in sorted(scenes.items())
    ]


def over_scenes(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over scenes of :func:`per_scene`'s records, with their numbers."""
    names = [name for name in scenes[0] if name not in ("scene", "num_views", "id", "stage")] if scenes else []
    counts = {"num_scenes": len(scenes), "num_views": sum(scene["num_views"] for scene in scenes)}
    return counts | {name: _mean([scene[name] for scene in scenes]) for name in names}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
