"""The bar that any rendering must clear: the nearest training view, shown in place of the test view (method 8)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional as F

from scaled_ig.batch import ViewBatch, ViewKey
from scaled_ig.cameras import Cameras
from scaled_ig.metrics.evaluation import per_scene
from scaled_ig.metrics.images import psnr

"""Scene (index), view."""


class Views(Protocol):
    """Views of a set of scenes, with their images unless those are turned off."""

    with_images: bool

    def __getitems__(self, keys: Sequence[ViewKey]) -> ViewBatch: ...


def cameras_of(views: Views, keys: Sequence[ViewKey]) -> Cameras:
    """Cameras of some views, without reading the images."""
    views = copy.copy(views)
    views.with_images = False
    return views.__getitems__(keys).cameras


def nearest_views(views: Views, train: list[list[int]], test: list[list[int]]) -> list[dict[str, Any]]:
    """For every test view the training view whose camera stands nearest in angle, and how well it would do.

    Views are uint8, compared in [0, 1]. Scenes without training or test views are left out.

    Args:
        views: Where to read them.
        train: Training views of each scene.
        test: Test views of each scene.

    Returns:
        One record a test view: ``scene`` (index), ``view``, ``neighbour`` (view), ``nearest_view_psnr`` in dB.
    """
    records: list[dict[str, Any]] = []
    for scene, (train_views, test_views) in enumerate(zip(train, test, strict=True)):
        if not train_views or not test_views:
            continue
        around = _directions(cameras_of(views, [(scene, view) for view in train_views]))
        cosines = _directions(cameras_of(views, [(scene, view) for view in test_views])) @ around.T
        neighbours = [train_views[index] for index in cosines.argmax(1).tolist()]
        shown = views.__getitems__([(scene, view) for view in test_views + neighbours]).images
        assert shown is not None
        images = shown.float() / 255
        values = psnr(images[len(test_views) :], images[: len(test_views)]).tolist()
        for view, neighbour, value in zip(test_views, neighbours, values, strict=True):
            records.append({"scene": scene, "view": view, "neighbour": neighbour, "nearest_view_psnr": value})
    return records


def add_nearest_views(
    scenes: list[dict[str, Any]], ids: list[str], views: Views, train: list[list[int]], test: list[list[int]]
) -> None:
    """Give each record its ``nearest_view_psnr``, the mean over the scene's test views; None where it has none.

    Training does not change it: nothing is read of scenes that have it already.

    Args:
        scenes: Records with the ``id`` of their scene.
        ids: Id of each scene of ``views``.
        views: See :func:`nearest_views`, as are ``train`` and ``test``.
    """
    missing = {scene["id"] for scene in scenes if "nearest_view_psnr" not in scene}
    if not missing:
        return
    test = [scene_views if name in missing else [] for name, scene_views in zip(ids, test, strict=True)]
    means = {ids[mean["scene"]]: mean["nearest_view_psnr"] for mean in per_scene(nearest_views(views, train, test))}
    for scene in scenes:
        if scene["id"] in missing:
            scene["nearest_view_psnr"] = means.get(scene["id"])


def _directions(cameras: Cameras) -> Tensor:
    """Unit vectors [B, 3] from the origin, where the object is, to the cameras."""
    return F.normalize(cameras.camera_to_world[:, :3, 3], dim=-1)
