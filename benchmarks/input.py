"""G9: what a view costs until it can be trained, in latent supervision: ours from memory, theirs from two files.

The authors' loader decodes a PNG and unpickles a latent for every view. Ours reads cameras and latents that lie in
memory: a whole batch by the loader and the cache that ``fit`` uses.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.contest import cpu_seconds
from benchmarks.data import DrawnViews
from data_modules.base import MultiViewDataModule, PhaseData
from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.batch import ViewBatch
from scaled_ig.phases.latent_cache import LatentCache
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import TriPlanes
from scaled_ig.scene_model import SceneModel

SCENES, VIEWS, BATCH = 50, 160, 32
FILES = 500  # views that are also written as files


def measure() -> dict[str, Any]:
    """The row ``G9``: microseconds of CPU time a view."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return {"G9": _measure(Path(folder))}


def _measure(folder: Path) -> dict[str, Any]:
    write_pack(DrawnViews(SCENES, VIEWS), folder / "pack", render=None)
    data = ShapeNetCars(str(folder / "pack"), stage1_scenes=1, batch_size=BATCH)
    data = data.for_phase(PhaseData(stage=2, with_images=False))
    scene = SceneModel(TriPlanes(4, 8), SmallAutoencoder(patch_size=8, latent_channels=4, width=16), InsideBall(8))
    cache = LatentCache(folder / "latents", scene, "float16")
    cache.fill(data.own_training_shards(), data.scene_digests(2), lambda keys: data.batches(2, keys))
    loader = data.train_dataloader()
    files = _write_files(folder, data, cache)
    times = cpu_seconds(
        {"files": lambda: _from_files(files), "memory": lambda: _from_memory(loader, cache)}, rounds=7, title="input"
    )
    views = len(loader) * BATCH
    some = data.batches(2, data.own_views(2, "train", FILES))
    same = all(torch.equal(cache(batch), _latents(folder, batch)) for batch in some)
    return {
        "work": "a view of latent supervision: camera, index and latent, on the CPU",
        "ratio": (times["files"] / len(files)) / (times["memory"] / views),
        "check": "latents are the same" if same else "latents differ",
        "passed": same,
        "microseconds": {"files": 1e6 * times["files"] / len(files), "memory": 1e6 * times["memory"] / views},
    }


def _from_memory(loader: DataLoader, cache: LatentCache) -> None:
    for batch in loader:
        cache(batch)


def _write_files(folder: Path, data: MultiViewDataModule, cache: LatentCache) -> list[Path]:
    """A PNG and a pickled latent of every view; their names without endings."""
    names = []
    for batch in data.batches(2, data.own_views(2, "train", FILES)):
        assert batch.images is not None
        for row, latent in enumerate(cache(batch)):
            name = folder / f"{int(batch.scene_index[row])}-{int(batch.view_index[row])}"
            Image.fromarray(batch.images[row].permute(1, 2, 0).numpy()).save(f"{name}.png")
            torch.save(latent.clone(), f"{name}.pt")
            names.append(name)
    return names


def _from_files(names: list[Path]) -> None:
    for name in names:
        np.asarray(Image.open(f"{name}.png"))
        torch.load(f"{name}.pt", weights_only=True)


def _latents(folder: Path, batch: ViewBatch) -> torch.Tensor:
    ids = zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True)
    return torch.stack([torch.load(folder / f"{scene}-{view}.pt", weights_only=True) for scene, view in ids])
