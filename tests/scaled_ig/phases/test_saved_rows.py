"""Checkpoints of several ranks: whole or in files of every rank, read by any number, never half there."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from scaled_ig.errors import UsageError
from scaled_ig.optim import SceneAdam
from scaled_ig.phases import saved_rows
from scaled_ig.phases.checkpoints import AtomicCheckpointIO
from scaled_ig.phases.saved_rows import Place, put_together, read_shards, write_shards
from scaled_ig.representations.scene_table import SceneTable
from tests.rounding import PHASES, assert_near, assert_same_moments, assert_same_run, checkpoint
from tests.scaled_ig.phases.test_checkpoint_files import flip_bit
from tests.test_ddp import on, the_error, use_callback

# The program with every rank's rows in files of its own; killed where a checkpoint lacks nothing but itself.
SHARDED = """
import os, signal, sys
from scaled_ig.phases import checkpoints, saved_rows
from scaled_ig.cli import main

def write_and_die(places, folder, write=checkpoints.write_shards):
    second = (folder.parent / "last.ckpt").is_file()  # asked before the ranks meet: afterwards the first one writes it
    write(places, folder)
    if folder.parent.name == os.environ.get("DIES_IN") and second:
        os.kill(os.getpid(), signal.SIGKILL)

saved_rows.SHARDED_ABOVE_BYTES, checkpoints.write_shards = 0, write_and_die
main(sys.argv[1:])
"""

FULL_DISK = """
import resource
from lightning.pytorch import Callback

class FullDisk(Callback):
    def __init__(self, rank: int, limit: int):
        self.rank, self.limit = rank, limit

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.global_step == 3 and trainer.global_rank == self.rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.limit))
"""


def table_of(num_scenes: int) -> SceneTable:
    table = SceneTable((3, 4), std=1.0)
    table.new_scenes(num_scenes, seed=1)
    return table


# -- one process ----------------------------------------------------------------------------------------------------


def test_shards_are_read_to_where_rows_lie(tmp_path):
    table, content = table_of(70), {}
    content["weight"] = table.weight
    rows = table.weight.detach().clone()
    write_shards([Place("micro", table, content, "weight")], tmp_path / "rows-0")
    assert content["weight"].shape == (0, 3, 4)
    assert len(list((tmp_path / "rows-0").glob("*.safetensors"))) == 4 == len(list((tmp_path / "rows-0").iterdir()))
    content["weight"] = table.weight.detach().zero_()
    read_shards([Place("micro", table, content, "weight")], tmp_path / "rows-0")
    assert table.weight.equal(rows)


def test_a_full_disk_leaves_no_rows(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    table = table_of(70)
    monkeypatch.setattr(saved_rows.dcp.filesystem.os, "fsync", full)
    monkeypatch.setattr(saved_rows.os, "posix_fallocate", full)
    with pytest.raises(UsageError, match=r"rows-0 cannot be written \(.*No space left on device\): free"):
        write_shards([Place("micro", table, {"weight": table.weight}, "weight")], tmp_path / "rows-0")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"no room for a checkpoint \(No space left on device\): free space and go on"):
        saved_rows._on_disk((3, 4), torch.float32, tmp_path)


def test_one_process_saves_rows_as_they_lie(tmp_path):
    table = table_of(5)
    content = {"weight": table.weight}
    put_together([Place("micro", table, content, "weight")], tmp_path / "never made")
    assert content["weight"] is table.weight
    assert not list(tmp_path.iterdir())


def test_moments_of_tables_are_loaded_to_where_they_lie():
    def optimizer() -> SceneAdam:
        groups = [{"name": "micro", "params": [nn.Parameter(torch.ones(3, 2))], "rows": True}]
        return SceneAdam([*groups, {"name": "bases", "params": [nn.Parameter(torch.ones(2))]}])

    trained, fresh, without_rows = optimizer(), optimizer(), optimizer()
    (table,), (bases,) = (group["params"] for group in trained.param_groups)
    table.grad = torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.ones(2, 2), (3, 2), check_invariants=True)
    bases.grad = torch.ones(2)
    trained.step()
    saved = trained.state_dict()
    lying = {slot: rows.data_ptr() for slot, rows in fresh.state[fresh.param_groups[0]["params"][0]].items()}
    fresh.load_state_dict(saved)
    for ours, theirs in zip(fresh.param_groups, trained.param_groups, strict=True):
        own, others = (each.state[group["params"][0]] for each, group in ((fresh, ours), (trained, theirs)))
        assert all(torch.equal(own[slot], others[slot]) for slot in {**own, **others}), ours["name"]
    loaded = fresh.state[fresh.param_groups[0]["params"][0]]
    assert {slot: rows.data_ptr() for slot, rows in loaded.items()} == lying
    assert fresh.param_groups[0]["t"] == 1
    read_before = without_rows.state[without_rows.param_groups[0]["params"][0]]
    read_before["exp_avg"].fill_(3)
    saved["state"][0] = {slot: rows[:0] for slot, rows in saved["state"][0].items()}
    without_rows.load_state_dict(saved)
    assert (without_rows.state[without_rows.param_groups[0]["params"][0]]["exp_avg"] == 3).all()


def test_what_no_checkpoint_names_is_removed_and_what_one_names_stays(tmp_path):
    files = AtomicCheckpointIO()
    for name in ("rows-a", "rows-b", "rows-c"):
        (tmp_path / name).mkdir()
    (tmp_path / "last.ckpt.123.part").write_bytes(b"of a process that was killed")
    files.save_checkpoint({"scaled_ig": {"rows": "rows-a"}}, tmp_path / "final.ckpt")
    assert {path.name for path in tmp_path.glob("rows-*")} == {"rows-a"}
    (tmp_path / "rows-b").mkdir()
    files.save_checkpoint({"scaled_ig": {"rows": "rows-b"}}, tmp_path / "last.ckpt")
    files.settle()
    assert {path.name for path in tmp_path.iterdir()} == {"rows-a", "rows-b", "final.ckpt", "last.ckpt"}
    (tmp_path / "final.ckpt").write_bytes(b"damaged: nobody knows what it names")
    files.save_checkpoint({"scaled_ig": {}}, tmp_path / "last.ckpt")
    assert {path.name for path in tmp_path.glob("rows-*")} == {"rows-a", "rows-b"}


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    files = AtomicCheckpointIO()
    files.save_checkpoint({"old": True}, tmp_path / "last.ckpt")

    def full(content, file):
        file.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    files.save_checkpoint({"old": False}, tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match=r"last.ckpt cannot be written \(.*\): free space, then --resume true"):
        files.settle()
    files.settle()  # said once
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert files.load_checkpoint(tmp_path / "last.ckpt") == {"old": True}


# -- several ranks --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, run_scaled_ig, tiny_config):
    """A run of two ranks with rows in files of their own, killed before its last phase's second checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "sharded"
    program = folder.with_name("sharded.py")
    program.write_text(SHARDED)
    call = ("fit", "--config", tiny_config, "--run_dir", folder, *on(2))
    status, output = run_scaled_ig(*call, program=program, DIES_IN=PHASES[-1])
    assert status != 0, output[-3000:]
    return folder


def rows_in_files(folder) -> dict[str, torch.Tensor]:
    """Tensors of a folder of rows by name, those of all shards together."""
    shards: dict[str, torch.Tensor] = {}
    for file in folder.iterdir():
        assert file.suffix == ".safetensors"
        shards |= load_file(file)
    names = {name.rpartition("/")[0] for name in shards}
    return {name: torch.cat([shards[n] for n in sorted(shards) if n.rpartition("/")[0] == name]) for name in names}


def without_files(content: dict, folder) -> tuple[dict, dict]:
    """Weights and the optimiser's state of a checkpoint, with its rows back in their places."""
    weights, state = content["state_dict"], content["optimizer_states"][0]
    rows = rows_in_files(folder / content["scaled_ig"]["rows"])
    for name in [name for name in rows if name.startswith("scene.")]:
        assert len(weights[f"{name}.weight"]) == 0
        weights[f"{name}.weight"] = rows.pop(name)
    for group in state["param_groups"]:
        for slot, value in state["state"][group["params"][0]].items() if group["rows"] else ():
            assert len(value) == 0
            state["state"][group["params"][0]][slot] = rows.pop(f"{group['name']}.{slot}")
    assert not rows
    return weights, state["state"]


@pytest.mark.slow("runs of two ranks")
@pytest.mark.parametrize("phase", PHASES[:-1])
@pytest.mark.parametrize("name", ["last", "final"])
def test_rows_in_files_are_those_of_one_process(sharded, tiny_run, phase, name):
    whole = checkpoint(tiny_run, phase, name)
    weights, states = without_files(checkpoint(sharded, phase, name), sharded / "checkpoints" / phase)
    assert_near(whole["state_dict"], weights, phase)
    assert_same_moments(whole, states, phase)


@pytest.mark.slow("runs of two ranks")
def test_a_kill_between_rows_and_checkpoint_leaves_the_old_one(sharded):
    folder = sharded / "checkpoints" / PHASES[-1]
    content, found = checkpoint(sharded, PHASES[-1], "last"), {rows.name for rows in folder.glob("rows-*")}
    assert content["global_step"] == 2
    assert content["scaled_ig"]["rows"] in found
    assert len(found) == 2, "those of the checkpoint that was not written are still there"
    for phase in PHASES[:-1]:
        named = {checkpoint(sharded, phase, name)["scaled_ig"]["rows"] for name in ("last-1", "last", "final")}
        assert {rows.name for rows in (sharded / "checkpoints" / phase).glob("rows-*")} == named
        assert len(named) == 3


@pytest.mark.slow("runs of two ranks")
def test_rows_in_files_are_read_by_another_number_of_ranks(tmp_path, run_scaled_ig, tiny_config, sharded, tiny_run):
    folder = tmp_path / "run"
    shutil.copytree(sharded, folder)
    call = ("fit", "--config", tiny_config, "--run_dir", folder, "--resume", "true")
    status, output = run_scaled_ig(*call, *on(3))
    assert status == 0, output[-3000:]
    assert not list((folder / "checkpoints" / PHASES[-1]).glob("rows-*"))
    assert_same_run(tiny_run, folder, PHASES[-1:])


@pytest.mark.slow("runs of two ranks")
def test_rows_that_are_missing_or_damaged_send_all_ranks_to_an_older_checkpoint(
    tmp_path, run_scaled_ig, tiny_config, sharded, tiny_run
):
    """A phase is finished again from its last checkpoint but one, then the killed one goes on; by one rank or two."""
    phase = "latent_supervision"

    def resume(ranks: int) -> tuple:
        folder = tmp_path / str(ranks)
        shutil.copytree(sharded, folder)
        files = []
        for name in ("final", "last"):
            rows = folder / "checkpoints" / phase / checkpoint(folder, phase, name)["scaled_ig"]["rows"]
            files.append(max(rows.iterdir()))
        flip_bit(files[0], files[0].stat().st_size // 2, 0)
        files[1].unlink()
        call = ("fit", "--config", tiny_config, "--run_dir", folder, "--resume", "true")
        return folder, files, *run_scaled_ig(*call, *on(ranks))

    with ThreadPoolExecutor(2) as pool:
        for folder, files, status, output in pool.map(resume, (1, 2)):
            assert status == 0, output[-3000:]
            whole = f"{phase} goes on from last-1.ckpt, step {checkpoint(folder, phase, 'last-1')['global_step']}"
            damage = f"{files[0]} is damaged (its digest is not that of its content) and {files[1]} is missing"
            assert output.count(f"{damage}: {whole}\n") == 1, output[-3000:]
            assert_same_run(tiny_run, folder, PHASES[-2:])


@pytest.mark.slow("a run of two ranks")
def test_rows_that_are_damaged_without_an_older_checkpoint_are_one_sentence(
    tmp_path, run_scaled_ig, tiny_config, sharded
):
    folder, phase = tmp_path / "run", PHASES[-1]
    shutil.copytree(sharded, folder)
    rows = folder / "checkpoints" / phase / checkpoint(folder, phase, "last")["scaled_ig"]["rows"]
    file = max(rows.iterdir())
    file.write_bytes(file.read_bytes()[:-8])
    call = ("fit", "--config", tiny_config, "--run_dir", folder, "--resume", "true")
    status, output = run_scaled_ig(*call, *on(2))
    assert status == 2, output[-3000:]
    assert the_error(output) == (
        f"error: {file} is damaged (its digest is not that of its content) and no older checkpoint of {phase} is "
        f"whole: copy it again, or remove {rows.parent} and --resume true trains {phase} again"
    )


@pytest.mark.slow("runs of two ranks")
def test_a_full_disk_ends_all_ranks(tmp_path, run_scaled_ig, tiny_config):
    cases = {
        "where rows come together": (0, 4096, False, "has no room for a checkpoint (File too large)"),
        "where the checkpoint is written": (0, 2**15, False, "last.ckpt cannot be written ("),
        "where a rank writes its own rows": (1, 1024, True, "cannot be written ("),
    }
    program = tmp_path / "sharded.py"
    program.write_text(SHARDED)

    def train(case: str) -> tuple[int, str]:
        rank, limit, in_files, _ = cases[case]
        own = tmp_path / case.replace(" ", "_")
        own.mkdir()
        full = use_callback(own, "FullDisk", FULL_DISK, rank=rank, limit=limit)
        call = ("fit", "--config", tiny_config, "--run_dir", own / "run", *on(2), *full)
        return run_scaled_ig(*call, program=program if in_files else None, PYTHONPATH=str(own))

    with ThreadPoolExecutor(3) as pool:
        for case, (status, output) in zip(cases, pool.map(train, cases), strict=True):
            _, _, in_files, expected = cases[case]
            assert status == 2, output[-3000:]
            assert expected in the_error(output), case
            run = tmp_path / case.replace(" ", "_") / "run"
            content = checkpoint(run, PHASES[0], "last")
            assert content["global_step"] == 2
            rows = {content["scaled_ig"]["rows"]} if in_files else set()
            assert {path.name for path in (run / "checkpoints" / PHASES[0]).iterdir()} == {"last.ckpt"} | rows, case
