"""All ranks of a run meet, and agree on what they are about to do, before anything is read or written."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher

from scaled_ig.distributed.cores import share_cores
from scaled_ig.distributed.watch import STARTED_BY, Watch
from scaled_ig.errors import UsageError


def meet(trainer: Trainer, watch: Watch) -> None:
    """Start this machine's other ranks, where nobody has, share its cores among them and connect all ranks.

    Args:
        trainer: Any Trainer of the run; those that follow use the same connection.
        watch: What hears of the other ranks from then on.

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
    watch.rank = trainer.global_rank
    launcher = strategy.launcher

    def connect() -> None:
        if isinstance(launcher, _SubprocessScriptLauncher):
            # Lightning's observer would kill this process, too, once one of them ends: it is left nothing to observe.
            watch.children, launcher.procs[:] = list(launcher.procs), []
        strategy.setup_environment()

    if launcher is None:
        connect()
    else:
        os.environ[STARTED_BY] = str(os.getpid())
        launcher.launch(connect, trainer=trainer)
    watch.rank = trainer.global_rank
    watch.connect(trainer.world_size)


def ours_to_stop(trainer: Trainer) -> Trainer:
    """A Trainer that leaves signals to :class:`Watch`.

    Lightning's handler of SIGTERM broadcasts from within whatever it has interrupted, so that ranks wait for each other
    for ever; and it asks the first rank twice a step. There is no public way to leave that out.
    """
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]
    return trainer


def _nothing() -> None:
    return None


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
