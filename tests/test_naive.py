"""The plain restatement that benchmarks beat computes what the renderer does."""

import pytest
import torch

from benchmarks.naive import NaiveScenes, channels_first
from scaled_ig.cameras import orbit
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.renderer import Jitter
from scaled_ig.rendering.sampling import FullRay
from scaled_ig.representations import MicroMacro
from scaled_ig.scene_model import SceneModel


class Latents(torch.nn.Module):
    latent_channels, downsampling, image_multiple = 4, 8, 8


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-4)])
def test_loss_and_gradients_are_those_of_the_renderer(dtype, tolerance):
    scenes = MicroMacro(3, 5, num_bases=4, plane_resolution=12, plane_std=1.0, mixing_std=0.5)
    scenes.new_scenes(5)
    model = SceneModel(scenes, Latents(), FullRay(), "reference", resolution=40).to(dtype)
    naive = NaiveScenes(model).to(dtype)
    generator = torch.Generator().manual_seed(0)
    cameras, index, noise = orbit(4).to(dtype), torch.tensor([3, 0, 3, 4]), CounterNoise(2)
    target = 2 * torch.rand(4, 25, 4, generator=generator, dtype=dtype) - 1
    ids = torch.arange(4)[:, None] << 20 | torch.arange(25)
    u = noise.uniform(ids, 48, 0).to(dtype), noise.uniform(ids, 48, 1).to(dtype)
    ours = model.rendering_loss(cameras, index, target, Jitter(noise, ids))
    theirs = naive.loss(index, cameras.rays(5), u, target)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0)
    ours.backward()
    theirs.backward()
    head = model.renderer.head
    pairs = {
        "micro": (channels_first(scenes.micro.weight.grad.to_dense()), naive.micro.grad),
        "mixing": (scenes.mixing.weight.grad.to_dense(), naive.mixing.grad),
        "bases": (channels_first(scenes.bases.grad), naive.bases.grad),
        "hidden": (head.hidden.weight.grad, naive.hidden.weight.grad),
        "out": (head.out.weight.grad, naive.out.weight.grad),
    }
    for name, (own, other) in pairs.items():
        assert other.abs().max() > 0
        assert (own - other).abs().max() <= tolerance * other.abs().max(), name
