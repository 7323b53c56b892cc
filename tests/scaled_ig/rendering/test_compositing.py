"""Volume rendering against closed forms and a slow loop."""

import math

import pytest
import torch

from scaled_ig.rendering.compositing import composite, interval_weights


def raw(density: float) -> float:
    """The raw density whose softplus(raw − 1) is ``density``."""
    return math.log(math.expm1(density)) + 1


def random_rays(rays: int = 4, samples: int = 7, channels: int = 3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    densities = 4 * torch.randn(rays, samples, generator=generator, dtype=dtype)
    values = torch.rand(rays, samples, channels, generator=generator, dtype=dtype)
    t = 0.5 + torch.rand(rays, samples, generator=generator, dtype=dtype).cumsum(1)
    return densities, values, t, torch.rand(channels, generator=generator, dtype=dtype)


def test_the_formula_written_as_a_loop():
    densities, values, t, background = random_rays()
    result = composite(densities, values, t, background)
    for ray in range(4):
        transmittance, pixel, opacity, depth = 1.0, torch.zeros(3).double(), 0.0, 0.0
        for k in range(6):
            mean_raw = float(densities[ray, k] + densities[ray, k + 1]) / 2
            delta = float(t[ray, k + 1] - t[ray, k])
            alpha = 1 - math.exp(-math.log1p(math.exp(mean_raw - 1)) * delta)
            weight = alpha * transmittance
            assert float(interval_weights(densities, t)[ray, k]) == pytest.approx(weight, abs=1e-12)
            pixel += weight * (values[ray, k] + values[ray, k + 1]) / 2
            depth += weight * float(t[ray, k] + t[ray, k + 1]) / 2
            opacity, transmittance = opacity + weight, transmittance * (1 - alpha)
        torch.testing.assert_close(result.pixels[ray], pixel + transmittance * background)
        assert float(result.accumulation[ray]) == pytest.approx(opacity)
        assert float(result.accumulation[ray]) + transmittance == pytest.approx(1)
        assert float(result.depth[ray]) == pytest.approx(depth / opacity)


@pytest.mark.parametrize("impact", [0.0, 0.2, 0.35])
def test_a_ball_of_constant_density(impact):
    """Opacity 1 − exp(−σ · chord), to an error that shrinks with the samples."""
    density, chord = 3.0, 2 * math.sqrt(0.4**2 - impact**2)
    errors = []
    for samples in (64, 512, 4096):
        t = torch.linspace(0.5, 2.1, samples).double()[None]
        inside = (t - 1.3).square() + impact**2 < 0.4**2
        densities = torch.where(inside, raw(density), -60.0)
        result = composite(densities, torch.full((1, samples, 1), 0.25).double(), t, torch.ones(1).double())
        expected = 1 - math.exp(-density * chord)
        errors.append(abs(float(result.accumulation) - expected))
        assert errors[-1] < density * 2 * 1.6 / samples
        assert float(result.pixels) == pytest.approx(1 - 0.75 * float(result.accumulation))
    assert errors[2] < errors[0] / 10


def test_depth_of_a_thin_wall():
    t = torch.linspace(0.5, 2.1, 200).double()[None]
    wall = (t - 1.234).abs() < 0.012
    result = composite(torch.where(wall, 4000.0, -60.0), torch.ones(1, 200, 1).double(), t, torch.zeros(1).double())
    assert float(result.accumulation) == pytest.approx(1)
    assert float(result.depth) == pytest.approx(1.234, abs=0.03)


def test_empty_and_opaque_rays_stay_finite():
    t = torch.linspace(0, 1, 5)[None].repeat(2, 1)
    densities = torch.tensor([[-1e4], [1e4]]).expand(2, 5).clone().requires_grad_()
    values = torch.rand(2, 5, 3, requires_grad=True)
    result = composite(densities, values, t, torch.tensor([0.1, 0.2, 0.3]))
    assert result.accumulation.tolist() == [0, 1]
    assert result.pixels[0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert float(result.depth[0].detach()) == 1
    (result.pixels.sum() + result.depth.sum()).backward()
    assert densities.grad is not None
    assert densities.grad.isfinite().all()
    torch.testing.assert_close(values.grad[1].sum(0), torch.ones(3))


def test_gradients():
    densities, values, t, background = random_rays(2, 5, 2)
    inputs = tuple(tensor.requires_grad_() for tensor in (densities, values, t, background))
    assert torch.autograd.gradcheck(lambda *args: tuple(vars(composite(*args)).values()), inputs)
