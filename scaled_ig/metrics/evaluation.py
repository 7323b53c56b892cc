"""Quality of rendered views, per image; means per scene, then over scenes: batch sizes do not matter (method 8)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from scaled_ig.batch import ViewBatch, to_unit_range
from scaled_ig.metrics.images import Lpips, psnr, ssim, ssim_signed
from scaled_ig.scene_model import SceneModel

PROTOCOL = {
    "psnr": "per image on decoded renderings clamped to [0, 1], mean over views, then over scenes; dB",
    "psnr_pooled": "one PSNR over all pixels of all test views of a scene, then the mean over scenes, as in the "
    "authors' code, which takes the views of a process's batch; dB, never above psnr",
    "psnr_small": "as psnr, decoded by the small decoder; null where there is none",
    "ssim": "torchmetrics on [0, 1], Gaussian window 11, sigma 1.5",
    "ssim_signed": "as ssim, but on [-1, 1] with a data range of 2, as in the authors' code: luminance is compared "
    "about mid-grey; this one and psnr_pooled stand beside the papers' numbers",
    "lpips": "AlexNet, version 0.1; null where it was left out or its backbone is not on this machine",
    "autoencoder_psnr": "encoded and decoded without rendering; RGB alignment fits the decoder to renderings, after "
    "which this is no bound of theirs",
    "stage1_autoencoder_psnr": "as autoencoder_psnr, by encoder and decoder as stage 1 left them: what latents can "
    "hold; the report measures it, of s2 alone, where stage 1's version is there",
    "nearest_view_psnr": "the training view whose camera stands nearest in angle, in place of the test view",
    "rgb_triplanes_psnr": "RGB tri-planes on the same scenes, where such a run was given; null for s1, of which an RGB "
    "run trains no more than a short start",
    "std": "standard deviation over scenes, with n - 1; null for one scene",
    "all": "scenes of both stages together, each counted once: with 10 + 40 of them the mixture of the papers' Table 1",
    "views": "test views, never trained on",
}
SPREAD = ("psnr", "ssim", "lpips")  # the papers' quantities, whose standard deviation stands beside the mean


@torch.no_grad()
def evaluate(
    model: SceneModel, batches: Iterable[ViewBatch], lpips: Lpips | None = None, rendered: bool = True
) -> list[dict[str, Any]]:
    """Measure views.

    Args:
        model: The model.
        batches: Views with images.
        lpips: The metric, where its weights are here.
        rendered: Whether there are scenes to render yet, or the autoencoder alone.

    Returns:
        One record a view: ``scene`` (index), ``view``, ``autoencoder_psnr``; and of renderings ``psnr``, ``ssim``,
        ``ssim_signed``, ``lpips``, ``latent_psnr``, and ``psnr_small`` where there is a small decoder.
    """
    records = []
    device = model.background.device
    if lpips is not None:
        lpips = lpips.to(device)
    for batch in batches:
        batch = batch.to(device)
        images = batch.pixels
        latent, target = model.encode(images), to_unit_range(images)
        columns = {"autoencoder_psnr": psnr(to_unit_range(model.decode(latent)), target)}
        if rendered:
            rendered_latent = model.render_latent(batch.cameras, batch.scene_index)
            image = to_unit_range(model.decode(rendered_latent))
            columns |= {
                "psnr": psnr(image, target),
                "ssim": ssim(image, target),
                "ssim_signed": ssim_signed(image, target),
                "latent_psnr": psnr(to_unit_range(rendered_latent), to_unit_range(latent)),
            }
            if model.autoencoder.small_decoder is not None:
                columns["psnr_small"] = psnr(to_unit_range(model.decode(rendered_latent, "small")), target)
            if lpips is not None:
                columns["lpips"] = lpips(image, target)
        for row in range(len(batch)):
            record = {"scene": int(batch.scene_index[row]), "view": int(batch.view_index[row]), "lpips": None}
            records.append(record | {name: float(column[row]) for name, column in columns.items()})
    return records


def per_scene(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the views of each scene: one record a scene, ordered by scene; and of renderings ``psnr_pooled``."""
    scenes: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        scenes.setdefault(record["scene"], []).append(record)
    names = [name for name in records[0] if name not in ("scene", "view")] if records else []
    measured = []
    for scene, scene_records in sorted(scenes.items()):
        means = {name: _mean([record[name] for record in scene_records]) for name in names}
        if "psnr" in means:
            means["psnr_pooled"] = _pooled([record["psnr"] for record in scene_records])
        measured.append({"scene": scene, "num_views": len(scene_records)} | means)
    return measured


def over_scenes(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over scenes of :func:`per_scene`'s records, with their numbers; ``psnr_std`` and others of the papers'.

    A mean is None where it is not known of every scene: the rest would be another set of scenes.
    """
    names = [name for name in scenes[0] if name not in ("scene", "num_views", "id", "stage")] if scenes else []
    counts = {"num_scenes": len(scenes), "num_views": sum(scene["num_views"] for scene in scenes)}
    columns = {name: [scene.get(name) for scene in scenes] for name in names}
    spreads = {f"{name}_std": _standard_deviation(columns[name]) for name in SPREAD if name in columns}
    return counts | {name: _mean(values) for name, values in columns.items()} | spreads


def with_means(metrics: dict[str, Any]) -> dict[str, Any]:
    """Content of ``metrics.json`` with ``s1``, ``s2`` and ``all`` computed anew from its ``scenes``.

    ``rgb_triplanes_psnr``, which they do not know, stays what it is.
    """
    rgb = metrics.get("s2", {}).get("rgb_triplanes_psnr")
    means = {}
    for split, stage in (("s1", 1), ("s2", 2)):
        scenes = [scene for scene in metrics["scenes"] if scene["stage"] == stage]
        if scenes:
            means[split] = over_scenes(scenes) | {"rgb_triplanes_psnr": rgb if stage == 2 else None}
    other_entries = {name: value for name, value in metrics.items() if name not in ("s1", "s2", "all")}
    return other_entries | means | {"all": over_scenes(metrics["scenes"])}


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _standard_deviation(values: list[float | None]) -> float | None:
    mean = _mean(values)
    if mean is None or len(values) < 2:
        return None
    return math.sqrt(sum((value - mean) ** 2 for value in values if value is not None) / (len(values) - 1))


def _pooled(values: list[float]) -> float:
    """PSNR of images of one size taken together, from the PSNR of each."""
    return -10 * math.log10(sum(10 ** (-value / 10) for value in values) / len(values))
