"""Ranks agree on mistakes, and on what they log."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

from scaled_ig.distributed.agreement import together
from scaled_ig.errors import UsageError
from scaled_ig.phases import Phase


def work(rank: int, folder: str) -> None:
    """Ranks 1 and 2 of three make a mistake; each has its share of a batch of 8 views."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)

    def mistake():
        if rank:
            raise UsageError(f"mistake of rank {rank}")
        return rank

    try:
        together(mistake)
        said = None
    except UsageError as error:
        said = str(error)
    assert together(lambda: 2 * rank) == 2 * rank
    share = (2, 2, 4)[rank] / 8
    phase = SimpleNamespace(trainer=SimpleNamespace(world_size=3))
    logged = Phase._over_ranks(phase, {"a": torch.tensor(float(rank)), "b": torch.tensor(1.0)}, share)
    torch.save((said, {name: float(value) for name, value in logged.items()}), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow("three ranks")
def test_ranks_agree(tmp_path):
    spawn(work, (str(tmp_path),), nprocs=3)
    for rank in range(3):
        said, logged = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert said == "mistake of rank 1"
        assert logged == {"a": (2 * 0 + 2 * 1 + 4 * 2) / 8, "b": 1.0}


def test_alone_a_mistake_is_what_it_is():
    assert together(lambda: 3) == 3
