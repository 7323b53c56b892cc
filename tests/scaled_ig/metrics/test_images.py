"""Metrics of each image against their definitions in NumPy, float64."""

import hashlib
import re

import numpy as np
import pytest
import torch

from scaled_ig.batch import to_unit_range
from scaled_ig.errors import UsageError
from scaled_ig.metrics.images import (
    ALEXNET,
    LPIPS_LEAST_SIDE,
    Lpips,
    download_lpips_backbone,
    find_lpips_backbone,
    load_lpips,
    psnr,
    ssim,
    ssim_signed,
)


def pairs(count: int = 3, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.nn.functional.avg_pool2d(torch.rand(count, 3, size + 4, size + 4, generator=generator), 5, 1)
    noise = torch.randn(targets.shape, generator=generator)
    return (targets + 0.05 * torch.arange(1, count + 1).view(-1, 1, 1, 1) * noise).clamp(0, 1), targets


def slow_psnr(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    """10 log10 of the squared range over the mean squared error."""
    return 10 * np.log10(data_range**2 / np.mean((image.astype(np.float64) - target) ** 2))


def slow_ssim(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    """Wang et al. 2004: a Gaussian window around every pixel; images continue by reflection, as in torchmetrics."""
    along = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(along, along) / along.sum() ** 2
    x, y = (
        np.lib.stride_tricks.sliding_window_view(
            np.pad(channels.astype(np.float64), ((0, 0), (5, 5), (5, 5)), mode="reflect"), (11, 11), axis=(1, 2)
        )
        for channels in (image, target)
    )

    def mean(values: np.ndarray) -> np.ndarray:
        return (window * values).sum((-2, -1))

    mean_x, mean_y = mean(x), mean(y)
    from_x, from_y = x - mean_x[..., None, None], y - mean_y[..., None, None]
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * mean(from_x * from_y) + c2) / (mean(from_x**2) + mean(from_y**2) + c2)
    return float((luminance * structure).mean())


def slow_ssim_signed(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    return slow_ssim(2 * image - 1, 2 * target - 1, 2 * data_range)


@pytest.mark.parametrize(("metric", "slow"), [(psnr, slow_psnr), (ssim, slow_ssim), (ssim_signed, slow_ssim_signed)])
def test_definitions(metric, slow):
    images, targets = pairs()
    images[:, :, :9], targets[:, :, :9] = 1, 1  # white background, where variances are differences of equal numbers
    expected = [slow(image, target, 1) for image, target in zip(images.numpy(), targets.numpy(), strict=True)]
    # Where all is white, a variance is the rounding of a sum of 121 terms, 7e-7, beside c2 = 9e-4.
    assert metric(images, targets).tolist() == pytest.approx(expected, rel=1e-3)


def test_psnr_is_that_of_images_from_minus_one_to_one():
    """The authors take 10 log10(4 / mse) there; images beyond the range are clamped."""
    images, targets = (2.4 * values - 1.2 for values in pairs())
    clamped = (values.clamp(-1, 1).numpy() for values in (images, targets))
    expected = [slow_psnr(image, target, 2) for image, target in zip(*clamped, strict=True)]
    assert psnr(to_unit_range(images), to_unit_range(targets)).tolist() == pytest.approx(expected, rel=1e-5)


def test_equal_images():
    images, _ = pairs()
    assert psnr(images, images).tolist() == [100] * 3
    assert ssim(images, images).tolist() == pytest.approx([1] * 3)


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_signed])
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


def test_lpips_of_an_image_does_not_depend_on_its_batch(backbone):
    images, targets = pairs(9, size=64)
    lpips = Lpips(backbone)
    whole = lpips(images, targets)
    for size in (1, 7):
        parts = zip(images.split(size), targets.split(size), strict=True)
        torch.testing.assert_close(torch.cat([lpips(*part) for part in parts]), whole, rtol=1e-5, atol=1e-7)


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


@pytest.mark.parametrize(
    "content", [b"<html>sorry</html>", b"", {"features.0.weight": 1}, {"conv1.weight": torch.ones(2)}, 7]
)
def test_a_wrong_backbone_is_named(tmp_path, content):
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UsageError, match=rf"^{file} is not {re.escape(ALEXNET)}, .*--lpips_weights"):
        load_lpips("auto", str(file))


@pytest.mark.parametrize("mode", ["require", "download"])
def test_images_too_small_for_lpips_are_measured_without_it(backbone, capsys, mode):
    assert load_lpips("auto", str(backbone), side=30) is None
    assert "LPIPS is left out: images of 30 pixels are too small" in capsys.readouterr().out
    with pytest.raises(UsageError, match="too small"):
        load_lpips(mode, str(backbone), side=30)
    lpips, (images, targets) = load_lpips("auto", str(backbone), side=LPIPS_LEAST_SIDE), pairs(2, size=LPIPS_LEAST_SIDE)
    assert lpips(images, targets).isfinite().all()


def test_the_backbone_is_fetched_when_asked_for(backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    file = tmp_path / "hub" / "checkpoints" / ALEXNET
    with pytest.raises(UsageError, match=r"cannot be fetched .*--lpips_weights"):
        download_lpips_backbone(backbone.as_uri())  # whose digest is not that of its name
    assert not file.exists()
    assert "BSD 3-Clause" in capsys.readouterr().out
    digest = hashlib.sha256(backbone.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr("scaled_ig.metrics.images.ALEXNET", f"alexnet-{digest}.pth")
    download_lpips_backbone(backbone.as_uri())
    assert isinstance(load_lpips("download"), Lpips)
    monkeypatch.setattr("scaled_ig.metrics.images.ALEXNET", ALEXNET)
    with pytest.raises(UsageError, match="cannot be fetched"):
        download_lpips_backbone((tmp_path / "nowhere").as_uri())
