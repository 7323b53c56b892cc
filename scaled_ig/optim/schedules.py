"""How learning rates change over a phase, as a factor on the rate of every group."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from scaled_ig.ranges import Place, Share, checked


class Schedule(ABC):
    """A factor by epoch or by progress."""

    @abstractmethod
    def factor(self, epoch: int, progress: float) -> float:
        """Factor on the learning rates.

        Args:
            epoch: Whole epochs done.
            progress: Part of the phase that is done, in [0, 1].
        """


class Constant(Schedule):
    """No change."""

    def factor(self, epoch: int, progress: float) -> float:
        return 1.0


@checked
class MultiStep(Schedule):
    """× ``gamma`` at each milestone.

    Args:
        milestones: Epochs.
        gamma: Factor.
    """

    def __init__(self, milestones: tuple[Place, ...] = (20, 40), gamma: Share = 0.3) -> None:
        self.milestones, self.gamma = milestones, gamma

    def factor(self, epoch: int, progress: float) -> float:
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@checked
class Exponential(Schedule):
    """× ``gamma`` after each epoch.

    Args:
        gamma: Factor.
    """

    def __init__(self, gamma: Share = 0.941) -> None:
        self.gamma = gamma

    def factor(self, epoch: int, progress: float) -> float:
        return self.gamma**epoch


@checked
class WarmUpCosine(Schedule):
    """Linear warm-up, then a cosine, by progress.

    Args:
        warm_up: Part of the phase that warms up.
        end: Factor at the end.
    """

    def __init__(self, warm_up: Share = 0.02, end: Share = 0.05) -> None:
        self.warm_up, self.end = warm_up, end

    def factor(self, epoch: int, progress: float) -> float:
        ramp = min(1.0, progress / self.warm_up + 0.05) if self.warm_up else 1.0
        return ramp * (self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class PresentRates(LambdaLR):
    """Rates by a schedule. What a checkpoint brings back is the step: the rates are those of the present settings."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({name: v for name, v in state_dict.items() if name not in ("base_lrs", "_last_lr")})
        self._last_lr = self.get_lr()
        for group, base, rate in zip(self.optimizer.param_groups, self.base_lrs, self._last_lr, strict=True):
            group |= {"initial_lr": base, "lr": rate}
