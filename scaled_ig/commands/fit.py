"""``scaled-ig fit``: the phases that a configuration names."""

from __future__ import annotations

from typing import Annotated

from lightning.pytorch.utilities import rank_zero_only

from scaled_ig.commands import say_next
from scaled_ig.commands.fast_dev_run import try_out
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Range
from scaled_ig.runs.run_folder import RunFolder


def fit(training: TrainingCLI, *, view: Annotated[int, Range(1, 65535)] | None = None) -> int:
    """Trains: runs the phases that a configuration names.

    Examples:
        scaled-ig fit --preset fast --data.path data/mine --run_dir runs/mine
        scaled-ig fit --preset fast --data.path data/mine --run_dir runs/mine --resume true
        scaled-ig fit --preset fast --config mine.yaml --preset ddp4 --data.path data/mine --run_dir runs/mine

    Args:
        view: Port of localhost, such as 8080, at which a browser shows scenes while they train.

    Returns:
        Exit code 0.

    Raises:
        UsageError: What is asked for cannot be trained.
    """
    if training.config.trainer.fast_dev_run:
        if view is not None:
            raise UsageError("--view has no effect beside --trainer.fast_dev_run, which keeps nothing: leave one out")
        return try_out(training)
    if view is None:
        status = training.train()
    else:
        from scaled_ig.viewer.live import LiveView

        with LiveView(view) as live:
            status = training.train(adjust=live.join)
    if getattr(rank_zero_only, "rank", 0) == 0:
        run = RunFolder(training.config.run_dir)
        print(f"{run.path}: scenes are in {run.bank}, what was measured in metrics.json")
        say_next("report", str(run.path))
    return status
