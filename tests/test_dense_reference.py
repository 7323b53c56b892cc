"""A phase that steps rows ends where dense Adam on one table of all scenes ends."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from scaled_ig.callbacks import TrainingClock
from scaled_ig.optim.schedules import Exponential
from scaled_ig.phases import AdamSettings, LatentSupervision, RunSettings, WarmUp
from scaled_ig.phases.base import LearningRates, Phase
from scaled_ig.randomness import CounterNoise
from scaled_ig.scene_model import SceneModel
from tests.conftest import BallScenes, phase_data
from tests.rounding import EPSILON, assert_near, largest

STEPS = 60
RATES = LearningRates(micro=1.0, mixing=0.1, bases=1.0, head=0.1)  # gradients are small beside ε


class DenseTable(nn.Module):
    """What a scene table would be without ownership and sparse gradients."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(rows.clone())

    def forward(self, scene_index: Tensor) -> Tensor:
        return self.weight[scene_index]


class Steps(Callback):
    """Keeps what each step was given: views, and the rate of each group."""

    def __init__(self) -> None:
        self.keys: list[list[tuple[int, int]]] = []
        self.rates: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, phase, batch, batch_index) -> None:
        self.keys.append(list(zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True)))
        self.rates.append({group["name"]: group["lr"] for group in phase.scene_adam().param_groups})


def make_dense(scene: SceneModel) -> SceneModel:
    """The same model, whose tables are ordinary parameters."""
    dense = copy.deepcopy(scene)
    for name, table in scene.representation.scene_tables().items():
        setattr(dense.representation, name, DenseTable(table.weight.detach()))
    return dense


def trained(scene: SceneModel) -> dict[str, list[nn.Parameter]]:
    """What both phases train, by the name of its learning rate."""
    representation = scene.representation
    return {
        "micro": [representation.micro.weight],
        "mixing": [representation.mixing.weight],
        "bases": [representation.bases],
        "head": list(scene.renderer.head.parameters()),
    }


def train_dense(phase: Phase, data: ShapeNetCars, steps: Steps) -> None:
    """torch.optim.Adam on everything that the phase trains, without Lightning."""
    groups = [{"name": name, "params": own} for name, own in trained(phase.scene).items()]
    optimizer = torch.optim.Adam(groups, eps=EPSILON)
    for step, (keys, rates) in enumerate(zip(steps.keys, steps.rates, strict=True)):
        (batch,) = data.batches(phase.stage, keys)
        terms = phase.terms(batch, CounterNoise(phase.settings.seed, phase.number, step))
        optimizer.zero_grad()
        torch.stack([weight * value for weight, value in terms.values()]).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = rates[group["name"]]
        optimizer.step()


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """22 scenes with ten views, nine of them to train on: 45 steps of 4 views see all of 20 scenes."""
    folder = tmp_path_factory.mktemp("packs") / "dense"
    write_pack(BallScenes(22, 10, 32), folder, render=None)
    return folder


@pytest.mark.parametrize(
    ("make_phase", "stage1_scenes", "stage2_scenes"),
    [
        (partial(WarmUp, learning_rates=RATES, schedule=Exponential(), total_variation=1e-4), 20, 2),
        (partial(LatentSupervision, learning_rates=RATES, schedule=Exponential()), 2, 20),
    ],
    ids=["warm-up with total variation", "latent supervision"],
)
def test_rows_end_where_a_dense_table_does(make_phase, stage1_scenes, stage2_scenes, tiny_scene, pack, tmp_path):
    """In float32, where gradients are summed in another order: as near as rounding.py says."""
    scene = tiny_scene(num_scenes=20)
    scene.measure_background()
    data = ShapeNetCars(str(pack), stage1_scenes=stage1_scenes, stage2_scenes=stage2_scenes, batch_size=4)
    settings = RunSettings(AdamSettings(eps=EPSILON), seed=5)
    dense, phase, steps = make_dense(scene), make_phase(scene, settings), Steps()
    before = {name: [own.detach().clone() for own in part] for name, part in trained(scene).items()}
    data = data.for_phase(phase_data(phase))
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[TrainingClock(), steps], default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(phase, datamodule=data)

    reference = make_phase(dense, settings)
    train_dense(reference, data, steps)
    assert len({tuple(rates.values()) for rates in steps.rates}) > 1, "rates must change"
    for name, part in trained(scene).items():
        for own, theirs, start in zip(part, trained(dense)[name], before[name], strict=True):
            way = largest(own.detach() - start)
            assert way > 0.01, f"{name} must have moved"
            assert_near({name: theirs.detach()}, {name: own.detach()}, "", {name: way})
