"""Cached latents are the encoder's, and their files are used only where nothing has changed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.phases.latent_cache import LatentCache, encoder_digest

DIGESTS = [f"scene {number}" for number in range(3)]
SHARDS = {0: [(0, 3), (1, 3), (0, 1), (1, 0)], 3: [(2, 5), (2, 0)]}


def batch(keys: list[tuple[int, int]]) -> ViewBatch:
    """Every view has an image of its own."""
    images = [
        torch.randint(256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(100 * s + v))
        for s, v in keys
    ]
    scene_index, view_index = torch.tensor(keys).unbind(1)
    return ViewBatch(orbit(len(keys)), scene_index, view_index, torch.stack(images))


class Reader:
    """Reads views two at a time and remembers which."""

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []

    def __call__(self, keys):
        self.read += keys
        return (batch(keys[start : start + 2]) for start in range(0, len(keys), 2))


def filled(folder: Path, scene, shards=SHARDS, digests=DIGESTS, **options) -> tuple[LatentCache, Reader, list[str]]:
    """A cache, what it read, what it said."""
    reader, said = Reader(), []
    cache = LatentCache(folder, scene, say=said.append, **options)
    cache.fill(shards, digests, reader)
    return cache, reader, said


def asked_of(cache: LatentCache, keys) -> torch.Tensor:
    asked = batch(keys)
    return cache(ViewBatch(asked.cameras, asked.scene_index, asked.view_index))


def test_a_view_gets_its_own_latent(tiny_scene, tmp_path):
    scene = tiny_scene()
    cache, _, said = filled(tmp_path, scene)
    assert len(cache) == 6
    assert not said
    keys = [(1, 0), (0, 1), (1, 3), (0, 1), (2, 0)]
    latents = asked_of(cache, keys)
    torch.testing.assert_close(latents, scene.encode(batch(keys).pixels).detach())
    assert not latents.requires_grad


def test_half_precision_halves_the_files_and_says_what_it_costs(tiny_scene, tmp_path):
    scene, keys = tiny_scene(), SHARDS[0]
    exact, _, _ = filled(tmp_path / "whole", scene)
    cache, _, said = filled(tmp_path / "half", scene, precision="float16")
    error = (asked_of(cache, keys) - asked_of(exact, keys)).abs().max()
    assert asked_of(cache, keys).dtype == torch.float32
    assert 0 < error < 1e-3
    assert len(said) == 2
    assert f"largest rounding error {error:.1e}" in said[0]
    sizes = [load_file(tmp_path / name / "shard-0.safetensors")["latents"].nbytes for name in ("whole", "half")]
    assert sizes[0] == 2 * sizes[1]


def test_files_are_found_again_by_any_number_of_ranks(tiny_scene, tmp_path):
    scene = tiny_scene()
    filled(tmp_path, scene, {0: SHARDS[0]})
    _, reader, _ = filled(tmp_path, scene, {3: SHARDS[3]})
    assert reader.read == sorted(SHARDS[3]), "what another rank has made is not made again"
    cache, reader, said = filled(tmp_path, scene)
    assert not reader.read
    assert not said
    keys = SHARDS[0] + SHARDS[3]
    torch.testing.assert_close(asked_of(cache, keys), scene.encode(batch(keys).pixels).detach())


def change_encoder(scene, options):
    next(iter(scene.autoencoder.encoder_parameters())).data[0] += 1e-3


def change_range(scene, options):
    scene.autoencoder.measure_range(torch.randn(4, 5, 8, 8))


def change_settings(scene, options):
    scene.autoencoder.blocks = 7


def change_pack(scene, options):
    options["digests"] = ["another", *DIGESTS[1:]]


def change_precision(scene, options):
    options["precision"] = "float16"


@pytest.mark.parametrize("change", [change_encoder, change_range, change_settings, change_pack, change_precision])
def test_stale_files_are_refused_and_made_again(tiny_scene, tmp_path, change):
    scene, options = tiny_scene(), {}
    filled(tmp_path, scene)
    change(scene, options)
    cache, reader, said = filled(tmp_path, scene, **options)
    assert SHARDS[0][0] in reader.read
    assert "was made of another encoder, other views or settings: encoding its views again" in said[0]
    keys = SHARDS[0]
    torch.testing.assert_close(asked_of(cache, keys), scene.encode(batch(keys).pixels).detach(), rtol=0, atol=1e-3)


def test_the_decoder_does_not_matter(tiny_scene):
    scene = tiny_scene()
    digest = encoder_digest(scene)
    for parameter in scene.autoencoder.decoder_parameters():
        parameter.data += 1
    assert encoder_digest(scene) == digest


@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
def test_damaged_files_are_made_again(tiny_scene, tmp_path, place):
    scene = tiny_scene()
    filled(tmp_path, scene)
    path = tmp_path / "shard-0.safetensors"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)
    cache, reader, said = filled(tmp_path, scene)
    assert reader.read == sorted(SHARDS[0])
    assert "shard-0.safetensors" in said[0]
    torch.testing.assert_close(asked_of(cache, SHARDS[0]), scene.encode(batch(SHARDS[0]).pixels).detach())


def test_a_view_that_was_not_encoded_is_an_error(tiny_scene, tmp_path):
    cache, _, _ = filled(tmp_path, tiny_scene())
    with pytest.raises(KeyError, match=r"\(0, 2\)"):
        asked_of(cache, [(0, 1), (0, 2)])


def test_a_folder_that_cannot_be_written_is_named(tiny_scene, tmp_path):
    (tmp_path / "latents").write_text("a file in the way")
    with pytest.raises(UsageError, match=r"latents/shard-0\.safetensors cannot be written"):
        filled(tmp_path / "latents", tiny_scene())
