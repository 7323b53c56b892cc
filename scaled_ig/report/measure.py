"""The bar that any rendering must clear: the nearest training view, shown in place of the test view (SPEC 8)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from data_modules.base import MultiViewDataModule
from data_modules.views import ViewKey
from scaled_ig.cameras import Cameras
from scaled_ig.evaluation import over_scenes, per_scene
from scaled_ig.metrics import psnr
from scaled_ig.report.record import RunRecord


def directions(cameras: Cameras) -> torch.Tensor:
    """Unit vectors [B, 3] from the origin, where the object is, to the cameras."""
    return F.normalize(cameras.camera_to_world[:, :3, 3], dim=-1)


def cameras_of(data: MultiViewDataModule, stage: int, keys: list[ViewKey]) -> Cameras:
    """Cameras of some views, without reading the views."""
    views = copy.copy(data.views(stage))
    views.with_images = False
    return views.__getitems__(keys).cameras


def nearest_views(data: MultiViewDataModule, stage: int) -> list[dict[str, Any]]:
    """For every test view the training view whose camera stands nearest in angle, and how well it would do.

    Views are uint8, compared in [0, 1]. Scenes without training or test views are left out.

    Returns:
        One record a test view: ``scene`` (index), ``view``, ``neighbour`` (view), ``nearest_view_psnr`` in dB.
    """
    views = data.views(stage)
    records: list[dict[str, Any]] = []
    splits = list(zip(data.split(stage, "train"), data.split(stage, "test"), strict=True))
    for scene, (train, test) in enumerate(tqdm(splits, f"stage {stage}", unit="scene", leave=False)):
        if not train or not test:
            continue
        known = directions(cameras_of(data, stage, [(scene, view) for view in train]))
        wanted = directions(cameras_of(data, stage, [(scene, view) for view in test]))
        neighbours = [train[index] for index in (wanted @ known.T).argmax(1).tolist()]
        shown = views.__getitems__([(scene, view) for view in test + neighbours]).images
        assert shown is not None
        images = shown.float() / 255
        values = psnr(images[len(test) :], images[: len(test)]).tolist()
        for view, neighbour, value in zip(test, neighbours, values, strict=True):
            records.append({"scene": scene, "view": view, "neighbour": neighbour, "nearest_view_psnr": value})
    return records


def add_nearest_views(run: RunRecord, data: MultiViewDataModule, rgb: RunRecord | None) -> None:
    """Add ``nearest_view_psnr`` and ``rgb_triplanes_psnr`` to the run's ``metrics.json``: per stage, and per scene.

    Args:
        run: The run; its record changes with the file.
        data: The views that it was trained on.
        rgb: A run of RGB tri-planes on the same scenes.
    """
    for stage in run.stages():
        records = [{k: v for k, v in r.items() if k != "neighbour"} for r in nearest_views(data, stage)]
        scenes = per_scene(records)
        ids = data.scene_ids(stage)
        means = {ids[scene["scene"]]: scene["nearest_view_psnr"] for scene in scenes}
        for scene in run.scenes(stage):
            scene["nearest_view_psnr"] = means.get(scene["id"])
        whole = over_scenes([{k: v for k, v in scene.items() if k != "scene"} for scene in scenes])
        run.metrics[f"s{stage}"]["nearest_view_psnr"] = whole.get("nearest_view_psnr")
        run.metrics[f"s{stage}"]["rgb_triplanes_psnr"] = rgb.metrics.get(f"s{stage}", {}).get("psnr") if rgb else None
    run.metrics.setdefault("protocol", {})["nearest_view_psnr"] = (
        "the training view whose camera stands nearest in angle, in place of the test view"
    )
    run.folder.write_json("metrics.json", run.metrics)
