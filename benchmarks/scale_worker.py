"""One contender of benchmarks/scale.py: a process that trains scenes when it is told to, and says what that took."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data_modules.base import PhaseData
from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.views import PackViews, ViewKey
from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.bank.changes import changing
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import insert
from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras, orbit
from scaled_ig.optim import SceneAdam
from scaled_ig.phases import LatentSupervision
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel

Kind = Literal["waves", "exact_dense", "dense"]
BATCH = 16  # views of a step, of as many scenes
WARM_UP = 5  # steps
LATENTS = 64  # random target latents, which views share


def make_model() -> SceneModel:
    """The model of experiments/recipes/latent.yaml, without scenes."""
    representation = MicroMacro(10, 22, num_bases=10, plane_resolution=32, extent=0.5, plane_std=0.1, mixing_std=0.316)
    return SceneModel(representation, SmallAutoencoder(patch_size=4, latent_channels=12), InsideBall(16))


def row_bytes() -> int:
    """Bytes of one scene's own parameters."""
    tables = make_model().representation.scene_tables().values()
    return sum(4 * torch.Size(table.row_shape).numel() for table in tables)


class DenseTable(nn.Module):
    """What a scene table would be without ownership and sparse gradients."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(rows)

    def forward(self, scene_index: Tensor) -> Tensor:
        return self.weight[scene_index]


class SharedLatents:
    """Stands in for the latent cache, by the same lookup; but views share 64 latents, so that memory is the scenes'."""

    def __init__(self, keys: list[ViewKey], model: SceneModel) -> None:
        self._keys = torch.tensor([(scene << 32) | view for scene, view in keys])
        self._latents = torch.rand(LATENTS, model.autoencoder.latent_channels, *model.latent_size) * 2 - 1

    def __call__(self, batch: ViewBatch) -> Tensor:
        rows = torch.searchsorted(self._keys, (batch.scene_index << 32) | batch.view_index)
        return self._latents[rows % LATENTS]


@dataclass
class Cost:
    """What was spent: seconds of this process on the CPU, and on the clock on the wall."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __enter__(self) -> Cost:
        self._begun = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds += time.process_time() - self._begun[0]
        self.wall_seconds += time.perf_counter() - self._begun[1]


class Contender:
    """Latent supervision of N scenes.

    Args:
        kind: ``waves``: at most ``wave`` scenes at a time, each by its own clock; ``exact_dense``: rows of one table of
            all scenes; ``dense``: one ordinary table, torch.optim.Adam.
        pack: Folder of the pack's index.
        num_scenes: N.
        wave: Scenes of a wave.
        bank: Folder of the bank, made anew.
    """

    def __init__(self, kind: Kind, pack: Path, num_scenes: int, wave: int, bank: Path) -> None:
        torch.manual_seed(0)
        self.kind, self.num_scenes, self.bank = kind, num_scenes, bank
        self.size = min(num_scenes, wave) if kind == "waves" else num_scenes
        self.data = ShapeNetCars(str(pack), stage1_scenes=0, stage2_scenes=num_scenes, batch_size=BATCH)
        self.ids = self.data.scene_ids(2)
        self.model = make_model()
        self.model.autoencoder.requires_grad_(False)
        self.steps = 0
        shutil.rmtree(bank, ignore_errors=True)
        self.rows = self.enter(0)

    def enter(self, first: int) -> Cost:
        """Make the rows of the wave that begins with a scene, and what goes with them."""
        with Cost() as cost:
            self.data = self.data.for_phase(PhaseData(2, BATCH, 1, range(first, first + self.size)))
            self.model.representation.new_scenes(self.size, seed=first)
            if self.kind == "dense":
                self._make_dense()
            self.phase = LatentSupervision(self.model)
            self.optimizer = self._optimizer()
            self.views = self._views()
            self.batches = self._batches()
            next(self.batches)  # the order of an epoch is drawn with its first batch
        self.run(WARM_UP)
        return cost

    def _make_dense(self) -> None:
        for name, table in self.model.representation.scene_tables().items():
            setattr(self.model.representation, name, DenseTable(table.weight.detach()))

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.kind == "dense":
            return torch.optim.Adam((p for p in self.model.parameters() if p.requires_grad), lr=0.01, fused=True)
        tables = self.model.representation.scene_tables()
        groups = [
            {"name": name, "params": parameters, "lr": 0.01, "rows": name in tables}
            for name, parameters in self.phase.parts().items()
            if name in self.phase.trains
        ]
        exact = self.kind == "exact_dense"
        optimizer = SceneAdam(groups, "exact_dense" if exact else "per_scene", eps=1e-8 if exact else 1e-15)
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["rows"] else ():
                for value in optimizer.state[parameter].values():
                    value.zero_()  # memory that was never written is not there yet
                if exact:
                    self._pretend_a_round(optimizer, group, parameter)
        return optimizer

    def _pretend_a_round(self, optimizer: SceneAdam, group: dict[str, Any], table: nn.Parameter) -> None:
        """The state of the middle of training, where every row has coasted since its last visit."""
        between = -(-self.num_scenes // BATCH)  # steps between visits of a scene
        group["t"] = 1000 + 2 * between
        group["rates"] = [group["lr"]] * group["t"]
        state = optimizer.state[table]
        state["step"].copy_(group["t"] - torch.randperm(len(table)) // BATCH)
        state["exp_avg"].normal_(0, 1e-6)
        state["exp_avg_sq"].fill_(1e-12)

    def _views(self) -> PackViews:
        """Views of the wave, with cameras on a circle: the pack has no files to read them from."""
        views = PackViews(self.data.index, self.data.scenes(2), with_images=False)
        around, places = orbit(LATENTS), torch.arange(len(views)) % LATENTS
        near_far = torch.tensor([0.8, 1.8]).expand(len(views), 2).clone()
        views._cameras = Cameras(around.camera_to_world[places], around.intrinsics[places], near_far)
        views._has_cameras[:] = True
        train = self.data.split(2, "train")
        keys = [(scene, view) for scene in range(self.size) for view in train[scene]]
        self.phase.target._cache = SharedLatents(keys, self.model)  # type: ignore[assignment]
        return views

    def _batches(self) -> Iterator[ViewBatch]:
        """Views of the wave in the order of the data module's sampler."""
        sampler, epoch = self.data.sampler(), 0
        while True:
            sampler.set_epoch(epoch)
            for keys in sampler:
                yield self.views.__getitems__(keys)
            epoch += 1

    def run(self, steps: int) -> dict[str, Cost]:
        """Train so many steps; the optimiser's part is told apart."""
        self.optimizing = Cost()
        with Cost() as cost:
            for _ in range(steps):
                self._step(next(self.batches))
        return {"run": cost, "optimizer": self.optimizing}

    def _step(self, batch: ViewBatch) -> None:
        if isinstance(self.optimizer, SceneAdam):
            scenes = batch.scene_index.unique()
            with self.optimizing:
                for table in self.model.representation.scene_tables().values():
                    self.optimizer.catch_up(table.weight, table.row_of(scenes))
        terms = self.phase.terms(batch, CounterNoise(0, self.phase.number, self.steps))
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        with self.optimizing:
            self.optimizer.step()
        self.steps += 1

    def write_and_forget(self, first: int) -> Cost:
        """Write the wave that begins with a scene into the bank, and forget its state."""
        with Cost() as cost:
            ids, digests = self.data.scene_ids(2), self.data.scene_digests(2)
            SceneBank.write(self.bank, self.model, ids, f"stage2-{first:06d}", digests, "int8_difference")
            del self.optimizer, self.phase, self.batches, self.views
            gc.collect()
        return cost

    def change(self) -> dict[str, Cost]:
        """Write the first wave and enter the last; the bank then holds all scenes but those of the last."""
        last = self.num_scenes - self.size
        if last == 0:
            return {}
        self.write_and_forget(0)
        with changing(self.bank) as change:
            assert change.table is not None
            one = next(change.table.scenes())
            rows = (replace(one, id=name) for name in self.ids[self.size : last])
            change.commit_scenes(change.index.versions, partial(insert, records=rows))
        return {"rows": self.enter(last)}

    def finish(self) -> dict[str, Cost]:
        """Write the last wave, in a bank that holds all others."""
        return {"write": self.write_and_forget(self.num_scenes - self.size)}


def serve(connection: Connection, kind: Kind, pack: Path, num_scenes: int, wave: int, bank: Path) -> None:
    """Build a contender, then do as told: ``(method, *arguments)`` in, costs and resident MiB out, until None."""
    contender = Contender(kind, pack, num_scenes, wave, bank)
    connection.send({"rows": contender.rows, "mebibytes": resident_mebibytes()})
    while (message := connection.recv()) is not None:
        method, *arguments = message
        costs = getattr(contender, method)(*arguments)
        connection.send(costs | {"mebibytes": resident_mebibytes()})


def resident_mebibytes() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
