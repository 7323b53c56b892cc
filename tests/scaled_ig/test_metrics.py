"""Metrics of each image against slow versions."""

import math

import pytest
import torch

from scaled_ig.errors import UsageError
from scaled_ig.metrics import ALEXNET, Lpips, find_lpips_backbone, psnr, ssim, to_unit_range


def pairs(count: int = 3, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.nn.functional.avg_pool2d(torch.rand(count, 3, size + 4, size + 4, generator=generator), 5, 1)
    noise = torch.randn(targets.shape, generator=generator)
    return (targets + 0.05 * torch.arange(1, count + 1).view(-1, 1, 1, 1) * noise).clamp(0, 1), targets


def slow_ssim(image: torch.Tensor, target: torch.Tensor) -> float:
    """Wang et al. 2004 pixel by pixel, a window around each; images continue by reflection, as in torchmetrics."""
    one_side = torch.tensor([math.exp(-((k - 5) ** 2) / (2 * 1.5**2)) for k in range(11)], dtype=torch.float64)
    window = one_side[:, None] * one_side / one_side.sum() ** 2
    values = []
    image, target = (torch.nn.functional.pad(x.double(), (5, 5, 5, 5), mode="reflect") for x in (image, target))
    for x, y in zip(image, target, strict=True):
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
                covariance = (window * a * b).sum() - mean_a * mean_b
                above = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
                values.append(float(above / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))))
    return sum(values) / len(values)


def test_psnr():
    images, targets = pairs()
    for value, image, target in zip(psnr(images, targets).tolist(), images, targets, strict=True):
        errors = [(a - b) ** 2 for a, b in zip(image.flatten().tolist(), target.flatten().tolist(), strict=True)]
        assert value == pytest.approx(10 * math.log10(len(errors) / sum(errors)), abs=1e-4)
    assert psnr(images, images).tolist() == [100] * 3


def test_ssim():
    images, targets = pairs(2)
    for value, image, target in zip(ssim(images, targets).tolist(), images, targets, strict=True):
        assert value == pytest.approx(slow_ssim(image, target), abs=1e-4)
    assert ssim(images, images).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_an_image_does_not_see_its_batch(metric):
    images, targets = pairs()
    alone = torch.cat([metric(images[[k]], targets[[k]]) for k in range(3)])
    torch.testing.assert_close(metric(images, targets), alone)
    assert metric(images[:1], targets[:1]).shape == (1,)


def test_the_range_is_converted_and_clamped():
    assert to_unit_range(torch.tensor([-1.2, -1.0, 0.0, 1.0, 1.1])).tolist() == [0, 0, 0.5, 1, 1]


@pytest.fixture
def backbone(tmp_path):
    """AlexNet's file with random weights."""
    generator = torch.Generator().manual_seed(1)
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    state = {f"features.{k}.weight": 0.05 * torch.randn(shape, generator=generator) for k, shape in shapes.items()}
    state |= {f"features.{k}.bias": torch.randn(shape[0], generator=generator) for k, shape in shapes.items()}
    torch.save(state | {"classifier.1.bias": torch.zeros(3)}, tmp_path / ALEXNET)
    return tmp_path / ALEXNET


def test_lpips_is_that_of_its_authors(backbone):
    lpips = pytest.importorskip("lpips")
    state = torch.load(backbone, weights_only=True)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for name, parameter in theirs.net.named_parameters():
        parameter.data.copy_(state["features." + name.split(".", 1)[1]])
    images, targets = pairs(2, size=64)
    ours = Lpips(find_lpips_backbone(str(backbone)))
    torch.testing.assert_close(ours(images, targets), theirs(images, targets, normalize=True).flatten())
    assert ours(images, targets).min() > 0
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_a_missing_backbone_is_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=rf"{tmp_path}/none.pth.*--lpips_weights"):
        find_lpips_backbone(str(tmp_path / "none.pth"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=rf"{ALEXNET}.*not found at {tmp_path}"):
        find_lpips_backbone()


def test_the_hubs_cache_is_searched(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / ALEXNET
    cached.parent.mkdir(parents=True)
    backbone.rename(cached)
    assert find_lpips_backbone() == cached
