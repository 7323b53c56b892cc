"""Scenes that share nothing train as if alone, and a representation may keep more than what is trained."""

import copy

import pytest
import torch
from lightning.pytorch import Callback
from torch.nn.utils import vector_to_parameters

from data_modules.shapenet import ShapeNetCars
from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.phases import AdamSettings, LearningRates, RunSettings, WarmUp
from scaled_ig.randomness import CounterNoise, Stream
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import SceneRepresentation, TriPlanes
from scaled_ig.representations.planes import sample_planes
from scaled_ig.representations.scene_table import SceneTable
from scaled_ig.scene_model import SceneModel
from tests.rounding import EPSILON, assert_near
from tests.scaled_ig.phases.test_phases import train


class Visited(SceneRepresentation):
    """Points in planes; beside them each scene counts its visits and adds up a density that it saw."""

    feature_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.micro, self.seen = SceneTable((3, 8, 8, 4), std=1.0), SceneTable((2,), std=0.0)

    def forward(self, scene_index, positions):
        return sample_planes(self.micro(scene_index), 2 * positions, TriPlanes.AXES["xy-xz-yz"])

    def own_tables(self):
        return {"micro": self.micro, "seen": self.seen}

    def refresh(self, scene_index, densities, noise):
        assert not torch.is_grad_enabled()
        assert len(scene_index.unique()) == len(scene_index)
        self.where = noise.uniform(scene_index, 3, Stream.CELLS)[:, None] - 0.5
        found = torch.cat([torch.ones(len(scene_index), 1), densities(self.where)], 1)
        self.seen.weight.index_add_(0, self.seen.row_of(scene_index), found)


class Visits(Callback):
    """How often batches have held each scene."""

    def __init__(self) -> None:
        self.counts = torch.zeros(4)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.counts[batch.scene_index.unique()] += 1


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tiny_pack):
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=3)


def make(representation: SceneRepresentation, own_heads: bool = True) -> SceneModel:
    scene = SceneModel(representation, IdentityAutoencoder(), InsideBall(8), resolution=32, own_heads=own_heads)
    representation.new_scenes(4, seed=5)
    return scene


@pytest.mark.parametrize("representation", [TriPlanes(4, 8, 0.5), Visited()], ids=lambda made: type(made).__name__)
def test_a_scene_with_a_head_of_its_own_trains_as_if_alone(representation, data):
    """Beside scenes that are trained or left out of every batch; with one head for all it makes a difference."""
    rows: dict[tuple[bool, bool], list[torch.Tensor]] = {}
    for own_heads in (True, False):
        start = make(copy.deepcopy(representation), own_heads)
        for alone in (True, False):
            scene = copy.deepcopy(start)
            settings = RunSettings(AdamSettings(clock="per_scene", eps=EPSILON))
            phase = WarmUp(scene, settings, LearningRates(micro=1.0, head=0.1))
            if alone:
                phase.learned = torch.tensor([True, True, False, True])
            train(phase, data, steps=12)
            tables = scene.representation.scene_tables()
            rows[own_heads, alone] = [table.weight.detach()[2] for table in tables.values()]
            others = [0, 1, 3]
            for name in ("micro", "head"):
                if name in tables:
                    before, after = (made.representation.scene_tables()[name].weight for made in (start, scene))
                    assert torch.equal(before[others], after[others]) == alone
                    assert not torch.equal(before[2], after[2])
            assert torch.equal(scene.renderer.head.row, start.renderer.head.row) == own_heads
    for alone, among in zip(rows[True, True], rows[True, False], strict=True):
        assert_near({"rows": alone}, {"rows": among}, "", {"rows": 12 * 1.0})
    assert (rows[False, True][0] - rows[False, False][0]).abs().max() > 1e-3


def test_what_a_representation_keeps_beside_its_parameters(data):
    """It is asked before every step about the scenes of the batch; the optimiser knows nothing of it."""
    scene, visits = make(Visited()), Visits()
    trainer = train(WarmUp(scene), data, 6, [visits])
    seen = scene.representation.seen.weight.detach()
    assert torch.equal(seen[:, 0], visits.counts)
    assert visits.counts.min() < visits.counts.max(), "scenes that a step does not hold are left alone"
    assert {group["name"] for group in trainer.optimizers[0].param_groups} == {"micro", "head"}
    before, scenes = seen.clone(), torch.tensor([3, 1])
    scene.refresh(scenes, CounterNoise(1, 2, 3))
    for number, row in enumerate(scenes.tolist()):
        head, where = copy.deepcopy(scene.renderer.head), scene.representation.where[[number]]
        vector_to_parameters(scene.representation.head.weight[row], head.parameters())
        density = head(scene.representation(scenes[[number]], where))[0][0, 0]
        torch.testing.assert_close(seen[row, 1] - before[row, 1], density)
