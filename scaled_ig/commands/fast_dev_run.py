"""``scaled-ig fit --trainer.fast_dev_run N``: a configuration is tried out, and nothing of that is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from scaled_ig.commands.training_cli import TrainingCLI


def try_out(training: TrainingCLI) -> int:
    """Train a few steps of every phase, measure, and write the bank, all in a folder beside the run's that then goes.

    Loggers are left out. The run folder itself is neither read nor written.
    """
    config = training.config
    steps = int(config.trainer.fast_dev_run)
    for phase in filter(None, vars(config.phases).values()):
        phase.max_steps, phase.max_epochs = min(steps, phase.max_steps or steps), None
    config.trainer.fast_dev_run, config.trainer.logger, config.resume = False, False, False
    folder = Path(f"{config.run_dir}.fast_dev_run")  # the same for all ranks
    config.run_dir = str(folder)
    is_first = getattr(rank_zero_only, "rank", 0) == 0
    if is_first:  # of a call that was killed
        shutil.rmtree(folder, ignore_errors=True)
    try:
        status = training.train()
    finally:
        if is_first:
            shutil.rmtree(folder, ignore_errors=True)
    if is_first:
        print(f"every phase ran {steps} step{'s' if steps > 1 else ''} at most; nothing of it was kept", flush=True)
    return status
