"""Counter-based noise: a pure function of what it is for.

A value depends on (seed, phase, step, sample id, position) and on nothing else, so it is the same on any number of
ranks, with any number of workers, and after a resume. The generator is a 32-bit finaliser (xor-shift-multiply, the
constants of Wellons' ``lowbias32``) applied in turn to each part of the counter; on tensors it is held in int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mix(x):
    x = (x ^ (x >> 16)) * 0x7FEB352D & _MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & _MASK
    return x ^ (x >> 16)


class Stream(IntEnum):
    """Uses of noise: numbers of one use say nothing of those of another."""

    SAMPLES = 0  # places of a ray's first samples within their bins; changes of an image, where no ray is drawn
    IMPORTANCE = 1  # places of its further ones
    RAYS = 7  # rays of a view that are drawn
    CELLS = 8  # places in the cells of a density grid


@dataclass(frozen=True)
class CounterNoise:
    """Noise of one training step.

    Args:
        seed: Seed of the run.
        phase: Number of the phase.
        step: Optimiser step within the phase.
    """

    seed: int
    phase: int = 0
    step: int = 0

    def uniform(self, sample_ids: Tensor, count: int, stream: Stream) -> Tensor:
        """Numbers in [0, 1).

        Args:
            sample_ids: [...] long, what each row of numbers belongs to, e.g. a ray.
            count: Numbers per sample.
            stream: What they are for.

        Returns:
            [..., count] float32.
        """
        key = 0
        for part in (self.seed, self.phase, self.step, stream):
            key = _mix((key + 0x9E3779B9 + part) & _MASK)
        high = _mix((sample_ids >> 32 ^ key) & _MASK)
        per_sample = _mix((sample_ids & _MASK) ^ high)
        positions = torch.arange(count, device=sample_ids.device) * 0x9E3779B9 & _MASK
        bits = _mix(per_sample[..., None] ^ positions)
        return (bits >> 8).to(torch.float32) * 2.0**-24  # 24 bits: exact in float32, never 1
