"""How well latents agree from view to view, before stage 1 made the autoencoder 3D-aware and after."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from data_modules.base import MultiViewDataModule
from scaled_ig.autoencoders import Autoencoder
from scaled_ig.bank.scene_bank import spread
from scaled_ig.batch import ViewBatch, ViewKey
from scaled_ig.metrics.consistency import OPAQUE, Match, Surface, disagreement, match_pixels
from scaled_ig.metrics.nearest_view import cameras_of
from scaled_ig.phases.checkpoint_files import read_checkpoint
from scaled_ig.report.pictures import Picture, to_pictures
from scaled_ig.report.views import LatentColours
from scaled_ig.runs.record import RunRecord
from scaled_ig.runs.run_folder import RunFolder

SCENES, VIEWS, PICTURED = 8, 6, 6
IMAGES, BEFORE, AFTER = "images", "before", "after"

Encoder = Callable[[Tensor], Tensor]
"""Images [B, 3, H, W] in [-1, 1] to values [B, C, h, w]."""


@dataclass(frozen=True)
class Awareness:
    """Agreement of neighbouring views.

    Args:
        numbers: ``stage`` and numbers of ``scenes``, ``pairs`` of views and ``pixels`` compared, ``mean_degrees``
            between the views of a pair, and the disagreement of ``images``, of latents ``before`` stage 1's joint
            phase (absent where that autoencoder is not known) and ``after``.
        pictures: One scene from neighbouring views, by the names of the numbers: ``PICTURED`` pictures each.
    """

    numbers: dict[str, Any]
    pictures: dict[str, list[Picture]]


@torch.no_grad()
def measure_awareness(run: RunRecord, data: MultiViewDataModule) -> Awareness | None:
    """Compare neighbouring views of some scenes of the newest stage, by the depth of their renderings.

    Scenes and views are spread evenly; every view has the one whose camera stands nearest in angle beside it.

    Returns:
        None where there are no latents, or no surface is seen twice.
    """
    if run.is_rgb:
        return None
    stage = run.stages()[-1]
    place = {name: index for index, name in enumerate(data.scene_ids(stage))}
    ids = spread([scene["id"] for scene in run.scenes(stage)], SCENES)
    encoders = _encoders(run, ids[0])
    parts, matches, angles = {name: list[tuple[Tensor, Tensor]]() for name in encoders}, [], []
    for name in ids:
        pairs, degrees = _neighbours(data, stage, place[name])
        batch = data.views(stage).__getitems__([key for side in zip(*pairs, strict=True) for key in side])
        matches.append(match_pixels(*_surfaces(run, name, batch)))
        for title, encode in encoders.items():
            values = encode(batch.pixels)
            parts[title].append((values[: len(pairs)], values[len(pairs) :]))
        angles += degrees
    match = Match.joined(matches)
    if not match.visible.any():
        return None
    joined = {title: list(map(torch.cat, zip(*values, strict=True))) for title, values in parts.items()}
    counts = {"scenes": len(ids), "pairs": len(angles), "pixels": int(match.visible.sum())}
    numbers = {title: float(disagreement(first, second, match).mean()) for title, (first, second) in joined.items()}
    shown = max(zip(matches, ids, strict=True), key=lambda item: int(item[0].visible.sum()))[1]
    return Awareness(
        {"stage": stage, **counts, "mean_degrees": sum(angles) / len(angles), **numbers},
        _pictures(run, data, stage, shown, place[shown], encoders),
    )


def _encoders(run: RunRecord, scene_id: str) -> dict[str, Encoder]:
    """What is compared: images at the size of latents, and latents of both autoencoders."""
    model = run.bank[scene_id].model
    size, before = model.latent_size, encoder_before(run, model.autoencoder)
    encoders: dict[str, Encoder] = {IMAGES: lambda images: F.adaptive_avg_pool2d(images, size)}
    if before is not None:
        encoders[BEFORE] = lambda images: before.normalise(before.encode(images).float())
    return encoders | {AFTER: model.encode}


def encoder_before(run: RunRecord, autoencoder: Autoencoder) -> Autoencoder | None:
    """The autoencoder as the joint phase found it, in this run or in that whose stage 1 it took over.

    Args:
        run: The run.
        autoencoder: As it is now; it stays so.

    Returns:
        None where there was no joint phase, or the checkpoints before it are gone or another model's.
    """
    folder = RunFolder(run.config.get("init_from") or run.folder.path)
    paths = [folder.checkpoint(phase) for phase in ("warm_up", "autoencoder")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None or "joint" not in folder.read_json("costs.json").get("phases", {}):
        return None
    prefix, before = "scene.autoencoder.", copy.deepcopy(autoencoder)
    weights = read_checkpoint(path)["state_dict"].items()
    try:
        before.load_state_dict({name.removeprefix(prefix): v for name, v in weights if name.startswith(prefix)})
    except RuntimeError:  # another run lies there now
        return None
    return before


def _directions(data: MultiViewDataModule, stage: int, scene: int) -> tuple[list[ViewKey], Tensor]:
    """All views of a scene, and unit vectors [V, 3] from the origin to their cameras."""
    views = sorted(view for split in ("train", "val", "test") for view in data.split(stage, split)[scene])
    keys = [(scene, view) for view in views]
    return keys, F.normalize(cameras_of(data.views(stage), keys).camera_to_world[:, :3, 3], dim=-1)


def _neighbours(data: MultiViewDataModule, stage: int, scene: int) -> tuple[list[tuple[ViewKey, ViewKey]], list[float]]:
    """Views of a scene, each with its nearest, and the degrees between them."""
    keys, directions = _directions(data, stage, scene)
    cosines = (directions @ directions.T).fill_diagonal_(-2)
    nearest, neighbour = cosines.max(1)
    rows = spread(range(len(keys)), VIEWS)
    degrees = torch.rad2deg(nearest.clamp(-1, 1).acos())
    return [(keys[row], keys[int(neighbour[row])]) for row in rows], [float(degrees[row]) for row in rows]


def _surfaces(run: RunRecord, scene_id: str, batch: ViewBatch) -> tuple[Surface, Surface]:
    """What the first half of some views sees of a scene, and the second."""
    scene = run.bank[scene_id]
    rendering, size, half = scene.render_latent(batch.cameras), scene.model.latent_size, len(batch) // 2
    depth, opacity = (values.unflatten(1, size) for values in (rendering.depth, rendering.accumulation))
    sides = slice(None, half), slice(half, None)
    first, second = (Surface(batch.cameras[side], depth[side], opacity[side]) for side in sides)
    return first, second


def _pictures(
    run: RunRecord, data: MultiViewDataModule, stage: int, name: str, scene: int, encoders: dict[str, Encoder]
) -> dict[str, list[Picture]]:
    """A walk from the lowest view, each time to the nearest that is left; each kind of latents in its own colours."""
    keys, directions = _directions(data, stage, scene)
    cosines, row, walk = directions @ directions.T, int(directions[:, 2].argmin()), list[int]()
    while len(walk) < min(PICTURED, len(keys)):
        walk.append(row)
        cosines[:, row] = -2
        row = int(cosines[row].argmax())
    batch = data.views(stage).__getitems__([keys[row] for row in walk])
    shown_scene = run.bank[name]
    opacity = shown_scene.render_latent(batch.cameras).accumulation
    on_object = opacity.unflatten(1, shown_scene.model.latent_size) > OPAQUE
    coloured = on_object if on_object.any() else ~on_object
    pictures = {IMAGES: list(to_pictures(batch.pixels * 0.5 + 0.5))}
    for title, encode in encoders.items():
        if title != IMAGES:
            latents = encode(batch.pixels)
            shown = LatentColours(latents.movedim(1, -1)[coloured].T[None, ..., None])(latents)
            shown[~on_object.numpy()] = 255
            pictures[title] = list(shown)
    return pictures
