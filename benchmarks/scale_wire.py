"""Bytes that two ranks exchange in a step of latent supervision, counted in a real Trainer over gloo.

DDP's buckets are counted by a communication hook, everything else by wrappers around torch.distributed's functions.
Then the same for one dense table of all scenes in plain DDP.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from scale_worker import DenseTable
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from data_modules.base import PhaseData
from data_modules.packing.pack import write_pack
from data_modules.raycast import draw_cameras
from data_modules.shapenet import ShapeNetCars
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.phases import LatentSupervision
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

RESOLUTION, VIEWS, BATCH, STEPS = 16, 10, 4, 4
SHARED = ("bases", "head")  # what the phase trains and all scenes share
FUNCTIONS = (
    *("all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor", "gather", "scatter", "send", "recv"),
    *("reduce_scatter", "reduce_scatter_tensor", "all_to_all", "all_to_all_single", "_broadcast_coalesced"),
)
counted: Counter[str] = Counter()  # bytes of this rank by what carried them


def _bytes_of(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_bytes_of, value)) if isinstance(value, list | tuple) else 0


def count_collectives() -> None:
    """Wrap the functions of torch.distributed, under both of their names."""

    def wrap(name: str, function: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            counted[name.strip("_")] += _bytes_of([*arguments, *options.values()])
            return function(*arguments, **options)

        return call

    for name in FUNCTIONS:
        function = wrap(name, getattr(dist, name))
        for module in (dist, dist.distributed_c10d):
            if hasattr(module, name):
                setattr(module, name, function)


def count_buckets() -> None:
    """Wrap every communication hook of DDP; what it sends for a bucket is the bucket."""
    register = DistributedDataParallel.register_comm_hook

    def counting(module: DistributedDataParallel, state: object, hook: Callable) -> None:
        def counted_hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
            before = counted.copy()
            future = hook(state, bucket)
            counted.clear()
            counted.update(before, gradients=bucket.buffer().nbytes)
            return future

        register(module, state, counted_hook)

    DistributedDataParallel.register_comm_hook = counting  # type: ignore[method-assign]


class Noise(SceneSource):
    """Scenes of random pixels."""

    viewpoints = None

    def __init__(self, count: int) -> None:
        self.count = count

    def scenes(self):
        return [SceneEntry(f"noise-{row}", "noise") for row in range(self.count)]

    def load(self, scene_id):
        generator = np.random.default_rng(int(scene_id.split("-")[1]))
        images = generator.integers(0, 256, (VIEWS, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
        return PosedViews(images, *draw_cameras(VIEWS, 1.3, (-180, 180), (0, 85), generator)), {"shape": scene_id}


class PerStep(Callback):
    """Keeps what each step carried."""

    def __init__(self) -> None:
        self.steps: list[dict[str, int]] = []

    def on_train_batch_start(self, trainer, phase, batch, batch_index) -> None:
        counted.clear()

    def on_train_batch_end(self, trainer, phase, outputs, batch, batch_index) -> None:
        self.steps.append(dict(counted))


def train(num_scenes: int, folder: Path) -> tuple[dict[str, int], LatentSupervision]:
    """What a step of the real phase carries, and the phase."""
    pack = folder / f"wire-{num_scenes}"
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:  # the other rank is started by this one's Trainer
        write_pack(Noise(num_scenes), pack, render=None)
    representation = MicroMacro(10, 22, num_bases=10, plane_resolution=32, extent=0.5)
    model = SceneModel(representation, SmallAutoencoder(), InsideBall(4), resolution=RESOLUTION)
    data = ShapeNetCars(str(pack), stage1_scenes=0, stage2_scenes=num_scenes, batch_size=BATCH)
    data = data.for_phase(PhaseData(stage=2))
    phase, per_step = LatentSupervision(model), PerStep()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_steps=STEPS, max_epochs=-1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[per_step], default_root_dir=str(pack),
    )  # fmt: skip
    representation.new_scenes(num_scenes)
    trainer.fit(phase, datamodule=data)
    late = per_step.steps[2:]  # DDP orders its buckets anew after the first
    assert len({tuple(sorted(step.items())) for step in late}) == 1, "all steps must carry the same"
    return late[0], phase


def train_dense(num_scenes: int, phase: LatentSupervision) -> dict[str, int]:
    """What a step of plain DDP over one dense table carries; the loss does not matter."""
    tables = phase.scene.representation.scene_tables().values()
    module = nn.ModuleList(DenseTable(torch.zeros(num_scenes, *table.row_shape)) for table in tables)
    module.extend(_holding(parameter) for name in SHARED for parameter in phase.parts()[name])
    module.forward = lambda: sum(parameter.sum() for parameter in module.parameters())  # type: ignore[method-assign]
    parallel = DistributedDataParallel(module)
    parallel.register_comm_hook(None, allreduce_hook)
    for _ in range(3):
        counted.clear()
        parallel().backward()
    return dict(counted)


def _holding(parameter: nn.Parameter) -> nn.Module:
    return nn.ParameterList([nn.Parameter(parameter.detach().clone())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--folder", type=Path, required=True, help="for packs")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    count_collectives()
    count_buckets()
    result: dict[str, Any] = {"num_scenes": options.scenes, "total": [], "carried_by": [], "dense": []}
    for num_scenes in options.scenes:
        carried, phase = train(num_scenes, options.folder)
        result["total"].append(sum(carried.values()))
        result["carried_by"].append(carried)
        result["dense"].append(sum(train_dense(num_scenes, phase).values()))
        result["shared_parameters"] = sum(p.nbytes for name in SHARED for p in phase.parts()[name])
    if dist.get_rank() == 0:
        options.out.write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
