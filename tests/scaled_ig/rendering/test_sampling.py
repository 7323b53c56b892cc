"""Depths of samples against the densities that they are drawn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scaled_ig.cameras import orbit
from scaled_ig.rendering.sampling import FullRay, InsideBall, importance, smooth_weights, stratified


def test_stratified_samples_stay_in_their_bins_and_fill_them():
    near, far = torch.tensor([0.5, 1.0, -1.0]), torch.tensor([2.1, 1.5, 3.0])
    edges = near[:, None] + (far - near)[:, None] * torch.linspace(0, 1, 9)
    for u in (torch.zeros(3, 8), torch.full((3, 8), 1 - 2**-24), torch.rand(3, 8)):
        t = stratified(near, far, 8, u)
        torch.testing.assert_close((t - edges[:, :-1]) / edges.diff(dim=1), u, rtol=0, atol=1e-5)
    torch.testing.assert_close(stratified(near, far, 8), (edges[:, 1:] + edges[:, :-1]) / 2)


def test_smooth_weights():
    weights = torch.rand(5, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = smooth_weights(weights)
    assert smooth.shape == weights.shape
    for ray in range(5):
        for k in range(11):
            left = max(weights[ray, max(k - 1, 0)], weights[ray, k])
            right = max(weights[ray, k], weights[ray, min(k + 1, 10)])
            assert float(smooth[ray, k]) == pytest.approx(float((left + right) / 2 + 0.01))


def piecewise(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.rand(2, 8, generator=generator, dtype=torch.float64).cumsum(1)
    weights = torch.rand(2, 7, generator=generator, dtype=torch.float64)
    weights[0, 2] = weights[1, 6] = 0
    return edges, weights


def test_importance_samples_follow_the_density():
    edges, weights = piecewise()
    u = torch.rand(2, 40_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for ray, t in enumerate(importance(edges, weights, 40_000, u)):
        # Each slice of the CDF has one sample, so counts are off by one or two at most.
        counts, _ = np.histogram(t.numpy(), edges[ray].numpy())
        expected = weights[ray] / weights[ray].sum() * 40_000
        np.testing.assert_allclose(counts, expected.numpy(), atol=2)
        for k in (0, 3, 5):  # uniform within a bin
            inside = t[(t >= edges[ray, k]) & (t < edges[ray, k + 1])]
            quarters, _ = np.histogram(inside.numpy(), np.linspace(*edges[ray, k : k + 2].tolist(), 5))
            np.testing.assert_allclose(quarters, len(inside) / 4, atol=2)


@pytest.mark.parametrize("count", [1, 5, 48])
def test_importance_is_the_inverse_of_the_numerical_cdf(count):
    edges, weights = piecewise()
    t = importance(edges, weights, count)
    for ray in range(2):
        cdf = np.concatenate([[0], np.cumsum(weights[ray].numpy())]) / float(weights[ray].sum())
        target = (np.arange(count) + 0.5) / count
        np.testing.assert_allclose(t[ray].numpy(), np.interp(target, cdf, edges[ray].numpy()), atol=1e-6)
    assert torch.equal(t, importance(edges, weights, count)), "without noise it is deterministic"
    assert (t.diff(dim=1) >= 0).all()


def test_importance_at_the_ends_of_its_noise():
    edges, weights = piecewise()
    low, high = (importance(edges, weights, 6, torch.full((2, 6), u)) for u in (0.0, 1 - 2**-24))
    assert (low >= edges[:, :1]).all()
    assert (high <= edges[:, -1:]).all()
    torch.testing.assert_close(low[:, 1:], high[:, :-1], rtol=0, atol=1e-4)


def test_importance_passes_no_gradient():
    edges, weights = piecewise()
    assert not importance(edges, weights.requires_grad_(), 5).requires_grad


def test_plans_give_the_limits_of_their_rays():
    rays = orbit(3).rays(8).flatten()
    near, far = FullRay(t_near=0.3, t_far=1.9).limits(rays)
    assert near.unique().tolist() == pytest.approx([0.3])
    assert far.unique().tolist() == pytest.approx([1.9])
    near, far = FullRay(t_near=None, t_far=None).limits(rays)
    torch.testing.assert_close(torch.stack([near, far], -1), torch.tensor([[0.8, 1.8]]).expand(len(near), 2))
    near, far = InsideBall(radius=0.4).limits(rays)
    hit = far > near
    assert 0 < hit.sum() < len(hit)
    for t in (near, far):
        torch.testing.assert_close(rays.at(t[:, None])[hit, 0].norm(dim=1), torch.full((int(hit.sum()),), 0.4))
    distance = torch.linalg.cross(rays.origins, rays.directions).norm(dim=1)
    assert torch.equal(hit, distance < 0.4)


def test_cameras_may_say_where_the_scene_lies():
    cameras = replace(orbit(3), near_far=torch.tensor([[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]]))[[2, 0]]
    rays = cameras.rays(4)
    near, far = FullRay(t_near=None, t_far=None).limits(rays.flatten())
    assert near.tolist() == pytest.approx([0.3] * 16 + [0.1] * 16)
    assert far.tolist() == pytest.approx([3.0] * 16 + [1.0] * 16)
    near, far = FullRay(t_near=None, t_far=2.5).limits(cameras.rays_at(torch.tensor([[1], [2]]), 4).flatten())
    assert near.tolist() == pytest.approx([0.3, 0.1])
    assert far.tolist() == [2.5, 2.5]
