"""NaN and infinity end a run in one sentence, and replace neither a checkpoint nor a bank."""

import shutil

import pytest
import torch

from data_modules.shapenet import ShapeNetCars
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.finite import is_finite, names_not_finite, rows_not_finite
from scaled_ig.phases import WarmUp
from scaled_ig.phases.not_finite import name_scenes
from tests.rounding import PHASES, assert_same_run
from tests.scaled_ig.phases.test_phases import train
from tests.test_ddp import on, the_error, use_callback

PHASE = PHASES[-1]
SPOIL = """
import torch
from lightning.pytorch import Callback

class Spoil(Callback):
    '''Writes what is not finite once: before a step, after it, or after the last one.'''

    def __init__(self, what: str, step: int, place: str):
        self.what, self.step, self.place = what, step, place

    def _spoil(self, module, place):
        if (module.global_step, place) != (self.step, self.place):
            return
        representation, moments = module.scene.representation, module.scene_adam().state
        row = representation.micro.row_of(torch.tensor(3))
        with torch.no_grad():
            if self.what == "scene" and 3 in representation.micro.owned:
                representation.micro.weight[row, 0, 2, 1] = torch.nan
            if self.what == "base":
                representation.bases[1, 0, 2, 1] = torch.nan
            if self.what == "moment":
                moments[representation.bases]["exp_avg_sq"][0] = torch.inf
            if self.what == "own moment" and 3 in representation.micro.owned:
                moments[representation.mixing.weight]["exp_avg"][row, 1] = -torch.inf

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._spoil(module, "before")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self._spoil(module, "after")

    def on_train_end(self, trainer, module):
        self._spoil(module, "at the end")
"""


def spoilt(folder, what: str, step: int, place: str) -> tuple:
    """Options that spoil a run."""
    return use_callback(folder, "Spoil", SPOIL, what=what, step=step, place=place)


def content(run) -> dict:
    """Checkpoints and bank of a run, by file."""
    files = [file for part in ("checkpoints", "bank") for file in (run / part).rglob("*") if file.is_file()]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


@pytest.fixture
def cut_run(tmp_path, tiny_run):
    """A finished run of which the last two steps of the last phase are left."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    folder = run / "checkpoints" / PHASE
    (folder / "final.ckpt").unlink()
    (folder / "last-1.ckpt").replace(folder / "last.ckpt")
    return run


@pytest.mark.slow("several runs")
@pytest.mark.parametrize(
    ("what", "step", "place", "named"),
    [
        ("scene", 10, "before", "after step 10 of phase rgb_alignment: scene '{}' (micro)"),
        ("base", 10, "before", "after step 10 of phase rgb_alignment: representation.bases"),
        ("moment", 12, "after", "after step 12 of phase rgb_alignment: bases.0.exp_avg_sq"),
        ("own moment", 12, "after", "after step 12 of phase rgb_alignment: scene '{}' (mixing.exp_avg)"),
        ("scene", 12, "at the end", "after step 12 of phase rgb_alignment: scene '{}' (micro)"),
    ],
)
def test_it_stops_a_run_and_replaces_nothing(
    tmp_path, run_scaled_ig, tiny_config, tiny_run, cut_run, what, step, place, named
):
    before, options = content(cut_run), ("fit", "--config", tiny_config, "--run_dir", cut_run, "--resume", "true")
    status, output = run_scaled_ig(*options, *spoilt(tmp_path, what, step, place), PYTHONPATH=str(tmp_path))
    assert status == 3, output[-3000:]
    last = cut_run / "checkpoints" / PHASE / "last.ckpt"
    error, spoilt_scene = the_error(output), SceneBank.open(tiny_run / "bank").scenes("stage2")[3].id
    assert f"error: not finite {named.format(spoilt_scene)}" in error
    assert f"{last} stays; go on with --resume true" in error
    after = content(cut_run)
    if place == "at the end":  # the last step itself was saved, before it
        before |= {name: after[name] for name in before if name.endswith("last.ckpt")}
    assert {name: after[name] for name in before} == before
    status, output = run_scaled_ig(*options)
    assert status == 0, output[-3000:]
    assert_same_run(tiny_run, cut_run)


@pytest.mark.slow("runs of two ranks")
@pytest.mark.parametrize(
    ("what", "place", "named"), [("scene", "before", "scene '{}' (micro)"), ("own moment", "after", "(mixing.exp_avg)")]
)
def test_what_one_rank_finds_ends_all(tmp_path, run_scaled_ig, tiny_config, tiny_run, cut_run, what, place, named):
    """The scene is the second rank's."""
    before, step = content(cut_run), 10 if place == "before" else 12
    options = ("--run_dir", cut_run, "--resume", "true", *on(2), *spoilt(tmp_path, what, step, place))
    status, output = run_scaled_ig("fit", "--config", tiny_config, *options, PYTHONPATH=str(tmp_path))
    assert status == 3, output[-3000:]
    assert named.format(SceneBank.open(tiny_run / "bank").scenes("stage2")[3].id) in the_error(output)
    assert content(cut_run) == before


class Unlearnable(WarmUp):
    """Of one scene the loss is infinite, whatever its parameters are."""

    def terms(self, batch, noise):
        factor = torch.where((batch.scene_index == 2).any(), torch.inf, 1.0)
        return {name: (weight, value * factor) for name, (weight, value) in super().terms(batch, noise).items()}


def test_a_loss_that_is_not_finite_is_not_applied(tmp_path, monkeypatch, tiny_pack, tiny_scene):
    monkeypatch.chdir(tmp_path)
    data, scene = ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=36), tiny_scene()
    before = {name: value.clone() for name, value in scene.state_dict().items() if "background" not in name}
    name = data.scene_ids(1)[2]
    with pytest.raises(
        UsageError, match=rf"after step 0 of phase warm_up: the loss of scene '{name}' \(views \d.*\); nothing"
    ):
        train(Unlearnable(scene), data, 3)
    assert all(torch.equal(scene.state_dict()[name], value) for name, value in before.items())


def test_what_is_named():
    rows = torch.zeros(4, 2, 3)
    rows[1, 0, 2], rows[3, 1, 0] = torch.nan, torch.inf
    assert rows_not_finite(rows) == [1, 3]
    assert rows_not_finite(torch.full((2, 9), 3e38)) == [], "their sum alone is too large"
    assert rows_not_finite(torch.zeros(0, 3)) == rows_not_finite(torch.ones(3, dtype=torch.uint8)) == []
    assert is_finite(torch.tensor([3e38, 3e38]))
    assert not is_finite(torch.tensor([torch.inf, -torch.inf]))
    assert names_not_finite({"a": rows[0], "b": rows[1], "c": torch.ones(2, dtype=torch.long)}) == ["b"]
    assert name_scenes([1], "ab") == "scene 'b'"
    assert name_scenes([0, 1], "ab", {0: [7], 1: [3, 4]}) == "scenes 'a' (view 7), 'b' (views 3, 4)"
    assert name_scenes(range(8), "abcdefgh") == "scenes 'a', 'b', 'c', 'd', 'e', 3 more"
