"""The whole model on its own, without Lightning."""

import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder, SmallAutoencoder
from scaled_ig.cameras import orbit
from scaled_ig.metrics.costs import bytes_per_scene, shared_bytes
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import MicroMacro, TriPlanes
from scaled_ig.scene_model import SceneModel, to_image


@torch.no_grad()
def test_pixels_of_a_latent_image_stand_where_their_rays_do(tiny_scene):
    scene = tiny_scene()
    cameras, index = orbit(3), torch.tensor([2, 0, 2])
    latent = scene.render_latent(cameras, index)
    assert latent.shape == (3, 5, 8, 8)
    pixels = torch.tensor([[3 * 8 + 6, 7 * 8]]).expand(3, -1)  # rows 3 and 7, columns 6 and 0
    some = scene.render(cameras, index, pixels=pixels).pixels
    torch.testing.assert_close(latent[:, :, 3, 6], some[:, 0])
    torch.testing.assert_close(latent[:, :, 7, 0], some[:, 1])
    assert scene.render_image(cameras, index).shape == (3, 3, 32, 32)
    assert scene.render_image(cameras, index).abs().max() <= 1


def test_to_image_reads_row_by_row():
    image = to_image(torch.arange(9.0).view(1, 9, 1), (3, 3))
    assert image[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@torch.no_grad()
def test_the_background_is_the_encoding_of_white(tiny_scene):
    scene = tiny_scene()
    assert torch.equal(scene.background, torch.ones(5))
    scene.measure_background()
    own = scene.autoencoder.encode(torch.ones(1, 3, 32, 32))
    expected = (own - scene.autoencoder.centre) / scene.autoencoder.half_range
    torch.testing.assert_close(scene.background, expected[0].mean((1, 2)))
    assert (scene.background - 1).abs().max() > 0.1


@torch.no_grad()
def test_pixels_need_no_decoder(tiny_scene):
    scene = tiny_scene(rgb=True)
    scene.measure_background()
    assert torch.equal(scene.background, torch.ones(3)), "white"
    assert scene.is_rgb
    assert not tiny_scene().is_rgb
    cameras, index = orbit(2), torch.tensor([0, 1])
    assert torch.equal(scene.render_image(cameras, index), scene.render_latent(cameras, index).clamp(-1, 1))


def test_shared_state_is_all_but_the_scenes(tiny_scene):
    scene = tiny_scene()
    shared, every = scene.shared_state(), scene.state_dict()
    assert set(every) - set(shared) == {"representation.micro.weight", "representation.mixing.weight"}
    assert {"representation.bases", "background"} <= set(shared)


def test_heads_of_scenes_start_from_the_same_weights_and_none_is_shared(tiny_scene):
    scene, usual = tiny_scene(own_heads=True), tiny_scene()
    row = usual.renderer.head.row
    assert torch.equal(scene.representation.head.weight.detach(), row.expand(4, -1))
    assert list(scene.representation.scene_tables()) == ["micro", "mixing", "head"]
    assert set(scene.shared_state()) == {name for name in usual.shared_state() if not name.startswith("renderer.head")}
    assert bytes_per_scene(scene) == bytes_per_scene(usual) | {"head": 4 * len(row)}
    assert shared_bytes(scene) == shared_bytes(usual) | {"head": 0}
    cameras, index = orbit(2), torch.tensor([2, 0])
    own, shared = (made.render(cameras, index).pixels.detach() for made in (scene, usual))
    torch.testing.assert_close(own, shared)


def test_scenes_that_were_there_before_the_model_have_heads():
    representation = TriPlanes(2, plane_resolution=4)
    representation.new_scenes(3)
    scene = SceneModel(representation, IdentityAutoencoder(), InsideBall(4), resolution=8, own_heads=True)
    assert len(scene.representation.head.weight) == 3


def test_the_global_generator_is_left_alone():
    autoencoder = SmallAutoencoder(4, 5, width=8, blocks=1)
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        representation = MicroMacro(2, 0, plane_resolution=4)
        representation.new_scenes(3)
        heads.append(SceneModel(representation, autoencoder, InsideBall(), resolution=32, seed=9).renderer.head)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0].hidden.weight, heads[1].hidden.weight)


def test_a_resolution_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="resolution 30 is no multiple of the autoencoder's 4: give 32"):
        SceneModel(MicroMacro(2, 0, plane_resolution=4), SmallAutoencoder(4, 5), InsideBall(), resolution=30)
