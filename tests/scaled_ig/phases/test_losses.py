"""Losses are means over all elements; total variation does not depend on the batch."""

import pytest
import torch

from scaled_ig.phases.losses import latent_loss, reconstruction_loss, relative_latent_loss, rgb_loss, total_variation


@pytest.mark.parametrize("loss", [latent_loss, rgb_loss, reconstruction_loss])
def test_losses_are_mean_squares(loss):
    a, b = torch.rand(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = sum((x - y) ** 2 for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / a.numel()
    assert float(loss(a, b)) == pytest.approx(expected)


def test_small_latents_do_not_make_the_relative_loss_small():
    rendered, latent = torch.rand(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    spread = sum(float(channel.var()) for channel in latent.transpose(0, 1)) / 4
    value = float(latent_loss(rendered, latent)) / spread
    scale = torch.tensor(0.01, dtype=torch.float64, requires_grad=True)
    loss = relative_latent_loss(scale * rendered, scale * latent)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(value)
    assert float(scale.grad) == pytest.approx(0, abs=1e-9)


def test_pictures_that_are_all_the_same_have_a_relative_loss():
    assert float(relative_latent_loss(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 1e-4))) == pytest.approx(0.01)


def test_total_variation():
    planes = torch.rand(2, 3, 4, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    per_scene = []
    for scene in planes:
        total = 0.0
        for plane in scene:
            for row in range(4):
                for column in range(5):
                    if row < 3:
                        total += float((plane[row + 1, column] - plane[row, column]).square().sum())
                    if column < 4:
                        total += float((plane[row, column + 1] - plane[row, column]).square().sum())
        per_scene.append(total / (4 + 5))
    assert float(total_variation(planes[:1], torch.ones(1))) == pytest.approx(per_scene[0])
    of_images = (3 * per_scene[0] + per_scene[1]) / 4  # three views of the first scene, one of the second
    assert float(total_variation(planes, torch.tensor([0.75, 0.25]))) == pytest.approx(of_images)
    assert float(total_variation(planes.repeat(3, 1, 1, 1, 1), torch.full((6,), 1 / 6))) == pytest.approx(
        sum(per_scene) / 2
    )
