"""Learning rates at every epoch against the papers' tables."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from scaled_ig.optim.schedules import Constant, Exponential, MultiStep, WarmUpCosine


def rates(schedule, epochs: int, steps_per_epoch: int = 3) -> list[float]:
    """Rate of a group of 0.01 in every step of a phase."""
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 0.01}])
    total = epochs * steps_per_epoch
    scheduler = LambdaLR(optimizer, lambda step: schedule.factor(step // steps_per_epoch, step / total))
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), lambda epoch: 0.01),
        (MultiStep(), lambda epoch: 0.01 if epoch < 20 else 0.003 if epoch < 40 else 0.0009),
        (MultiStep((2, 2, 5), 0.5), lambda epoch: 0.01 / (1 if epoch < 2 else 4 if epoch < 5 else 8)),
        (Exponential(), lambda epoch: 0.01 * math.exp(epoch * math.log(0.941))),
    ],
)
def test_rate_of_every_epoch(schedule, expected):
    assert rates(schedule, 50) == pytest.approx([expected(step // 3) for step in range(150)])


def test_warm_up_cosine_rises_then_falls_to_its_end():
    schedule = WarmUpCosine(warm_up=0.1, end=0.05)
    factors = [schedule.factor(0, progress / 1000) for progress in range(1001)]
    top = factors.index(max(factors))
    assert 0 < factors[0] <= 0.1
    assert 50 <= top <= 100, "warm-up takes a tenth of the phase"
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[-1] == pytest.approx(0.05)
    assert schedule.factor(0, 1.5) == pytest.approx(0.05), "a phase may run on"
    assert factors[550] == pytest.approx(0.05 + 0.95 * (1 + math.cos(0.55 * math.pi)) / 2)


def test_warm_up_cosine_needs_no_warm_up():
    assert WarmUpCosine(warm_up=0.0).factor(0, 0.0) == pytest.approx(1)
