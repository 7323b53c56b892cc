"""The bars that a run's renderings must clear (method 8), kept with its other numbers."""

from __future__ import annotations

import torch

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import PROTOCOL, evaluate, per_scene, with_means
from scaled_ig.metrics.nearest_view import add_nearest_views
from scaled_ig.runs.record import RunRecord
from scaled_ig.scene_model import SceneModel

STAGE1_PSNR = "stage1_autoencoder_psnr"


def add_bars(run: RunRecord, data: MultiViewDataModule, rgb: RunRecord | None) -> None:
    """Put what is missing of the bars, and ``rgb_triplanes_psnr``, into the run's ``metrics.json``.

    They are ``nearest_view_psnr``, and ``stage1_autoencoder_psnr`` where the autoencoder of stage 1 is known.

    Args:
        run: The run; its record changes with the file.
        data: The views that it was trained on.
        rgb: A run of RGB tri-planes on the same scenes; without one, what is known of an earlier one stays.
    """
    metrics = run.metrics
    for stage in run.stages():
        splits = data.split(stage, "train"), data.split(stage, "test")
        add_nearest_views(run.scenes(stage), data.scene_ids(stage), data.views(stage), *splits)
    _add_stage1_autoencoder(run, data)
    metrics |= with_means(metrics)
    if rgb is not None and "s2" in metrics:
        metrics["s2"]["rgb_triplanes_psnr"] = rgb.metrics.get("s2", {}).get("psnr")
    metrics["protocol"] = PROTOCOL | metrics.get("protocol", {})
    run.folder.write_metrics(metrics)


def stage1_model(run: RunRecord) -> SceneModel | None:
    """What scenes share, as stage 1 left it, in this run or in that whose stage 1 it took over; it holds no scenes.

    Returns:
        None where scenes are trained on pixels, where stage 1 is gone, or where another run lies there now. That is
        told by what stage 2 never changes: the normaliser, and the encoder where it does not follow.
    """
    versions = run.versions(2)
    if run.is_rgb or not versions:
        return None
    try:
        bank = SceneBank.open(run.config.get("init_from") or run.folder.path)
        before, after = bank.load_version("stage1", ()), run.bank.load_version(versions[-1], ())
    except UsageError:
        return None
    alignment = run.config["phases"].get("rgb_alignment") or {"module": {"init_args": {}}}
    follows = alignment["module"]["init_args"].get("encoder_follows", False)
    kept = [
        [*model.autoencoder.buffers(), *(() if follows else model.autoencoder.encoder_parameters())]
        for model in (before, after)
    ]
    shapes = [[value.shape for value in values] for values in kept]
    return before if shapes[0] == shapes[1] and all(map(torch.equal, *kept)) else None


def _add_stage1_autoencoder(run: RunRecord, data: MultiViewDataModule) -> None:
    """Give records of stage 2's scenes their ``stage1_autoencoder_psnr`` where they have none."""
    missing = {scene["id"]: scene for scene in run.scenes(2) if STAGE1_PSNR not in scene}
    model = stage1_model(run) if missing else None
    if model is None:
        return
    ids = list(missing)
    for mean in per_scene(evaluate(model, data.views_of(2, ids, "test"), rendered=False)):
        missing[ids[mean["scene"]]][STAGE1_PSNR] = mean["autoencoder_psnr"]
