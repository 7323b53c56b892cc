"""All ranks of a run meet, and agree on what they are about to do, before anything is read or written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from scaled_ig.distributed.cores import share_cores
from scaled_ig.errors import UsageError


def meet(trainer: Trainer) -> None:
    """Start this machine's other ranks, where nobody has, share its cores among them and connect all ranks.

    Args:
        trainer: Any Trainer of the run; those that follow use the same connection.

    Raises:
        UsageError: It is a Trainer with which ranks would not train what one does.
    """
    strategy = trainer.strategy
    is_known = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if isinstance(strategy.launcher, _MultiProcessingLauncher) or not is_known:
        raise UsageError("trainer.strategy must be DDP with a program for each rank: give --trainer.strategy ddp")
    if trainer.precision == "16-mixed" and trainer.world_size > 1:
        raise UsageError("trainer.precision 16-mixed lets ranks drift apart: give bf16-mixed")
    if trainer.gradient_clip_algorithm == "value":
        raise UsageError("trainer.gradient_clip_algorithm value is not there: give norm, which is over all ranks")
    environment = getattr(strategy, "cluster_environment", None)
    are_running = environment is not None and environment.creates_processes_externally
    share_cores(trainer.num_devices, trainer.num_devices if are_running else 1)
    if strategy.launcher is None:
        strategy.setup_environment()
    else:
        strategy.launcher.launch(strategy.setup_environment, trainer=trainer)


def digest_of(content: Any) -> str:
    """Short name of plain values that are too many to be compared as they are."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def agree(plan: dict[str, Any], way_out: str) -> None:
    """Compare what every rank is about to do with what the first is. Collective.

    Args:
        plan: Plain values.
        way_out: What to do about a difference.

    Raises:
        UsageError: They differ; the same on all ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    plans: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(plans, plan)
    for rank, rank_plan in enumerate(plans):
        for key in sorted(plans[0] | rank_plan):
            first_value, value = plans[0].get(key), rank_plan.get(key)
            if first_value != value:
                raise UsageError(f"rank {rank} differs in {key} ({value} there, {first_value} on rank 0): {way_out}")
