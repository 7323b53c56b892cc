"""What decoding costs, in counts that no machine changes, and what bf16 and torch.compile leave as it is."""

import copy
import pickle

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.decoder import SMALL_CHANNELS, STABLE_DIFFUSION
from scaled_ig.autoencoders import Autoencoder, KLAutoencoder, SmallAutoencoder
from scaled_ig.batch import to_unit_range
from scaled_ig.cameras import orbit
from scaled_ig.metrics.images import psnr
from tests.conftest import see_balls
from tests.scaled_ig.autoencoders.test_kl import CONFIG


def flops(decode, latents: torch.Tensor) -> int:
    """Of decoding and going back to the latents."""
    with FlopCounterMode(display=False) as counter:
        decode(latents.requires_grad_()).sum().backward()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def stable_diffusion() -> KLAutoencoder:
    """Its architecture, without memory."""
    pytest.importorskip("diffusers")
    with torch.device("meta"):
        return KLAutoencoder(config=STABLE_DIFFUSION, small_decoder_channels=SMALL_CHANNELS)


def test_a_frozen_decoder_computes_the_gradient_of_its_input_alone(stable_diffusion):
    latents = torch.empty(1, 4, 16, 16, device="meta")
    trained = flops(stable_diffusion.requires_grad_(True).decode, latents)
    frozen = flops(stable_diffusion.requires_grad_(False).decode, latents)
    assert trained == pytest.approx(3 * 2 * 77.6e9, rel=0.01), "77.6 GMAC forward and for each gradient"
    assert frozen <= 0.667 * trained + 1e8, "attention has products without weights"
    small = flops(stable_diffusion.decode_small, latents)
    assert small < frozen / 70


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_lie_channels_last_and_bf16_stays_inside(bf16):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    for autoencoder in (KLAutoencoder(config=CONFIG).eval(), SmallAutoencoder(4, 5, width=8, blocks=1)):
        seen: list[torch.Tensor] = []
        for module in autoencoder.modules():
            if isinstance(module, torch.nn.Conv2d):
                assert module.weight.is_contiguous(memory_format=torch.channels_last)
                module.register_forward_hook(lambda module, given, made, seen=seen: seen.append(made))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            latents = autoencoder.encode(2 * torch.rand(2, 3, 32, 32) - 1)
            normalised = autoencoder.normalise(latents)
            again = autoencoder.denormalise(normalised)
            images = autoencoder.decode(again)
        assert {tensor.dtype for tensor in seen} == {torch.bfloat16 if bf16 else torch.float32}
        assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in seen)
        assert {tensor.dtype for tensor in (latents, normalised, again, images)} == {torch.float32}
        torch.testing.assert_close(again, latents, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_images_by_bf16_are_as_good():
    places, colours = torch.rand(4, 3, generator=torch.Generator().manual_seed(1)) - 0.5, torch.eye(4, 3)
    images = 2 * see_balls(orbit(6), 64, places, [0.3] * 4, colours) - 1
    autoencoder = SmallAutoencoder(4, 8, width=8, blocks=1)
    autoencoder.start_from_pca(images)
    quality = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            decoded = autoencoder.decode(autoencoder.encode(images))
        quality.append(float(psnr(to_unit_range(decoded), to_unit_range(images)).mean()))
    assert quality[0] > 20
    assert quality[1] == pytest.approx(quality[0], abs=0.05)
    assert quality[1] != quality[0]


def passed(autoencoder: Autoencoder, images: torch.Tensor) -> list[torch.Tensor]:
    """Latents, images of both decoders, and all gradients."""
    autoencoder.zero_grad()
    latents = autoencoder.encode(images)
    made = [latents, autoencoder.decode(latents), autoencoder.decode_small(autoencoder.normalise(latents))]
    torch.stack([tensor.square().mean() for tensor in made]).sum().backward()
    return [*made, *(parameter.grad for parameter in autoencoder.parameters())]


@pytest.mark.parametrize("kind", [KLAutoencoder, SmallAutoencoder])
def test_compiled_networks_do_the_same_under_the_same_names(kind):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    tiny = {"block_out_channels": [8], "down_block_types": ["DownEncoderBlock2D"]}
    tiny |= {"up_block_types": ["UpDecoderBlock2D"], "mid_block_add_attention": False}
    options = {"config": CONFIG | tiny} if kind is KLAutoencoder else {"width": 8, "blocks": 1}
    autoencoder = kind(small_decoder_channels=8, **options)
    compiled, graphs = copy.deepcopy(autoencoder), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled.compile(backend=backend)
    images = 2 * torch.rand(2, 3, 8, 8) - 1
    for ours, theirs in zip(passed(compiled, images), passed(autoencoder, images), strict=True):
        torch.testing.assert_close(ours, theirs)
    convolutions = [node for graph in graphs for node in graph.graph.nodes if "conv" in str(node.target)]
    assert len(convolutions) >= sum(isinstance(module, torch.nn.Conv2d) for module in autoencoder.modules())
    assert list(compiled.state_dict()) == list(autoencoder.state_dict())
    assert list(pickle.loads(pickle.dumps(compiled)).state_dict()) == list(autoencoder.state_dict())
