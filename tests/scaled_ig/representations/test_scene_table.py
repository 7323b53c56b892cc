"""A table is the same on any number of ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scaled_ig.distributed.ownership import owned_scenes
from scaled_ig.representations.scene_table import SceneTable


def table_of(rank: int, world_size: int, num_scenes: int = 9) -> SceneTable:
    table = SceneTable((2, 3), std=0.5)
    table.rank, table.world_size = rank, world_size
    table.new_scenes(num_scenes, seed=4)
    return table


@pytest.mark.parametrize("world_size", [2, 4])
def test_rows_start_the_same_on_any_number_of_ranks(world_size):
    whole = table_of(0, 1)
    assert len(whole.weight.unique()) == 9 * 6
    for rank in range(world_size):
        part = table_of(rank, world_size)
        assert part.num_scenes == 9
        assert torch.equal(part.weight, whole.weight[list(owned_scenes(9, rank, world_size))])
        assert torch.equal(part.take(whole.weight), part.weight)
        owned = torch.tensor(part.owned)
        assert torch.equal(part(owned), whole(owned))


def test_a_scenes_gradient_is_what_one_process_would_compute():
    index = torch.tensor([5, 7, 7])  # scene 7 twice
    whole, part = table_of(0, 1), table_of(1, 2)
    assert {5, 7} <= set(part.owned)
    for table in (whole, part):
        (table(index) * torch.tensor([1.0, 2.0, 5.0])[:, None, None]).sum().backward()
    expected = torch.zeros_like(whole.weight)
    expected[5], expected[7] = 1, 7
    assert torch.equal(whole.weight.grad.to_dense(), expected)
    assert torch.equal(part.weight.grad.to_dense(), expected[list(part.owned)])


def test_a_foreign_scene_is_refused():
    with pytest.raises(ValueError, match="rank 1 was given a scene that it does not own"):
        table_of(1, 2)(torch.tensor([1, 2]))


@pytest.mark.parametrize("row_shape", [(5,), (40,)], ids=["scalar loop", "vector loop"])
def test_a_row_may_have_spreads_and_means_of_its_own(row_shape):
    """One flat row holds several layers, each with its own scale."""

    def rows(*given) -> torch.Tensor:
        table = SceneTable(row_shape, *given)
        table.new_scenes(3, seed=4)
        return table.weight.detach()

    noise = rows(1.0)
    std, mean = torch.linspace(0.1, 2, *row_shape), torch.linspace(-3, 3, *row_shape)
    torch.testing.assert_close(rows(std, mean), mean + std * noise)
    torch.testing.assert_close(rows(0.3, mean), mean + 0.3 * noise)
    assert torch.equal(rows(0.0, mean), mean.expand(3, -1))
    assert torch.equal(rows(torch.tensor(1.0)), noise)


def test_rows_may_start_from_a_given_row():
    table = table_of(0, 1)
    mean = table.mean()
    torch.testing.assert_close(mean, table.weight.detach().mean(0))
    table.new_scenes(3, seed=0, start=mean)
    assert torch.equal(table.weight.detach(), mean.expand(3, 2, 3))
    table.weight.data[0] += 1
    assert torch.equal(table.weight.detach()[1], mean), "rows are their own"


@pytest.mark.parametrize("scale", [1e-30, 1.0, 3e4])
def test_the_mean_does_not_depend_on_the_order(scale):
    table = SceneTable((3, 4, 4, 2), scale)
    table.new_scenes(37, seed=3)
    expected = table.weight.detach().double().mean(0)
    torch.testing.assert_close(table.mean().double(), expected, rtol=1e-6, atol=1e-7 * scale)
    table.weight.data[0, 0, 0, 0, 0] = 1e38  # one wild value costs no other
    torch.testing.assert_close(table.mean().double()[1:], expected[1:], rtol=1e-6, atol=1e-7 * scale)
    order = torch.randperm(37)
    first = table.mean()
    table.weight.data = table.weight.data[order]
    assert torch.equal(table.mean(), first), "in any order"


RANKS = """
import sys, torch, torch.distributed as dist
from scaled_ig.representations import scene_table
from tests.scaled_ig.representations.test_scene_table import table_of
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
table, whole = table_of(0, 1, 9), table_of(0, 1, 9)
table.shard(rank, 2)
assert torch.equal(table.weight, whole.weight[list(table.owned)]) and len(table.weight) in (4, 5)
scene_table.BLOCK_BYTES = 2 * 6 * 4  # two rows: blocks, of which the last is shorter
for rows, all_rows in ((table.weight, whole.weight), (torch.tensor(table.owned), torch.arange(9))):
    full = torch.zeros_like(all_rows) if rank == 0 else None
    table.collect(rows, full)
    assert rank or torch.equal(full, all_rows)
torch.testing.assert_close(table.mean(), whole.mean())
dist.destroy_process_group()
"""


@pytest.mark.slow("two ranks")
def test_sharding_and_collecting_over_two_processes(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANKS, str(rank), str(tmp_path)], env=environment, stderr=-1)
        for rank in range(2)
    ]
    errors = [process.communicate()[1].decode() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], "\n".join(errors)
