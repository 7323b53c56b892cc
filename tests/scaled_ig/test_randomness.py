"""Noise is uniform, and depends on what it is for and on nothing else."""

import itertools

import pytest
import torch

from scaled_ig.randomness import CounterNoise, Stream


def ids(count: int) -> torch.Tensor:
    """As rays of a data set are numbered: scene, view, pixel."""
    return torch.arange(count) % 16 | (torch.arange(count) // 16 % 10 << 20) | (torch.arange(count) // 160 << 32)


@pytest.mark.parametrize("noise", [CounterNoise(0), CounterNoise(7, 3, 12345), CounterNoise(2**31, 1, 2)])
def test_numbers_are_uniform(noise):
    u = noise.uniform(ids(20_000), 8, Stream.SAMPLES)
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    for values in (u.flatten(), u[:, 0], u[:, 7], noise.uniform(torch.tensor([5]), 20_000, Stream.RAYS)[0]):
        counts = torch.histc(values, 64, 0, 1).double()
        expected = len(values) / 64
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert 25 < chi_squared < 115  # 63 degrees of freedom: less than 1e-5 lies outside


def test_neighbours_are_not_correlated():
    u = CounterNoise(1, 2, 3).uniform(ids(20_000), 6, Stream.SAMPLES).double()
    correlation = torch.corrcoef(torch.cat([u, u.roll(1, 0), u.roll(-16, 0)], 1).T) - torch.eye(18)
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_a_sample_does_not_see_its_company():
    noise, samples = CounterNoise(1, 2, 3), ids(500)
    every = noise.uniform(samples, 5, Stream.IMPORTANCE)
    chosen = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:37]
    assert torch.equal(noise.uniform(samples[chosen], 5, Stream.IMPORTANCE), every[chosen])
    assert torch.equal(noise.uniform(samples.view(20, 25), 5, Stream.IMPORTANCE), every.view(20, 25, 5))
    assert torch.equal(noise.uniform(samples, 9, Stream.IMPORTANCE)[:, :5], every)


def test_every_part_of_the_key_counts():
    samples = torch.tensor([0, 1, 1 << 20, 1 << 32, (1 << 32) + 1])
    keys = itertools.product((0, 1), (0, 1), (0, 1), (0, 1))
    drawn = torch.cat([CounterNoise(*key).uniform(samples, 4, stream) for *key, stream in keys])
    assert len(drawn.flatten().unique()) > 0.99 * drawn.numel()
    assert len(drawn.unique(dim=0)) == len(drawn)


def test_python_numbers_and_tensors_give_the_same_bits():
    def mix(x: int) -> int:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = (x ^ x >> shift) * factor % 2**32
        return x ^ x >> 16

    key = 0
    for part in (11, 2, 99, 5):
        key = mix((key + 0x9E3779B9 + part) % 2**32)
    samples = [0, 3, (7 << 32) | (9 << 20) | 200, 2**45 + 17]
    expected = []
    for sample in samples:
        own = mix(sample % 2**32 ^ mix(sample // 2**32 ^ key))
        expected.append([(mix(own ^ position * 0x9E3779B9 % 2**32) >> 8) / 2**24 for position in range(6)])
    assert CounterNoise(11, 2, 99).uniform(torch.tensor(samples), 6, stream=5).tolist() == expected
