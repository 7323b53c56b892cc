"""Test views of a run's scenes, measured by one process or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_modules.base import MultiViewDataModule
from scaled_ig.distributed.agreement import together
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import evaluate, per_scene
from scaled_ig.metrics.images import Lpips
from scaled_ig.progress import Progress
from scaled_ig.runs.record import RunRecord


@dataclass(frozen=True)
class SceneToMeasure:
    """A scene to be measured: its stage, the version of the bank that holds it, its id."""

    stage: int
    version: str
    id: str


def choose_scenes(run: RunRecord, scenes: str, seed: int) -> list[SceneToMeasure]:
    """Scenes of a run in order, all of them or as many as are asked for, drawn without replacement.

    A draw depends on the seed and on the run's list of scenes alone: runs with the same data settings are measured on
    the same scenes. A smaller draw is a part of a larger one of the same seed.

    Args:
        run: The run.
        scenes: ``all``, or scenes of stage 1 + scenes of stage 2, each a number or ``all``: ``10+40``.
        seed: Of the draw.

    Raises:
        UsageError: It is none of these, the run has fewer scenes, or none is left.
    """
    parts = ["all", "all"] if scenes == "all" else scenes.split("+")
    if len(parts) != 2 or not all(part == "all" or part.isdecimal() for part in parts):
        raise UsageError(f"--scenes {scenes} is not known: give all, or numbers of stage 1 and of stage 2 as in 10+40")
    by_stage = {
        stage: [
            SceneToMeasure(stage, version, scene.id)
            for version in run.versions(stage)
            for scene in run.bank.scenes(version)
        ]
        for stage in (1, 2)
    }
    counts = [len(by_stage[stage]) if part == "all" else int(part) for stage, part in zip((1, 2), parts, strict=True)]
    if any(count > len(by_stage[stage]) for stage, count in zip((1, 2), counts, strict=True)):
        raise UsageError(
            f"--scenes {scenes}: {run.folder.path} has {len(by_stage[1])} scenes of stage 1 and {len(by_stage[2])} of "
            f"stage 2: give at most {len(by_stage[1])}+{len(by_stage[2])}, or all in place of a number"
        )
    selection = []
    for stage, count in zip((1, 2), counts, strict=True):
        places = np.random.default_rng([seed, stage]).permutation(len(by_stage[stage]))[:count]
        selection += [by_stage[stage][place] for place in sorted(places)]
    if not selection:
        raise UsageError(
            f"--scenes {scenes} chooses none of the {len(run.bank)} scenes of {run.folder.path}: name some"
        )
    return selection


@contextmanager
def ranks() -> Iterator[tuple[int, int]]:
    """Number of this process and how many there are, connected; (0, 1) where torchrun has not started it."""
    if not dist.is_torchelastic_launched():
        yield 0, 1
        return
    dist.init_process_group("gloo", timeout=timedelta(days=1))  # the slowest may take long
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def measure_scenes(
    run: RunRecord, data: MultiViewDataModule, scenes: list[SceneToMeasure], batch_size: int, lpips: Lpips | None
) -> dict[int, list[dict[str, Any]]]:
    """Measure the test views of scenes, of which every rank takes an even part. Collective.

    Args:
        run: The run.
        data: Its views.
        scenes: Its scenes.
        batch_size: Views that are rendered and decoded at once.
        lpips: The metric, where its weights are here.

    Returns:
        Records of ``per_scene`` by stage, the same on all ranks; ``scene`` counts those of the data's stage.

    Raises:
        UsageError: A scene cannot be read.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    rank_scenes = scenes[len(scenes) * rank // world_size : len(scenes) * (rank + 1) // world_size]
    parts: list[Any] = [None] * world_size
    part = together(
        lambda: [_measure(run, data, list(group), batch_size, lpips) for _, group in groupby(rank_scenes, _version)]
    )
    if world_size > 1:
        dist.all_gather_object(parts, part)
    else:
        parts = [part]
    measured: dict[int, list[dict[str, Any]]] = {}
    for stage, records in (piece for part in parts for piece in part):
        measured.setdefault(stage, []).extend(records)
    return measured


def _version(scene: SceneToMeasure) -> tuple[int, str]:
    return scene.stage, scene.version


def _measure(
    run: RunRecord, data: MultiViewDataModule, scenes: list[SceneToMeasure], batch_size: int, lpips: Lpips | None
) -> tuple[int, list[dict[str, Any]]]:
    """Stage and records of scenes of one version: all versions together may be more than memory holds."""
    stage, version = _version(scenes[0])
    ids = [scene.id for scene in scenes]
    place = {name: scene for scene, name in enumerate(data.scene_ids(stage))}
    splits = data.split(stage, "test")
    model = run.bank.load_version(version, ids).to(_device())
    quiet = os.environ.get("RANK", "0") != "0"
    with Progress(total=sum(len(splits[place[name]]) for name in ids), desc=version, unit="view", disable=quiet) as bar:
        views = _counted(data.views_of(stage, ids, "test", batch_size), bar)
        records = per_scene(evaluate(model, views, lpips))
    return stage, [record | {"scene": place[ids[record["scene"]]]} for record in records]


def _device() -> str:
    """A GPU of this process's own, where there are any."""
    count = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % count}" if count else "cpu"


def _counted(batches, bar):
    """The batches; each moves the bar once it has been measured."""
    for batch in batches:
        yield batch
        bar.update(len(batch))
