"""Cached latents are the encoder's."""

import pytest
import torch

from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import orbit
from scaled_ig.latent_cache import LatentCache


def batch(keys: list[tuple[int, int]]) -> ViewBatch:
    """Every view has an image of its own."""
    images = [
        torch.randint(256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(100 * s + v))
        for s, v in keys
    ]
    scene_index, view_index = torch.tensor(keys).unbind(1)
    return ViewBatch(orbit(len(keys)), scene_index, view_index, torch.stack(images))


def test_a_view_gets_its_own_latent(tiny_scene):
    scene = tiny_scene()
    cache = LatentCache(scene, [batch([(0, 3), (1, 3), (0, 1)]), batch([(2, 0), (1, 0)])])
    assert len(cache) == 5
    asked = batch([(1, 0), (0, 1), (1, 3), (0, 1)])
    latents = cache(ViewBatch(asked.cameras, asked.scene_index, asked.view_index))
    torch.testing.assert_close(latents, scene.encode(asked.pixels).detach())
    assert not latents.requires_grad


def test_half_precision_halves_the_memory_and_gives_float32(tiny_scene):
    scene, own = tiny_scene(), batch([(0, 0), (0, 1)])
    cache = LatentCache(scene, [own], torch.float16)
    assert cache(own).dtype == torch.float32
    torch.testing.assert_close(cache(own), scene.encode(own.pixels).detach(), rtol=1e-3, atol=1e-3)


def test_a_view_that_was_not_encoded_is_an_error(tiny_scene):
    with pytest.raises(KeyError, match=r"\(0, 2\)"):
        LatentCache(tiny_scene(), [batch([(0, 0)])])(batch([(0, 2)]))
